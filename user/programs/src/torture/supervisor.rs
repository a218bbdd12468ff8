//! The supervisor: laps in processes of their own, and the count of what is left of them.

use super::lap::Lap;
use super::rounds;
use crate::checks::Checks;
use crate::ledger::Ledger;
use crate::random::Random;
use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;
use dragonet_abi::Errno;
use dragonet_abi::process::{ENDED_EXIT, ENDED_KILLED};
use dragonet_rt::process::{Child, Command};
use dragonet_rt::{ExitCode, println, time};

/// How long a lap is.
const LAP: Duration = Duration::from_secs(8);
/// One lap of so many is killed.
const KILLED: u64 = 4;
/// How long a killed lap runs at most, in milliseconds.
const KILLED_WITHIN: u64 = 1500;
/// How much longer than its time a lap may take: the watchdog inside it should speak first.
const PATIENCE: Duration = Duration::from_secs(90);
/// Numbers of rounds for each lap.
const ROUNDS: u64 = 1000;
/// The status with which laps are killed.
const STATUS: u8 = 77;

/// Runs laps until the time is over or something goes wrong.
pub fn run(plan: &Lap) -> ExitCode {
    let Lap {
        seed, threads, cpus, ..
    } = *plan;
    println!("seed {seed}");
    let seconds = plan.duration.as_secs();
    println!(
        "{threads} threads on {cpus} CPUs for {seconds} seconds, beginning with round {}",
        plan.first
    );
    let mut checks = Checks::default();
    // The first process lets console and kernel grow to their size.
    let short = Lap {
        duration: Duration::from_millis(100),
        ..*plan
    };
    report(&mut checks, "first steps", one(&short, None));
    let before = Ledger::now();
    let end = time::now() + plan.duration;
    let mut number = 0;
    while checks.all_passed() && time::now() < end {
        number += 1;
        let rest = end.saturating_sub(time::now());
        let mut random = Random::new(seed ^ Random::new(number).next_number());
        let kill = (number % KILLED == 0).then(|| Duration::from_millis(random.below(KILLED_WITHIN)));
        let lap = Lap {
            first: plan.first + (number - 1) * ROUNDS,
            // One that is killed does not end before.
            duration: if kill.is_some() { LAP } else { rest.min(LAP) },
            ..*plan
        };
        let name = match kill {
            None => format!("lap {number}"),
            Some(after) => format!("lap {number}, killed after {} ms", after.as_millis()),
        };
        report(&mut checks, &name, one(&lap, kill));
        report(
            &mut checks,
            &format!("lap {number}: everything came back"),
            before.settle(),
        );
    }
    checks.finish()
}

fn report(checks: &mut Checks, name: &str, outcome: Result<(), String>) {
    match outcome {
        Ok(()) => checks.report(name, true, format_args!("")),
        Err(problem) => checks.report(name, false, format_args!("{problem}")),
    }
}

/// Runs a lap, or kills it in the middle.
fn one(lap: &Lap, kill: Option<Duration>) -> Result<(), String> {
    let mut command = Command::new(lap.suite.program).arguments([
        String::from("-cchild"),
        format!("-s{}", lap.seed),
        format!("-r{}", lap.first),
        format!("-n{}", lap.threads),
        format!("-t{}", crate::text::as_seconds(lap.duration)),
    ]);
    if let Some(family) = lap.only {
        command = command.arguments(["-f", lap.suite.families[family].0]);
    }
    let child = command.spawn().map_err(|error| format!("starting it: {error}"))?;
    match kill {
        None => wait(lap, &child),
        Some(after) => kill_after(&child, after),
    }
}

fn wait(lap: &Lap, child: &Child) -> Result<(), String> {
    let limit = time::nanoseconds(lap.duration + PATIENCE);
    let ending = match child.wait_for(limit) {
        Err(Errno::ETIMEDOUT) => {
            let _ = child.kill(rounds::HANGS);
            return Err(String::from("not even its watchdog is alive"));
        }
        outcome => outcome.map_err(|errno| errno.to_string())?,
    };
    if ending.0.reason == ENDED_EXIT && ending.status() == 0 {
        Ok(())
    } else {
        Err(format!("{ending}"))
    }
}

fn kill_after(child: &Child, after: Duration) -> Result<(), String> {
    time::sleep(after);
    child
        .kill(STATUS)
        .map_err(|errno| format!("killing it: {errno}"))?;
    let ending = match child.wait_for(time::nanoseconds(PATIENCE)) {
        Err(Errno::ETIMEDOUT) => return Err(String::from("it does not die")),
        outcome => outcome.map_err(|errno| errno.to_string())?,
    };
    if ending.0.reason == ENDED_KILLED && ending.status() == STATUS {
        Ok(())
    } else {
        Err(format!("it was to be killed, but: {ending}"))
    }
}
