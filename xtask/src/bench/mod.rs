//! `cargo xtask bench`: measures what operations cost, and holds it against the budgets in the repository.
//!
//! `vmbench` runs in an optimized build: on one CPU whose instructions are counted, and on several, where only events are; in QEMU for
//! ordinary threads, in Bochs, which has VMX, for threads in guest mode. `table` reads what it prints, `budgets`
//! compares. Nothing outside this folder uses it but `main`.

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
use table::{Row, Table};

/// What is measured in one emulator.
struct Suite {
    emulator: Emulator,
    command: &'static str,
    /// Its budgets, in the repository.
    file: &'static str,
}

const SUITES: [Suite; 2] = [
    Suite {
        emulator: Emulator::Qemu,
        command: "vmbench",
        file: "tests/budgets/vmbench.txt",
    },
    Suite {
        emulator: Emulator::Bochs,
        command: "vmbench -g",
        file: "tests/budgets/vmbench-guest.txt",
    },
];

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
    /// Measure only what is measured in this emulator: ordinary threads in QEMU, threads in guest mode in Bochs
    #[arg(long, value_enum)]
    emulator: Option<Emulator>,
}

/// `cargo xtask bench`; returns xtask's exit status.
pub fn command(options: &BenchOptions) -> Result<u8> {
    let consent = Consent::of(false);
    let toolchain = setup::kernel_toolchain(consent)?;
    let compiler = toolchain
        .compiler()
        .context("the compiler does not tell its version")?;
    let suites: Vec<&Suite> = SUITES
        .iter()
        .filter(|suite| options.emulator.is_none_or(|emulator| emulator == suite.emulator))
        .collect();
    for suite in &suites {
        setup::needs(&suite.machine(1).resolve()?.needs(), consent)?;
    }
    let built = build::everything(&toolchain, true)?;
    let mut failures = 0;
    for suite in suites {
        failures += suite.judge(&built, &compiler, options.update)?;
    }
    if failures > 0 {
        println!(
            "  what to do: make them cheaper, or, if the cost is worth it, `cargo xtask bench --update`"
        );
    }
    Ok(u8::from(failures > 0))
}

impl Suite {
    /// Measures, and updates the budgets or compares with them; returns how many are exceeded.
    fn judge(&self, built: &Built, compiler: &str, update: bool) -> Result<usize> {
        let mut measured = Budgets {
            compiler: compiler.to_owned(),
            ..Budgets::default()
        };
        for cpus in [1, SEVERAL] {
            let (events, rows) = self.run(built, cpus)?;
            measured.events = events;
            measured.rows.extend(rows);
        }
        let file = self.file();
        let shown = file.display();
        if update {
            std::fs::write(&file, measured.print()).with_context(|| format!("could not write {shown}"))?;
            println!("\nthe budgets in {shown} are what was measured now");
            return Ok(0);
        }
        let text = std::fs::read_to_string(&file).with_context(|| {
            format!("could not read {shown}\n  what to do: `cargo xtask bench --update` writes it")
        })?;
        let allowed = Budgets::parse(&text).with_context(|| {
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
        Ok(failures)
    }

    /// Measures on a machine with so many CPUs: the kinds of events, and the rows.
    fn run(&self, built: &Built, cpus: u32) -> Result<(Vec<String>, Vec<Row>)> {
        let extras = Extras {
            exec: Some(self.command.to_owned()),
            ..Extras::default()
        };
        let outcome = session::run(
            &self.machine(cpus).resolve()?,
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
                "{} failed on {cpus} CPUs with status {status}\n{}{serial}\n  what to do: correct what is reported above",
                self.command,
                outcome.report
            );
        }
        let Table { events, rows, lines } = table::find(&outcome.serial)?;
        println!("\n{cpus} CPU{}", if cpus == 1 { "" } else { "s" });
        lines.iter().for_each(|line| println!("{line}"));
        Ok((events, rows))
    }

    /// The machine on which one CPU's instructions are counted, or one with several CPUs.
    fn machine(&self, cpus: u32) -> MachineOptions {
        MachineOptions {
            emulator: self.emulator,
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
            // Bochs counts by itself.
            icount: cpus == 1 && self.emulator == Emulator::Qemu,
        }
    }

    fn file(&self) -> PathBuf {
        workspace::root().join(self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budgets_in_the_repository_can_be_read() {
        for suite in SUITES {
            let text = std::fs::read_to_string(suite.file()).unwrap();
            let budgets = Budgets::parse(&text).unwrap();
            assert!(budgets.compiler.starts_with("rustc "), "{}", budgets.compiler);
            assert!(!budgets.rows.is_empty() && !budgets.events.is_empty());
        }
    }
}
