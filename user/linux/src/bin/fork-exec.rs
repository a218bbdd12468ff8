//! Processes: fork with memory that is copied on write, pipes, exec, wait, signals, vfork by way of `std::process::Command`.
//!
//! `fork-exec [ROUNDS]`, 20 by default. Status 0 if everything came out right.

use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Stdio};

fn check(what: &str, good: bool) -> bool {
    println!("fork-exec: {what}: {}", if good { "ok" } else { "FAILED" });
    good
}

/// Runs `body` in a child and returns its wait status.
fn in_child(body: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the program has one thread.
    match unsafe { libc::fork() } {
        0 => {
            let status = body();
            // SAFETY: ends the child at once, with no destructor of the parent's run twice.
            unsafe { libc::_exit(status) }
        }
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        child => wait(child),
    }
}

fn wait(child: i32) -> i32 {
    let mut status = 0;
    // SAFETY: `status` is ours.
    let waited = unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(waited, child, "waitpid: {}", std::io::Error::last_os_error());
    status
}

fn pipe() -> (std::fs::File, std::fs::File) {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors, which are new and so nobody else's.
    let (reader, writer) = unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    };
    (reader.into(), writer.into())
}

/// Parent and child change the same big buffer; neither may see the other's changes.
fn copy_on_write(rounds: u32) -> bool {
    let mut data: Vec<u32> = (0..200_000).collect();
    let mut good = true;
    for round in 0..rounds {
        let status = in_child(|| {
            let clean = data
                .iter()
                .enumerate()
                .all(|(index, value)| *value == index as u32 + round);
            data.iter_mut().for_each(|value| *value ^= 0xffff_ffff);
            let changed = data
                .iter()
                .enumerate()
                .all(|(index, value)| !*value == index as u32 + round);
            i32::from(!(clean && changed))
        });
        good &= status == 0;
        data.iter_mut().for_each(|value| *value += 1);
    }
    good
}

/// A line of children, each the child of the one before.
fn descend(depth: u32) -> i32 {
    if depth == 0 {
        7
    } else {
        libc::WEXITSTATUS(in_child(|| descend(depth - 1)))
    }
}

fn many_at_once(count: usize) -> bool {
    let children: Vec<i32> = (0..count)
        .map(|index| {
            // SAFETY: the program has one thread.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(index as i32) }
            }
            child
        })
        .collect();
    children
        .into_iter()
        .enumerate()
        .all(|(index, child)| libc::WEXITSTATUS(wait(child)) == index as i32)
}

fn through_a_pipe(bytes: usize) -> bool {
    let (mut reader, mut writer) = pipe();
    // SAFETY: the program has one thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop(reader);
        let data: Vec<u8> = (0..bytes).map(|index| (index % 251) as u8).collect();
        let written = writer.write_all(&data).is_ok();
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(!written)) }
    }
    drop(writer);
    let mut data = Vec::new();
    reader.read_to_end(&mut data).expect("read from a pipe");
    let right = data.len() == bytes
        && data
            .iter()
            .enumerate()
            .all(|(index, byte)| *byte == (index % 251) as u8);
    right && wait(child) == 0
}

fn killed_child() -> bool {
    // SAFETY: the program has one thread; the child sleeps until it is killed.
    let child = unsafe { libc::fork() };
    if child == 0 {
        loop {
            std::thread::sleep(std::time::Duration::from_secs(1000));
        }
    }
    // SAFETY: no memory is involved.
    unsafe { libc::kill(child, libc::SIGTERM) };
    let status = wait(child);
    libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGTERM
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|word| word == "echo") {
        println!("{}", arguments[2..].join(" "));
        return ExitCode::from(5);
    }
    let rounds = arguments
        .get(1)
        .map_or(20, |word| word.parse().expect("a number"));
    let program = std::env::current_exe().expect("the program's own path");

    let mut good = check("copy on write", copy_on_write(rounds));
    good &= check("a line of children", descend(10) == 7);
    good &= check("many children at once", many_at_once(30));
    good &= check("a megabyte through a pipe", through_a_pipe(1 << 20));
    good &= check("a killed child", killed_child());

    let output = (0..rounds).all(|round| {
        let output = Command::new(&program)
            .args(["echo", "round", &round.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .output()
            .expect("a process is started");
        output.status.code() == Some(5) && output.stdout == format!("round {round}\n").as_bytes()
    });
    good &= check("output of executed programs", output);

    let missing = Command::new("/bin/no-such-program").status();
    good &= check(
        "a missing program",
        missing.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound),
    );

    let status = Command::new(&program)
        .arg("echo")
        .env_clear()
        .stdout(Stdio::null())
        .status();
    good &= check(
        "status of a program",
        status.is_ok_and(|status| status.code() == Some(5) && status.signal().is_none()),
    );
    ExitCode::from(u8::from(!good))
}
