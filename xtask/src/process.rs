//! Running other programs: every child is known to the runner and none outlives it.
//!
//! [`Running`] is a child that is ended when it is dropped, when xtask gets SIGINT, SIGTERM or SIGHUP, and (by the
//! kernel's parent-death signal) when xtask itself is killed. [`capture`] runs a program to its end and turns a
//! failure into an error that says what was run, what it printed and what to do next. Everything in xtask that
//! starts a program goes through this file.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal};

/// What must be ended and removed before xtask may end.
#[derive(Default)]
struct Owned {
    /// Child process number -> whether it leads a process group of its own.
    children: BTreeMap<u32, bool>,
    scratch: Vec<PathBuf>,
}

static OWNED: LazyLock<Mutex<Owned>> = LazyLock::new(Mutex::default);

fn owned() -> MutexGuard<'static, Owned> {
    OWNED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread that ends every child when xtask is told to end. Called once, first thing in `main`.
pub fn end_children_on_signals() -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])
        .context("could not install the handlers for SIGINT, SIGTERM and SIGHUP")?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if signal != SIGINT || !INTERRUPT_IS_THE_CHILDS.load(Ordering::Relaxed) {
                end_everything();
                std::process::exit(128 + signal);
            }
        }
    });
    Ok(())
}

/// From now on SIGINT does not end xtask: the program in the foreground has a use of its own for it.
pub fn leave_interrupt_to_children() {
    INTERRUPT_IS_THE_CHILDS.store(true, Ordering::Relaxed);
}

static INTERRUPT_IS_THE_CHILDS: AtomicBool = AtomicBool::new(false);

/// Ends every child, waits a moment for them, and removes the scratch folders.
fn end_everything() {
    let owned = owned();
    for (&pid, &leads_group) in &owned.children {
        send(pid, leads_group, Signal::TERM);
    }
    if !owned.children.is_empty() {
        std::thread::sleep(Duration::from_millis(300));
    }
    for (&pid, &leads_group) in owned.children.iter().filter(|(_, leads_group)| **leads_group) {
        send(pid, leads_group, Signal::KILL);
    }
    for folder in &owned.scratch {
        let _ = std::fs::remove_dir_all(folder);
    }
}

fn send(pid: u32, leads_group: bool, signal: Signal) {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return;
    };
    // A child that has just ended is no error: the aim is reached.
    let _ = if leads_group {
        rustix::process::kill_process_group(pid, signal)
    } else {
        rustix::process::kill_process(pid, signal)
    };
}

/// A folder for sockets, images and logs of one run, short enough for a UNIX socket's path. Removed when dropped,
/// and when a signal ends xtask.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// Makes a new, empty folder.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("dragonet-").tempdir().context(
            "could not make a scratch folder; is the temporary folder (TMPDIR) writable and not full?",
        )?;
        owned().scratch.push(folder.path().to_owned());
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        owned().scratch.retain(|path| path != self.0.path());
    }
}

/// A child process that does not outlive this value.
pub struct Running {
    /// The child, for its pipes.
    pub child: Child,
    leads_group: bool,
    status: Option<ExitStatus>,
}

impl Running {
    /// Starts `command`. With `own_group` it leads a new process group and the whole group is ended with it (for
    /// programs in the background); without, it stays in the terminal's foreground group and may read from it.
    pub fn start(command: &mut Command, own_group: bool) -> Result<Self> {
        if own_group {
            command.process_group(0);
        }
        let mut owned = owned();
        let child = command.spawn().with_context(|| {
            format!(
                "could not start a program\n  ran: {}\n  what to do: see whether it is installed; `cargo xtask setup` installs \
                 what is needed",
                shown(command)
            )
        })?;
        owned.children.insert(child.id(), own_group);
        Ok(Self {
            child,
            leads_group: own_group,
            status: None,
        })
    }

    /// The exit status, if the child has ended.
    pub fn poll(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            let mut owned = owned();
            self.status = self
                .child
                .try_wait()
                .context("could not wait for a child process")?;
            if self.status.is_some() {
                owned.children.remove(&self.child.id());
            }
        }
        Ok(self.status)
    }

    /// Waits for the end of the child, for at most `limit`. `None`: it still runs.
    pub fn wait(&mut self, limit: Option<Duration>) -> Result<Option<ExitStatus>> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = self.poll()? {
                return Ok(Some(status));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Sends SIGINT (Bochs' debugger takes it as "stop").
    pub fn interrupt(&self) {
        if self.status.is_none() {
            send(self.child.id(), self.leads_group, Signal::INT);
        }
    }

    /// Ends the child: SIGTERM, and after two seconds SIGKILL.
    pub fn end(&mut self) {
        if matches!(self.poll(), Ok(Some(_))) {
            return;
        }
        send(self.child.id(), self.leads_group, Signal::TERM);
        if matches!(self.wait(Some(Duration::from_secs(2))), Ok(Some(_))) {
            return;
        }
        send(self.child.id(), self.leads_group, Signal::KILL);
        let _ = self.wait(Some(Duration::from_secs(5)));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
        owned().children.remove(&self.child.id());
    }
}

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
    let mut running = Running::start(command, false)?;
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
    fn a_dropped_child_is_gone_with_its_group() {
        let mut command = command("sh");
        command.args(["-c", "sleep 1000 & wait"]).stdin(Stdio::null());
        let running = Running::start(&mut command, true).unwrap();
        let group = Pid::from_raw(i32::try_from(running.child.id()).unwrap()).unwrap();
        drop(running);
        let deadline = Instant::now() + Duration::from_secs(5);
        while rustix::process::test_kill_process_group(group).is_ok() {
            assert!(Instant::now() < deadline, "the group outlived its guard");
            std::thread::sleep(Duration::from_millis(10));
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
