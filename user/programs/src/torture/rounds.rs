//! Rounds: the threads are dealt into teams, each team plays a family, all of them at once.

use super::Family;
use super::team::{Round, Team};
use super::watch::Watchdog;
use crate::random::Random;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use dragonet_rt::thread::{Builder, JoinHandle};
use dragonet_rt::{console, eprintln, syscall, time};

/// Stack of a leader.
const STACK_SIZE: u64 = 128 * 1024;
/// How often the watchdog looks.
const LOOK: Duration = Duration::from_millis(20);
/// Threads of a team, leader included.
const SMALLEST: u64 = 2;
const LARGEST: u64 = 6;
/// Status of a program that the watchdog ended.
pub const HANGS: u8 = 124;

/// What a team did: the number of its family, its first problem, its steps.
pub type Played = (usize, Result<(), String>, u64);

/// Plays a round of `threads` threads, with one family or with any. `again` says how to repeat it.
pub fn play(round: Round, threads: u64, only: Option<usize>, again: &str) -> Vec<Played> {
    let teams: Vec<_> = deal(round, threads, only)
        .into_iter()
        .enumerate()
        .map(|(place, (family, size))| (family, start(round, family, place as u64, size)))
        .collect();
    let program = round.suite.program;
    let mut watchdog = Watchdog::default();
    while teams.iter().any(|(_, team)| team.as_ref().is_ok_and(is_running)) {
        time::sleep(LOOK);
        if let Some((name, steps)) = watchdog.look() {
            eprintln!(
                "{program}: round {}: {name} makes no progress after {steps} steps",
                round.number
            );
            eprintln!("{program}: again: {again}");
            // Nobody can wait for the thread any more.
            console::flush();
            syscall::process_exit(HANGS);
        }
    }
    let outcome = |team: Result<JoinHandle<_>, dragonet_abi::Errno>| match team {
        Ok(team) => team
            .join()
            .unwrap_or_else(|| (Err(String::from("a leader ended without a word")), 0)),
        Err(errno) => (Err(format!("starting a leader: {errno}")), 0),
    };
    teams
        .into_iter()
        .map(|(family, team)| {
            let (result, steps) = outcome(team);
            (family, result, steps)
        })
        .collect()
}

type Leader = JoinHandle<(Result<(), String>, u64)>;

fn start(round: Round, family: usize, place: u64, size: u64) -> Result<Leader, dragonet_abi::Errno> {
    let (name, function): Family = round.suite.families[family];
    Builder::new()
        .stack_size(STACK_SIZE)
        .affinity(u64::MAX)
        .spawn(move || Team::new(round, name, place, size).play(function))
}

fn is_running(team: &Leader) -> bool {
    syscall::thread_wait(team.handle(), 0).is_err()
}

/// Families and sizes of the teams. The families take turns in an order that the seed decides, so that a run of as many rounds plays all.
fn deal(round: Round, threads: u64, only: Option<usize>) -> Vec<(usize, u64)> {
    let count = round.suite.families.len();
    let mut order: Vec<usize> = (0..count).collect();
    let mut random = Random::new(round.seed);
    for place in (1..count).rev() {
        order.swap(place, random.below(place as u64 + 1) as usize);
    }
    let mut random = Random::new(round.seed ^ Random::new(round.number).next_number());
    let mut left = threads.max(SMALLEST);
    let mut teams = Vec::new();
    while left > 0 {
        let most = left.min(LARGEST);
        let mut size = SMALLEST + random.below(most - SMALLEST + 1);
        if left - size < SMALLEST {
            size = left;
        }
        // Teams of one round are half an order apart.
        let turn = round.number as usize + teams.len() * (count / 2);
        teams.push((only.unwrap_or(order[turn % count]), size));
        left -= size;
    }
    teams
}
