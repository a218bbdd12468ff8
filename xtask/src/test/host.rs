//! What is tested on the host: `cargo test` of the crates that build there, formatting, and lints of all crates.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::report::Report;
use crate::build::{BARE_METAL_PACKAGES, CONFORMANCE_PACKAGE};
use crate::process;
use crate::progress::Progress;
use crate::session::last_lines;
use crate::setup::{self, Consent, Need};
use crate::toolchain::{self, KernelToolchain, LINUX};
use crate::workspace;

/// Crates for bare metal whose library has tests that run on the host.
const HOST_TESTED_LIBRARIES: [&str; 4] = [
    "dragonet-boot",
    "dragonet-programs",
    "dragonet-rt",
    "dragonet-vkernel",
];
/// Crates for bare metal beside those that a user needs.
const MORE_BARE_METAL: [&str; 2] = ["dragonet-rt", CONFORMANCE_PACKAGE];
/// Everything here together takes a few minutes at most.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Runs everything whose name contains `filter`.
pub fn run(toolchain: &KernelToolchain, filter: &str, report: &mut Report) -> Result<()> {
    unit_tests(&[], &[], filter, report)?;
    for package in HOST_TESTED_LIBRARIES {
        unit_tests(&["--lib", "--package", package], &[], filter, report)?;
    }
    // The runner's own tests with real machines.
    setup::needs(&Need::ALL, Consent::of(false))?;
    unit_tests(&["--package", "xtask"], &["--ignored"], filter, report)?;
    let component = "`rustup component add rustfmt clippy` installs the program that is missing; otherwise correct what is reported above";
    let mut check = |name: &str, mut command: Command, advice: &str| -> Result<()> {
        if !name.contains(filter) {
            return Ok(());
        }
        let progress = Progress::spinner(name);
        let text = process::shown(&command);
        let captured = process::observe(&mut command, Some(LIMIT), |line| progress.now(line))?;
        drop(progress);
        let verdict = if captured.status.success() { "ok" } else { "FAILED" };
        println!("test {name} ... {verdict}");
        if captured.status.success() {
            report.passed(1);
        } else {
            let error = process::failure(
                name,
                &text,
                &captured.status.to_string(),
                &captured.output,
                advice,
            );
            report.failed(name, error.to_string());
        }
        Ok(())
    };
    let mut format = toolchain::default_cargo();
    format.args(["fmt", "--all", "--", "--check", "--color", "never"]);
    check(
        "formatting",
        format,
        "`cargo fmt --all` (if rustfmt is missing: `rustup component add rustfmt`)",
    )?;

    let mut host = toolchain::default_cargo();
    host.args(["clippy", "--all-targets", "--target-dir"])
        .arg(workspace::target());
    host.args(["--", "-D", "warnings"]);
    check("clippy-host", host, component)?;

    let mut linux = toolchain::default_cargo();
    linux.args([
        "clippy",
        "--package",
        "dragonet-linux-programs",
        "--target",
        LINUX,
        "--target-dir",
    ]);
    linux
        .arg(workspace::linux_target())
        .args(["--", "-D", "warnings"]);
    check("clippy-linux-programs", linux, component)?;

    let mut bare_metal = toolchain.cargo("clippy");
    for package in BARE_METAL_PACKAGES.into_iter().chain(MORE_BARE_METAL) {
        bare_metal.args(["--package", package]);
    }
    bare_metal.args(["--", "-D", "warnings"]);
    let advice = format!(
        "if clippy is missing, install {}; otherwise correct what is reported above",
        toolchain.clippy_package()
    );
    check("clippy-bare-metal", bare_metal, &advice)
}

/// One call of cargo test, its tests counted one by one.
fn unit_tests(words: &[&str], for_tests: &[&str], filter: &str, report: &mut Report) -> Result<()> {
    let mut command = toolchain::default_cargo();
    command
        .args(["test", "--no-fail-fast", "--target-dir"])
        .arg(workspace::target())
        .args(words);
    command.arg("--").args(for_tests);
    if !filter.is_empty() {
        command.arg(filter);
    }
    let progress = Progress::spinner("host tests");
    let mut results = Results::default();
    let text = process::shown(&command);
    let captured = process::observe(&mut command, Some(LIMIT), |line| {
        progress.now(line);
        if results.note(line) {
            progress.say(line);
        }
    })?;
    drop(progress);
    report.passed(results.passed);
    for name in &results.failed {
        report.failed(name.clone(), "");
    }
    let good = captured.status.success();
    if !good {
        let status = captured.status.to_string();
        let printed = relevant(&captured.output);
        let error = process::failure(
            "pass the host tests",
            &text,
            &status,
            &printed,
            "correct what is reported above",
        );
        match results.failed.is_empty() {
            // It did not come to the tests, or a test took its whole process with it.
            true => report.failed("host tests", error.to_string()),
            false => eprintln!("{error}"),
        }
    }
    Ok(())
}

/// What there is to read in the output of a failed cargo test.
fn relevant(output: &str) -> String {
    let interesting = |line: &&str| {
        !(line.starts_with("test ") && line.ends_with("... ok") || line.trim_start().starts_with("Compiling"))
    };
    last_lines(
        &output.lines().filter(interesting).collect::<Vec<_>>().join("\n"),
        200,
    )
}

/// The tests of a cargo test, from its output.
#[derive(Debug, Default, PartialEq, Eq)]
struct Results {
    passed: usize,
    failed: Vec<String>,
}

impl Results {
    /// Takes note of a line; whether it is the result of one test.
    fn note(&mut self, line: &str) -> bool {
        let Some((name, result)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.rsplit_once(" ... "))
        else {
            return false;
        };
        match result {
            "ok" => self.passed += 1,
            "FAILED" => self
                .failed
                .push(name.trim_end_matches(" - should panic").to_owned()),
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_one_by_one() {
        let mut results = Results::default();
        for line in [
            "running 4 tests",
            "test a::b ... ok",
            "test a::c - should panic ... ok",
            "test a::d ... FAILED",
            "test a::e ... ignored",
            "test src/lib.rs - f (line 3) ... ok",
            "test result: FAILED. 3 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out",
        ] {
            results.note(line);
        }
        assert_eq!(
            results,
            Results {
                passed: 3,
                failed: vec!["a::d".to_owned()]
            }
        );
    }
}
