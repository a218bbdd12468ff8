//! Running other programs: every child is known to the runner and none outlives it.
//!
//! [`Running`] is a child that is ended when it is dropped, when xtask gets SIGINT or SIGTERM, and (by the
//! kernel's parent-death signal) when xtask itself is killed. [`capture`] runs a program to its end and turns a
//! failure into an error that says what was run, what it printed and what to do next. Everything in xtask that
//! starts a program goes through this folder; nothing outside xtask uses it.

mod children;

use std::ffi::OsStr;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

pub use children::{Running, Scratch, end_children_on_signals, leave_interrupt_to_children};

/// A command for `program` that gets SIGKILL when xtask dies in a way no handler sees (where `setpriv` exists to
/// arrange that).
pub fn command(program: impl AsRef<OsStr>) -> Command {
    match find_program("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(BOUND).arg(program);
            command
        }
        None => Command::new(program),
    }
}

const BOUND: [&str; 3] = ["--pdeathsig", "KILL", "--"];

/// What a captured program left behind.
pub struct Captured {
    /// How it ended.
    pub status: ExitStatus,
    /// Everything it wrote to its standard output, then everything it wrote to its standard error.
    pub output: String,
}

/// Runs `command` with no input, to its end or to `limit`, and hands every line it prints to `each_line` as it comes.
/// The status is not judged. A program that does not end in time is ended, and that is an error.
pub fn observe(
    command: &mut Command,
    limit: Option<Duration>,
    mut each_line: impl FnMut(&str),
) -> Result<Captured> {
    let text = shown(command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Nothing here needs the terminal, and a group can be ended as a whole.
    let mut running = Running::start(command, true)?;
    let (sender, receiver) = std::sync::mpsc::channel::<String>();
    let out = running
        .child
        .stdout
        .take()
        .map(|pipe| read_lines(pipe, sender.clone()));
    let err = running.child.stderr.take().map(|pipe| read_lines(pipe, sender));
    let deadline = limit.map(|limit| Instant::now() + limit);
    loop {
        use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
        match receiver.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => each_line(&line),
            Err(Timeout) => {}
            Err(Disconnected) => break,
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            running.end();
            return Err(anyhow!(
                "a program took longer than {:?} and was ended\n  ran: {text}",
                limit.unwrap_or_default()
            ));
        }
    }
    let status = running.wait(None)?.context("a child process without a status")?;
    let mut output = String::new();
    for reader in [out, err].into_iter().flatten() {
        output.push_str(&reader.join().unwrap_or_default());
    }
    Ok(Captured { status, output })
}

/// Runs `command` like [`observe`]; anything but success is an error that says what failed (`what`, as in "build the
/// kernel"), what was run, what it printed, and what to do (`advice`).
pub fn capture(
    command: &mut Command,
    what: &str,
    advice: &str,
    each_line: impl FnMut(&str),
) -> Result<String> {
    let text = shown(command);
    let captured = observe(command, None, each_line).with_context(|| format!("could not {what}"))?;
    if captured.status.success() {
        return Ok(captured.output);
    }
    Err(failure(
        what,
        &text,
        &captured.status.to_string(),
        &captured.output,
        advice,
    ))
}

/// The error every failed program is reported by.
pub fn failure(what: &str, ran: &str, ended: &str, printed: &str, advice: &str) -> anyhow::Error {
    let printed = match printed.trim_end() {
        "" => "    (nothing)".to_owned(),
        text => text
            .lines()
            .map(|line| format!("    {line}\n"))
            .collect::<String>(),
    };
    anyhow!(
        "could not {what}\n  ran: {ran}\n  it ended with: {ended}\n  it printed:\n{}\n  what to do: {advice}",
        printed.trim_end_matches('\n')
    )
}

fn read_lines(
    pipe: impl Read + Send + 'static,
    lines: std::sync::mpsc::Sender<String>,
) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        use std::io::BufRead;
        let mut all = String::new();
        let mut reader = std::io::BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(length) if length > 0) {
            let text = String::from_utf8_lossy(&line);
            all.push_str(&text);
            let _ = lines.send(text.trim_end().to_owned());
            line.clear();
        }
        all
    })
}

/// The path of `name` on the PATH, or in the folders of the system's administration tools.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let administration = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(administration)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// The command as one would type it.
pub fn shown(command: &Command) -> String {
    let quote = |word: &OsStr| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    let variables = command.get_envs().filter_map(|(name, value)| {
        value.map(|value| format!("{}={}", name.to_string_lossy(), quote(value)))
    });
    let bound = command.get_args().take(BOUND.len()).eq(BOUND);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.skip(if bound { BOUND.len() + 1 } else { 0 }).map(quote);
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let mut command = command("echo");
        command.args(["plain", "two words", "it's"]).env("NAME", "a b");
        assert_eq!(shown(&command), r"NAME='a b' echo plain 'two words' 'it'\''s'");
    }

    #[test]
    fn a_failure_says_what_ran_what_it_printed_and_what_to_do() {
        let mut command = command("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let error = capture(&mut command, "do it", "do something else", |_| {})
            .unwrap_err()
            .to_string();
        for part in [
            "could not do it",
            "ran: sh -c",
            "exit status: 3",
            "    out",
            "    err",
            "what to do: do something else",
        ] {
            assert!(error.contains(part), "{part:?} is missing in {error}");
        }
    }

    #[test]
    fn a_program_that_takes_too_long_is_ended() {
        let mut command = command("sleep");
        command.arg("1000");
        let begin = Instant::now();
        assert!(observe(&mut command, Some(Duration::from_millis(200)), |_| {}).is_err());
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
}
