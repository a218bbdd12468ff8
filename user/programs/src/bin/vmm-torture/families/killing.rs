//! Processes with threads in guest mode on all CPUs are killed at any moment: they end as killed, at once, and whatever they owned comes back,
//! which the supervisor counts.

use crate::SUITE;
use alloc::format;
use alloc::string::String;
use core::time::Duration;
use dragonet_abi::process::ENDED_KILLED;
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, Problem};
use dragonet_programs::torture::team::Team;
use dragonet_rt::process::Command;
use dragonet_rt::time;

/// What the children play: not this.
const FAMILIES: [&str; 5] = ["invalidation", "instructions", "unmap", "floods", "registers"];
/// The status with which they are killed, and the longest that they live, in milliseconds.
const STATUS: u8 = 78;
const LONGEST: u64 = 60;
/// How long one may take to be gone, in nanoseconds.
const PATIENCE: u64 = 20_000_000_000;

fn step(random: &mut Random, sabotaged: bool) -> Outcome {
    let family = FAMILIES[random.below(FAMILIES.len() as u64) as usize];
    let failed =
        |what: &dyn core::fmt::Display| Problem::Wrong(format!("a child that plays {family}: {what}"));
    let child = Command::new(SUITE.program)
        .arguments([
            String::from("-cchild"),
            format!("-s{}", random.next_number() >> 1),
            String::from("-n4"),
            String::from("-t30"),
            format!("-f{family}"),
        ])
        .spawn()
        .map_err(|error| failed(&error))?;
    time::sleep(Duration::from_micros(random.below(1000 * LONGEST)));
    let status = if sabotaged { STATUS + 1 } else { STATUS };
    child.kill(status).map_err(|errno| failed(&errno))?;
    let ending = child.wait_for(PATIENCE).map_err(|errno| failed(&errno))?;
    demand!(
        ending.0.reason == ENDED_KILLED && ending.status() == STATUS,
        "a child that plays {family} was to be killed, but: {ending}"
    );
    Ok(())
}

pub fn play(team: &mut Team) -> Outcome {
    let sabotaged = team.sabotaged();
    for _ in 1..team.helpers().min(2) {
        team.helper("who kills", move |random| step(random, sabotaged))?;
    }
    team.lead(|random| step(random, sabotaged))
}
