//! Whether every oracle can fail: each family leaves out what it is about, and must find that out.

use super::lap::Lap;
use super::rounds;
use super::team::Round;
use crate::checks::Checks;
use core::time::Duration;
use dragonet_rt::{ExitCode, println, time};

/// How long an oracle may take.
const LONGEST: Duration = Duration::from_secs(10);

pub fn run(lap: &Lap) -> ExitCode {
    println!("seed {}", lap.seed);
    let mut checks = Checks::default();
    for (number, (name, _)) in lap.suite.families.iter().enumerate() {
        if lap.only.is_some_and(|only| only != number) {
            continue;
        }
        let round = Round {
            suite: lap.suite,
            seed: lap.seed,
            number: lap.first,
            deadline: time::now() + LONGEST,
            cpus: lap.cpus,
            sabotage: true,
        };
        // One team, so that whatever is found was found by this family.
        let threads = lap.threads.clamp(4, 6);
        let played = rounds::play(round, threads, Some(number), "--self-test");
        let found = played.into_iter().find_map(|(_, outcome, _)| outcome.err());
        if let Some(problem) = &found {
            println!("{problem}");
        }
        checks.report(
            name,
            found.is_some(),
            format_args!("what was left out was not found"),
        );
    }
    checks.finish()
}
