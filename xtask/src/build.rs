//! `cargo xtask build`: builds everything that goes into the machine and stages it.
//!
//! The bare-metal crates are one cargo call with the kernel toolchain, the Linux programs one with the default
//! toolchain. What cargo says it made (its JSON messages) is what gets staged, so a program that was removed from
//! the sources does not linger in an image.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;
use crate::progress::Progress;
use crate::stage::{self, Staged};
use crate::toolchain::{self, KernelToolchain, LINUX};
use crate::workspace;

/// The crates for bare metal, each the package of one or more programs.
pub const BARE_METAL_PACKAGES: [&str; 4] = [
    "dragonet-boot",
    "dragonet-kernel",
    "dragonet-programs",
    "dragonet-vkernel",
];
/// The kernel that checks the boot protocol; only the tests boot it.
pub const CONFORMANCE_PACKAGE: &str = "dragonet-boot-conformance";
const LINUX_PACKAGE: &str = "dragonet-linux-programs";

/// Flags of the Linux programs: no dynamic linker in a vkernel, and a fixed address.
const LINUX_FLAGS: &str = "-C target-feature=+crt-static -C relocation-model=static";

/// What a build made.
pub struct Built {
    /// The kernel with its symbols.
    pub kernel: PathBuf,
    /// The files that go into the machine.
    pub staged: Staged,
}

/// Programs by package and name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Programs(BTreeMap<String, BTreeMap<String, PathBuf>>);

impl Programs {
    /// All programs of a package.
    pub fn of(&self, package: &str) -> Result<&BTreeMap<String, PathBuf>> {
        self.0
            .get(package)
            .with_context(|| format!("the build made no program of the package {package}"))
    }

    /// One program.
    pub fn get(&self, package: &str, name: &str) -> Result<&PathBuf> {
        self.of(package)?
            .get(name)
            .with_context(|| format!("the package {package} has no program named {name}"))
    }

    /// Takes note of one line of cargo's JSON messages, if it tells of a program.
    fn note(&mut self, line: &str) {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else {
            return;
        };
        let Some(executable) = message["executable"].as_str() else {
            return;
        };
        let Some(package) = message["package_id"].as_str().and_then(package_name) else {
            return;
        };
        let Some(name) = message["target"]["name"].as_str() else {
            return;
        };
        self.0
            .entry(package.to_owned())
            .or_default()
            .insert(name.to_owned(), executable.into());
    }
}

/// The name in a package id, `path+file:///dir/NAME#0.1.0` or `path+file:///dir#NAME@0.1.0`.
fn package_name(id: &str) -> Option<&str> {
    let (path, fragment) = id.rsplit_once('#')?;
    match fragment.split_once('@') {
        Some((name, _)) => Some(name),
        None => path.rsplit('/').next(),
    }
}

/// Builds and stages everything that a user needs.
pub fn everything(toolchain: &KernelToolchain, release: bool) -> Result<Built> {
    build_and_stage(toolchain, release, &BARE_METAL_PACKAGES)
}

/// Builds and stages everything that the scenarios need.
pub fn everything_for_tests(toolchain: &KernelToolchain) -> Result<Built> {
    let packages: Vec<&str> = BARE_METAL_PACKAGES
        .into_iter()
        .chain([CONFORMANCE_PACKAGE])
        .collect();
    build_and_stage(toolchain, false, &packages)
}

fn build_and_stage(toolchain: &KernelToolchain, release: bool, packages: &[&str]) -> Result<Built> {
    let bare_metal = bare_metal(toolchain, release, packages)?;
    let linux = linux()?;
    let folder = workspace::stage().join(if release { "release" } else { "debug" });
    let staged = stage::everything(&folder, &bare_metal, linux.of(LINUX_PACKAGE)?)?;
    Ok(Built {
        kernel: bare_metal.get("dragonet-kernel", "dragonet-kernel")?.clone(),
        staged,
    })
}

/// Kernel, boot stage, native programs and vkernel.
fn bare_metal(toolchain: &KernelToolchain, release: bool, packages: &[&str]) -> Result<Programs> {
    let mut command = toolchain.cargo("build");
    for package in packages {
        command.args(["--package", package]);
    }
    if release {
        command.arg("--release");
    }
    build(command, "build the kernel, the vkernel and the native programs")
}

/// The static Linux programs; always optimized, as the standard library they consist of is.
fn linux() -> Result<Programs> {
    let mut command = toolchain::default_cargo();
    command.args([
        "build",
        "--package",
        LINUX_PACKAGE,
        "--release",
        "--target",
        LINUX,
    ]);
    command.arg("--target-dir").arg(workspace::linux_target());
    command
        .env("RUSTFLAGS", LINUX_FLAGS)
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    build(command, "build the Linux programs")
}

fn build(mut command: Command, what: &str) -> Result<Programs> {
    command.arg("--message-format=json-render-diagnostics");
    let progress = Progress::spinner(what);
    let mut programs = Programs::default();
    let text = process::shown(&command);
    let mut printed = String::new();
    let captured = process::observe(&mut command, None, |line| {
        if line.starts_with('{') {
            programs.note(line);
        } else {
            progress.now(line);
            printed.push_str(line);
            printed.push('\n');
        }
    })?;
    if !captured.status.success() {
        drop(progress);
        let advice = "correct what the compiler reports above";
        return Err(process::failure(
            what,
            &text,
            &captured.status.to_string(),
            &printed,
            advice,
        ));
    }
    progress.done();
    printed
        .lines()
        .filter(|line| !is_status(line))
        .for_each(|line| eprintln!("{line}"));
    Ok(programs)
}

/// Whether a line of cargo's tells of its progress; the others are warnings.
fn is_status(line: &str) -> bool {
    let verbs = [
        "Compiling",
        "Finished",
        "Blocking",
        "Updating",
        "Downloading",
        "Downloaded",
        "Locking",
        "Adding",
    ];
    line.trim().is_empty() || verbs.contains(&line.split_whitespace().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_ids_of_both_forms_give_the_name() {
        assert_eq!(
            package_name("path+file:///src/user/linux#dragonet-linux-programs@0.1.0"),
            Some("dragonet-linux-programs")
        );
        assert_eq!(
            package_name("path+file:///src/symbolize#0.1.0"),
            Some("symbolize")
        );
        assert_eq!(package_name("nonsense"), None);
    }

    #[test]
    fn only_programs_are_noted() {
        let mut programs = Programs::default();
        programs.note(
            r#"{"reason":"compiler-artifact","package_id":"path+file:///k#dragonet-kernel@0.1.0","target":{"name":"dragonet-kernel"},"executable":"/t/dragonet-kernel"}"#,
        );
        programs.note(r#"{"reason":"compiler-artifact","package_id":"path+file:///k#abi@0.1.0","target":{"name":"abi"},"executable":null}"#);
        programs.note(r#"{"reason":"build-finished","success":true}"#);
        assert_eq!(
            programs.get("dragonet-kernel", "dragonet-kernel").unwrap(),
            &PathBuf::from("/t/dragonet-kernel")
        );
        assert!(programs.of("abi").is_err());
        assert!(programs.get("dragonet-kernel", "other").is_err());
    }
}
