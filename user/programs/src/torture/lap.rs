//! A lap: rounds one after the other, in a process of its own.

use super::Suite;
use super::rounds;
use super::team::Round;
use crate::random::Random;
use alloc::format;
use core::time::Duration;
use dragonet_rt::{ExitCode, eprintln, println, time};

/// Shortest round, and by how much a round may be longer, in milliseconds.
const ROUND: u64 = 200;
const LONGER: u64 = 400;

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Lap {
    pub suite: &'static Suite,
    pub seed: u64,
    /// Number of the first round.
    pub first: u64,
    pub threads: u64,
    /// The only family to be played.
    pub only: Option<usize>,
    pub duration: Duration,
    pub cpus: u64,
}

impl Lap {
    /// How to repeat a round.
    fn again(&self, round: u64) -> alloc::string::String {
        let only = self.only.map_or(alloc::string::String::new(), |family| {
            format!(" --family {}", self.suite.families[family].0)
        });
        let (seed, threads, cpus) = (self.seed, self.threads, self.cpus);
        let program = self.suite.program;
        format!("{program} --seed {seed} --round {round} --threads {threads}{only} ({cpus} CPUs)")
    }

    /// Plays rounds until the time is over or one goes wrong.
    pub fn run(&self) -> ExitCode {
        let program = self.suite.program;
        let end = time::now() + self.duration;
        let mut totals = alloc::vec![(0_u64, 0_u64); self.suite.families.len()];
        let mut number = self.first;
        while time::now() < end {
            let length = ROUND + Random::new(self.seed ^ number).below(LONGER);
            let round = Round {
                suite: self.suite,
                seed: self.seed,
                number,
                deadline: (time::now() + Duration::from_millis(length)).min(end),
                cpus: self.cpus,
                sabotage: false,
            };
            let again = self.again(number);
            let mut failed = false;
            for (family, outcome, steps) in rounds::play(round, self.threads, self.only, &again) {
                totals[family].0 += 1;
                totals[family].1 += steps;
                if let Err(problem) = outcome {
                    eprintln!("{program}: round {number}: {problem}");
                    failed = true;
                }
            }
            if failed {
                eprintln!("{program}: again: {again}");
                return ExitCode::FAILURE;
            }
            number += 1;
        }
        println!("rounds {} to {}:", self.first, number.saturating_sub(1));
        for ((name, _), (teams, steps)) in self.suite.families.iter().zip(totals) {
            if teams > 0 {
                println!("  {name:14} {teams:4} teams {steps:9} steps");
            }
        }
        ExitCode::SUCCESS
    }
}
