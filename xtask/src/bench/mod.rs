//! `cargo xtask bench`: measures what operations cost, and holds it against the budgets in the repository.
//!
//! `vmbench` runs twice, in an optimized build: on one CPU whose instructions are counted, and on several, where only events
//! are. `table` reads what it prints, `budgets` compares. Nothing outside this folder uses it but `main`.

mod budgets;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::build::{self, Built};
use crate::machine::{Accelerator, Emulator, Firmware, MachineOptions};
use crate::payload::Extras;
use crate::session::{self, Operator, last_lines};
use crate::setup::{self, Consent};
use crate::workspace;

use budgets::Budgets;
use table::Row;

/// CPUs of the machine on which invalidations reach other CPUs.
const SEVERAL: u32 = 4;
/// Seconds that a run may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Options of `bench`.
#[derive(Clone, Debug, clap::Args)]
pub struct BenchOptions {
    /// Make what was measured the budgets
    #[arg(long)]
    update: bool,
}

/// `cargo xtask bench`; returns xtask's exit status.
pub fn command(options: &BenchOptions) -> Result<u8> {
    let consent = Consent::of(false);
    let toolchain = setup::kernel_toolchain(consent)?;
    let compiler = toolchain
        .compiler()
        .context("the compiler does not tell its version")?;
    setup::needs(&machine(1).resolve()?.needs(), consent)?;
    let built = build::everything(&toolchain, true)?;
    let mut measured = Budgets {
        compiler,
        rows: Vec::new(),
    };
    for cpus in [1, SEVERAL] {
        measured.rows.extend(run(&built, cpus)?);
    }
    let file = file();
    if options.update {
        let shown = file.display();
        std::fs::write(&file, measured.print()).with_context(|| format!("could not write {shown}"))?;
        println!("\nthe budgets in {shown} are what was measured now");
        return Ok(0);
    }
    let text = std::fs::read_to_string(&file).with_context(|| {
        let shown = file.display();
        format!("could not read {shown}\n  what to do: `cargo xtask bench --update` writes it")
    })?;
    let allowed = Budgets::parse(&text).with_context(|| {
        let shown = file.display();
        format!("{shown} has a mistake\n  what to do: correct it, or `cargo xtask bench --update`")
    })?;
    let verdict = allowed.compare(&measured);
    println!();
    for remark in &verdict.remarks {
        println!("note: {remark}");
    }
    for failure in &verdict.failures {
        println!("over budget: {failure}");
    }
    let rows = measured.rows.len();
    let failures = verdict.failures.len();
    println!("{rows} operations, {failures} over budget");
    if failures > 0 {
        println!(
            "  what to do: make them cheaper, or, if the cost is worth it, `cargo xtask bench --update`"
        );
    }
    Ok(u8::from(failures > 0))
}

/// Measures on a machine with so many CPUs.
fn run(built: &Built, cpus: u32) -> Result<Vec<Row>> {
    let extras = Extras {
        exec: Some("vmbench".to_owned()),
        ..Extras::default()
    };
    let outcome = session::run(
        &machine(cpus).resolve()?,
        built,
        &extras,
        Some(LIMIT),
        Operator::Nobody,
        Box::new(std::io::sink()),
    )?;
    let status = outcome.end.code();
    if status != 0 {
        let serial = last_lines(&outcome.serial, 60);
        bail!(
            "vmbench failed on {cpus} CPUs with status {status}\n{}{serial}\n  what to do: correct what is reported above",
            outcome.report
        );
    }
    let (rows, lines) = table::find(&outcome.serial)?;
    println!("\n{cpus} CPU{}", if cpus == 1 { "" } else { "s" });
    lines.iter().for_each(|line| println!("{line}"));
    Ok(rows)
}

/// The machine on which one CPU's instructions are counted, or one with several CPUs.
fn machine(cpus: u32) -> MachineOptions {
    MachineOptions {
        emulator: Emulator::Qemu,
        cpu: None,
        smp: cpus,
        mem: 256,
        firmware: Firmware::Bios,
        boot: None,
        // Always the same machine, whatever the host has.
        accel: Accelerator::Tcg,
        gui: false,
        no_acpi: false,
        quantum: None,
        icount: cpus == 1,
    }
}

fn file() -> PathBuf {
    workspace::root().join("tests/budgets/vmbench.txt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budgets_in_the_repository_can_be_read() {
        let text = std::fs::read_to_string(file()).unwrap();
        let budgets = Budgets::parse(&text).unwrap();
        assert!(budgets.compiler.starts_with("rustc "), "{}", budgets.compiler);
        assert!(!budgets.rows.is_empty());
    }
}
