//! The whole vkernel over its Linux host, with the real Linux programs: one process per test, real threads, real traps.
//!
//! The programs are built first, into the folder that xtask uses, so that they are built once.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// A run that takes longer hangs.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// The root image with every Linux program.
static IMAGE: LazyLock<PathBuf> = LazyLock::new(|| {
    let vkernel = Path::new(env!("CARGO_BIN_EXE_dragonet-vkernel"));
    let target = vkernel
        .ancestors()
        .nth(2)
        .expect("the target folder is above")
        .join("linux");
    let triple = "x86_64-unknown-linux-gnu";
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--package",
            "dragonet-linux-programs",
            "--release",
            "--target",
            triple,
        ])
        .arg("--target-dir")
        .arg(&target)
        .env(
            "RUSTFLAGS",
            "-C target-feature=+crt-static -C relocation-model=static",
        )
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "the Linux programs cannot be built"
    );

    let mut archive = tar::Builder::new(Vec::new());
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../user/linux/src/bin");
    for source in std::fs::read_dir(sources).expect("the programs' sources") {
        let path = source.expect("a directory entry").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
        let program = target.join(triple).join("release").join(name);
        let mut header = tar::Header::new_ustar();
        let bytes = std::fs::read(&program).expect("a program that was built");
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        archive
            .append_data(&mut header, format!("bin/{name}"), bytes.as_slice())
            .expect("archive");
    }
    let image = target.join("hosted-test.tar");
    std::fs::write(&image, archive.into_inner().expect("archive")).expect("the image can be written");
    image
});

/// Runs a vkernel; returns its output and exit status.
fn run_with_input(options: &[&str], command: &str, input: &str) -> (String, i32) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dragonet-vkernel"))
        .arg("-r")
        .arg(&*IMAGE)
        .args(options)
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the vkernel can be started");
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let mut output = child.stdout.take().expect("a pipe");
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = output.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let begin = Instant::now();
    let status = loop {
        match child.try_wait().expect("a child of ours") {
            Some(status) => break status.code().unwrap_or(-1),
            None if begin.elapsed() > TIME_LIMIT => {
                let _ = child.kill();
                let _ = child.wait();
                panic!(
                    "'{command}' hangs; so far it printed:\n{}",
                    reader.join().expect("the reader")
                );
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    (reader.join().expect("the reader"), status)
}

fn run(options: &[&str], command: &str) -> (String, i32) {
    run_with_input(options, command, "")
}

/// Runs a program that checks itself.
fn succeeds(options: &[&str], command: &str) {
    let (output, status) = run(options, command);
    assert!(
        status == 0 && !output.contains("FAILED"),
        "'{command}' {options:?}: status {status}\n{output}"
    );
}

#[test]
fn hello_says_its_arguments_and_cpus() {
    for cpus in 1..=4 {
        let (output, status) = run(&["-n", &cpus.to_string()], "/bin/hello 'from a'  vkernel");
        assert_eq!(status, 0, "{output}");
        assert!(output.starts_with("hello: from a vkernel\n"), "{output}");
        assert_eq!(output.matches(" on cpu ").count(), 5, "{output}");
        for line in output.lines().skip(1) {
            let cpu: usize = line
                .rsplit(' ')
                .next()
                .and_then(|word| word.parse().ok())
                .expect("a number");
            assert!(cpu < cpus, "{line}");
        }
    }
}

#[test]
fn threads_share_and_wait() {
    succeeds(&["-n", "1"], "/bin/threads 5 300");
    succeeds(&["-n", "4"], "/bin/threads 9 300");
}

#[test]
fn processes_fork_and_execute() {
    succeeds(&["-n", "1"], "/bin/fork-exec 4");
    succeeds(&["-n", "3"], "/bin/fork-exec 10");
}

#[test]
fn signals_are_delivered() {
    succeeds(&["-n", "1"], "/bin/signals");
    succeeds(&["-n", "3"], "/bin/signals");
}

#[test]
fn memory_is_mapped_shared_and_given_back() {
    succeeds(&["-m", "32M"], "/bin/memory 16");
}

#[test]
fn too_little_memory_ends_the_program_and_nothing_else() {
    let (output, status) = run(&["-m", "8M"], "/bin/memory 64");
    assert_eq!(status, 128 + 9, "{output}");
    assert!(output.contains("out of memory"), "{output}");
}

#[test]
fn bad_calls_get_their_errors() {
    succeeds(&[], "/bin/syscalls-bad");
}

#[test]
fn random_calls_harm_nobody_else() {
    for seed in 1..=4 {
        let (output, status) = run(&["-n", "3", "-m", "32M"], &format!("/bin/fuzz {seed} 4 4"));
        assert!(
            status == 0 && output.contains("children ended"),
            "seed {seed}: status {status}\n{output}"
        );
    }
}

#[test]
fn a_vkernel_with_nothing_to_do_sleeps() {
    let (output, status) = run(&["-v", "-n", "4"], "/bin/sleep 0.5");
    assert_eq!(status, 0);
    // Who looks around again and again goes to sleep again and again.
    let idles = output.lines().filter_map(|line| {
        line.strip_suffix(" idle")?
            .rsplit(' ')
            .next()?
            .parse::<u64>()
            .ok()
    });
    assert!(idles.sum::<u64>() < 20, "{output}");
}

#[test]
fn misbehaviour_ends_the_program_alone() {
    succeeds(&["-n", "3"], "/bin/crash all");
    for (kind, signal) in [
        ("null", 11),
        ("undefined", 4),
        ("divide", 8),
        ("breakpoint", 5),
        ("halt", 11),
        ("abort", 6),
    ] {
        let (output, status) = run(&[], &format!("/bin/crash {kind}"));
        assert_eq!(status, 128 + signal, "{kind}: {output}");
    }
    let (output, status) = run(&[], "/bin/crash stack-overflow");
    assert_eq!(status, 128 + 6, "{output}");
    assert!(output.contains("has overflowed its stack"), "{output}");
}

#[test]
fn more_threads_than_cpus_make_progress() {
    // A thread has many slices to do before its end, so that a busy machine, which stretches some slices and leaves
    // little in others, cannot make a fair turn look like a wait for the end of another thread.
    let (output, status) = run(&["-n", "1"], "/bin/work 60 3");
    assert_eq!(status, 0);
    let first_end = output.find("60 of 60").expect("a thread ends");
    for thread in 0..3 {
        let begins = output
            .find(&format!("thread {thread}: 1 of 60"))
            .expect("each thread begins");
        assert!(
            begins < first_end,
            "thread {thread} waited for another to end:\n{output}"
        );
    }
}

#[test]
fn input_is_read_from_the_console() {
    let (output, status) = run_with_input(&[], "/bin/reverse", "abc\nhello world\nend\nnever\n");
    assert_eq!((output.as_str(), status), ("cba\ndlrow olleh\n", 0));
    let (output, status) = run_with_input(&[], "/bin/reverse", "no end");
    assert_eq!((output.as_str(), status), ("dne on\n", 0));
}

#[test]
fn what_cannot_be_run_is_said() {
    for (command, part) in [
        ("/bin/nothing", "ENOENT"),
        ("/bin", "not a file"),
        ("/dev/null", "not a file"),
    ] {
        let (output, status) = run(&[], command);
        assert_eq!(status, 1);
        assert!(output.contains(part), "{output}");
    }
    let (output, status) = run(&["-n", "0"], "/bin/hello");
    assert_eq!(status, 2);
    assert!(output.contains("-n 0"), "{output}");
    let (output, status) = run(&["-r", "no/such.tar"], "/bin/hello");
    assert_eq!(status, 1);
    assert!(output.contains("no/such.tar"), "{output}");
}

#[test]
fn verbose_names_cpus_and_counts() {
    let (output, status) = run(&["-v", "-n", "3"], "/bin/hello");
    assert_eq!(status, 0);
    for part in [
        "soft mode, 3 CPUs",
        "cpu0 is up (master)",
        "cpu2 is up (slave)",
        "page faults",
        "frames in use",
    ] {
        assert!(output.contains(part), "{part}:\n{output}");
    }
}
