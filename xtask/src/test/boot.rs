//! Runs the scenarios, a few at a time.

use std::fs::File;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use scenarios::{Boot, Emulator as On, Kernel, Scenario, table};

use super::report::Report;
use crate::build::{self, Built};
use crate::machine::{Accelerator, Emulator, Firmware, MachineOptions, Medium};
use crate::payload::Extras;
use crate::progress::Progress;
use crate::session::{self, Operator, Outcome, last_lines};
use crate::setup::{self, Consent};
use crate::toolchain::KernelToolchain;
use crate::workspace;

/// The scenarios whose name contains `filter`.
pub fn selected(filter: &str) -> Vec<&'static Scenario> {
    table::ALL
        .iter()
        .filter(|scenario| scenario.name.contains(filter))
        .collect()
}

/// Runs them all, as many at a time as there are CPUs (but not more than four).
pub fn run(toolchain: &KernelToolchain, filter: &str, limit: Option<u64>, report: &mut Report) -> Result<()> {
    let scenarios = selected(filter);
    let machines: Vec<_> = scenarios.iter().map(|scenario| options(scenario)).collect();
    let mut needs = Vec::new();
    for machine in &machines {
        needs.extend(machine.resolve()?.needs());
    }
    if scenarios.is_empty() {
        return Ok(());
    }
    setup::needs(&needs, Consent::of(false))?;
    let built = build::everything_for_tests(toolchain)?;
    let logs = workspace::logs();
    std::fs::create_dir_all(&logs).with_context(|| format!("could not make {}", logs.display()))?;

    let progress = Progress::bar("scenarios", scenarios.len() as u64);
    let next = AtomicUsize::new(0);
    let shared = Mutex::new(report);
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begin = Instant::now();
                    let limit = Duration::from_secs(limit.unwrap_or(scenario.limit));
                    let verdict = one(scenario, &built, limit, &logs);
                    let seconds = begin.elapsed().as_secs_f64();
                    progress.step();
                    let mut report = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    match verdict {
                        Ok(remark) => {
                            progress.say(&format!(
                                "test scenario::{} ... ok ({seconds:.1} s{remark})",
                                scenario.name
                            ));
                            report.passed(1);
                        }
                        Err(why) => {
                            progress.say(&format!(
                                "test scenario::{} ... FAILED ({seconds:.1} s)",
                                scenario.name
                            ));
                            report.failed(format!("scenario::{}", scenario.name), why);
                        }
                    }
                }
            });
        }
    });
    progress.done();
    Ok(())
}

/// Runs one; an error is the whole story of its failure, `Ok` has a remark for the result line.
fn one(scenario: &Scenario, built: &Built, limit: Duration, logs: &Path) -> Result<String, String> {
    let log = logs.join(format!("{}.serial", scenario.name));
    let outcome = boot(scenario, built, limit, &log).map_err(|error| format!("{error:#}"))?;
    let (tests, seeds) = Scenario::remarks(&outcome.serial);
    let seeds: String = seeds.iter().map(|seed| format!(", {seed}")).collect();
    let verdict = scenario.judge(outcome.end.code(), &outcome.serial);
    verdict.map_err(|wrong| {
        let again = format!("again: cargo xtask test boot --filter {}{seeds}", scenario.name);
        let serial = last_lines(&outcome.serial, 40);
        format!(
            "{wrong}\n{}--- the last lines of {}:\n{serial}\n--- {again}",
            outcome.report,
            log.display()
        )
    })?;
    let tests = if tests == 0 {
        String::new()
    } else {
        format!(", {tests} tests inside")
    };
    Ok(format!("{tests}{seeds}"))
}

fn boot(scenario: &Scenario, built: &Built, limit: Duration, log: &Path) -> Result<Outcome> {
    let extras = Extras {
        exec: scenario.exec.map(str::to_owned),
        append: scenario.append.to_owned(),
        conformance: match scenario.kernel {
            Kernel::Dragonet => None,
            Kernel::Conformance { framebuffer } => Some(framebuffer),
        },
        leave_out: scenario.without.iter().map(|&name| name.to_owned()).collect(),
        failing_entries: scenario.failing_entries,
    };
    let sink = File::create(log).with_context(|| format!("could not write {}", log.display()))?;
    session::run(
        &options(scenario).resolve()?,
        built,
        &extras,
        Some(limit),
        Operator::Nobody,
        Box::new(sink),
    )
}

/// The machine of a scenario, in the words of the command line.
fn options(scenario: &Scenario) -> MachineOptions {
    let (firmware, boot) = match scenario.boot {
        Boot::Default => (Firmware::Bios, None),
        Boot::Cd => (Firmware::Bios, Some(Medium::Cd)),
        Boot::Usb => (Firmware::Bios, Some(Medium::Usb)),
        Boot::UefiCd => (Firmware::Uefi, Some(Medium::Cd)),
        Boot::UefiUsb => (Firmware::Uefi, Some(Medium::Usb)),
    };
    let emulator = match scenario.emulator {
        On::Qemu => Emulator::Qemu,
        On::Bochs => Emulator::Bochs,
    };
    MachineOptions {
        emulator,
        cpu: scenario.cpu.map(str::to_owned),
        smp: scenario.smp,
        mem: scenario.mem,
        firmware,
        boot,
        // Always the same machine, whatever the host has.
        accel: Accelerator::Tcg,
        gui: false,
        no_acpi: !scenario.acpi,
        quantum: scenario.quantum,
        icount: scenario.icount,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_describes_a_machine_that_can_be_built() {
        for scenario in table::ALL {
            options(scenario)
                .resolve()
                .unwrap_or_else(|error| panic!("{}: {error}", scenario.name));
        }
    }

    #[test]
    fn the_filter_selects_by_part_of_the_name() {
        assert_eq!(selected("").len(), table::ALL.len());
        assert!(
            selected("bochs")
                .iter()
                .all(|scenario| scenario.name.contains("bochs"))
        );
        assert!(selected("no scenario is called this").is_empty());
    }
}
