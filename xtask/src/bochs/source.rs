//! Our Bochs, built from its source.
//!
//! The packaged Bochs has its debugger compiled in, and then `quantum` means nothing. This one has no debugger, keeps
//! every turn of a CPU to that length (`bochs.patch`), and is several times as fast. The source is fetched once, by
//! apt's own means from the mirror that apt uses, and is checked against [`SHA256`]; what is built stays in
//! `target/tools`, under a name that changes with the source, the patch and the options. It gets that name only
//! when it is complete, so neither an interruption nor a second xtask beside this one leaves half of it behind.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{self, Scratch};
use crate::progress::Progress;
use crate::workspace;

/// The source as Debian's mirrors have it.
const ARCHIVE: &str = "bochs_3.0+dfsg.orig.tar.xz";
/// Where, below a mirror's address.
const POOL: &str = "pool/main/b/bochs";
/// What it must be.
const SHA256: &str = "78f6c73d4a6472d5130a87ab9dc306d02c7c71ed8e25b3a8ef642e2a7acd282b";
/// The folder in it.
const FOLDER: &str = "bochs-3.0";
/// Turns are exact, and a machine that is stopped logs its CPUs' frames.
const PATCH: &str = include_str!("bochs.patch");
/// The processor is the packaged Bochs'; devices that no machine of ours has are left out, and so is everything that
/// lets a CPU run ahead in a turn (repeat speedups, chained handlers).
const OPTIONS: &[&str] = &[
    "--enable-cpu-level=6",
    "--enable-x86-64",
    "--enable-smp",
    "--enable-vmx=2",
    "--enable-svm",
    "--enable-avx",
    "--enable-evex",
    "--enable-amx",
    "--enable-cet",
    "--enable-uintr",
    "--enable-memtype",
    "--enable-protection-keys",
    "--disable-show-ips",
    "--disable-docbook",
    "--with-nogui",
    "CFLAGS=-O2",
    "CXXFLAGS=-O2",
];
/// Downloads with the settings (proxies, certificates) that apt has.
const FETCH: &str = "/usr/lib/apt/apt-helper";
/// No step may take longer; the longest takes three or four minutes of CPU time, which a busy machine stretches.
const LIMIT: Duration = Duration::from_secs(60 * 60);
/// Nor may a download.
const FETCH_LIMIT: Duration = Duration::from_secs(180);

/// The program, if it has been built.
pub fn built() -> Option<PathBuf> {
    Some(program()).filter(|program| program.is_file())
}

/// Where the program is, or will be.
fn program() -> PathBuf {
    let mut hasher = DefaultHasher::new();
    (SHA256, PATCH, OPTIONS).hash(&mut hasher);
    folder().join(format!("{FOLDER}-{:016x}", hasher.finish()))
}

/// The folder of programs that are built for the runner.
fn folder() -> PathBuf {
    workspace::target().join("tools")
}

/// Builds it.
pub fn build() -> Result<()> {
    let folder = folder();
    std::fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    let progress = Progress::spinner("build Bochs from its source");
    let archive = archive(&progress)?;
    let scratch = Scratch::inside(&folder)?;
    let steps = Steps {
        progress: &progress,
        folder: scratch.path(),
    };
    let again = format!(
        "remove {} if it may be damaged, then run the same command again",
        archive.display()
    );
    steps.run(
        "unpack Bochs",
        process::command("tar").arg("-xJf").arg(&archive),
        &again,
    )?;

    let steps = Steps {
        progress: &progress,
        folder: &scratch.path().join(FOLDER),
    };
    let patch = scratch.path().join("patch");
    std::fs::write(&patch, PATCH).with_context(|| format!("could not write {}", patch.display()))?;
    let report = "this source is pinned, so it should not happen: report it";
    steps.run(
        "patch Bochs",
        process::command("patch")
            .args(["-p1", "--batch", "-i"])
            .arg(&patch),
        report,
    )?;
    let compiler =
        "see whether g++ and make are complete (Debian: g++, make), then run the same command again";
    steps.run(
        "configure Bochs",
        process::command("./configure").args(OPTIONS),
        compiler,
    )?;
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut make = process::command("make");
    // An outer make's job server is not for this one.
    make.env_remove("MAKEFLAGS").env_remove("MFLAGS");
    steps.run(
        "compile Bochs",
        make.arg(format!("-j{jobs}")).arg("bochs"),
        compiler,
    )?;

    let (made, program) = (steps.folder.join("bochs"), program());
    std::fs::rename(&made, &program)
        .with_context(|| format!("could not move {} to {}", made.display(), program.display()))?;
    progress.done();
    Ok(())
}

/// The steps of a build, in a folder.
struct Steps<'a> {
    progress: &'a Progress,
    folder: &'a Path,
}

impl Steps<'_> {
    fn run(&self, what: &str, command: &mut Command, advice: &str) -> Result<()> {
        command.current_dir(self.folder);
        let text = process::shown(command);
        let done = process::observe(command, Some(LIMIT), |line| self.progress.now(line))
            .with_context(|| format!("could not {what}\n  what to do: {advice}"))?;
        if !done.status.success() {
            let printed = crate::session::last_lines(&done.output, 30);
            return Err(process::failure(
                what,
                &text,
                &done.status.to_string(),
                &printed,
                advice,
            ));
        }
        Ok(())
    }
}

/// The source: what was fetched before or put there by hand, else what a mirror has.
fn archive(progress: &Progress) -> Result<PathBuf> {
    let archive = folder().join(ARCHIVE);
    if archive.is_file() {
        check(&archive)?;
        return Ok(archive);
    }
    let by_hand = format!(
        "run the same command where apt's mirror can be reached, or get {ARCHIVE} (it is in Debian 13) and put it into {}",
        folder().display()
    );
    if !Path::new(FETCH).is_file() {
        bail!("there is no apt to fetch Bochs' source with\n  what to do: {by_hand}");
    }
    let mut tried = String::new();
    for mirror in mirrors(&targets()?) {
        let address = format!("{}/{POOL}/{ARCHIVE}", mirror.trim_end_matches('/'));
        let scratch = Scratch::inside(&folder())?;
        let fresh = scratch.path().join(ARCHIVE);
        let mut command = process::command(FETCH);
        command.arg("download-file").arg(&address).arg(&fresh);
        let text = process::shown(&command);
        let outcome = process::observe(&mut command, Some(FETCH_LIMIT), |line| progress.now(line));
        match outcome {
            Ok(done) if done.status.success() => {
                check(&fresh)?;
                std::fs::rename(&fresh, &archive).with_context(|| {
                    format!("could not move {} to {}", fresh.display(), archive.display())
                })?;
                return Ok(archive);
            }
            Ok(done) => tried.push_str(&format!(
                "\n  tried: {text}\n    {}",
                done.output.trim().replace('\n', "\n    ")
            )),
            Err(error) => tried.push_str(&format!("\n  tried: {error:#}")),
        }
    }
    if tried.is_empty() {
        tried = "\n  tried: nothing, since apt knows no mirror".to_owned();
    }
    bail!("could not fetch Bochs' source{tried}\n  what to do: {by_hand}")
}

/// What apt fetches its lists from, a line for each list.
fn targets() -> Result<String> {
    process::capture(
        process::command("apt-get").args([
            "indextargets",
            "--format",
            "$(COMPONENT) $(REPO_URI)",
            "Created-By: Packages",
        ]),
        "ask apt for its mirrors",
        "see what `apt-get indextargets` says",
        |_| {},
    )
}

/// The mirrors among [`targets`]: those that look like the main archive first, and not more than four.
fn mirrors(targets: &str) -> Vec<&str> {
    let mut mirrors: Vec<&str> = targets
        .lines()
        .filter_map(|line| line.strip_prefix("main "))
        .collect();
    mirrors.sort_unstable_by_key(|mirror| (!mirror.trim_end_matches('/').ends_with("/debian"), *mirror));
    mirrors.dedup();
    mirrors.truncate(4);
    mirrors
}

/// Fails unless the file is the pinned source.
fn check(file: &Path) -> Result<()> {
    let printed = process::capture(
        process::command("sha256sum").arg("--").arg(file),
        "take a file's checksum",
        "see whether the file can be read",
        |_| {},
    )?;
    // A backslash at the beginning tells that the name is quoted.
    let sum = printed
        .trim_start_matches('\\')
        .split_whitespace()
        .next()
        .unwrap_or_default();
    if sum != SHA256 {
        bail!(
            "{} is not the source that it should be\n  its SHA-256: {sum}\n  expected:    {SHA256}\n  what to do: remove it if it is \
             there, see whether something on the way to the mirror changes what is fetched, and run the same command again",
            file.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_archive_is_asked_first_and_once() {
        let targets = "main http://mirror.example/debian-security/\nmain http://mirror.example/debian/\n\
                       non-free http://mirror.example/other/\nmain http://mirror.example/debian/\n";
        assert_eq!(
            mirrors(targets),
            [
                "http://mirror.example/debian/",
                "http://mirror.example/debian-security/"
            ]
        );
        assert!(mirrors("").is_empty());
    }

    #[test]
    fn another_file_is_refused_with_both_checksums() {
        let folder = Scratch::new().unwrap();
        let file = folder.path().join("source");
        std::fs::write(&file, b"something else").unwrap();
        let error = check(&file).unwrap_err().to_string();
        assert!(
            error.contains(SHA256) && error.contains("what to do: "),
            "{error}"
        );
    }
}
