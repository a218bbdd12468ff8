//! A team: a leader and its helpers, who torture one thing for one round.
//!
//! A family of torture is a function that is given a [`Team`]. It sets its stage, starts helpers, leads, and lets the team finish.
//! Leader and helpers repeat their steps until the round's time is over or a step goes wrong. Each draws its random numbers from a
//! seed of its own, made from the run's seed, the round and its place, so that a round can be repeated without those before it.

use super::Suite;
use super::problem::{Outcome, Problem, doing};
use super::watch::Ticket;
use crate::random::Random;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use dragonet_abi::Handle;
use dragonet_abi::process::{PRIORITY_DEFAULT, ThreadControl};
use dragonet_rt::thread::{self, JoinHandle};
use dragonet_rt::{syscall, time, virtual_interrupt};

/// The virtual interrupt that leaders post to helpers.
pub const INTERRUPT: u64 = 1;

/// What all teams of a round share.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// The program and its families.
    pub suite: &'static Suite,
    /// The run's seed.
    pub seed: u64,
    /// Number of the round, from 0.
    pub number: u64,
    /// When it is over.
    pub deadline: Duration,
    /// CPUs of the machine.
    pub cpus: u64,
    /// Each family leaves out one thing that it must do, so that its oracle must speak.
    pub sabotage: bool,
}

/// What a leader and its helpers share.
struct Shared {
    stop: AtomicBool,
    problem: dragonet_rt::sync::Mutex<Option<String>>,
    steps: AtomicU64,
}

impl Shared {
    /// Notes what went wrong, unless something did before, and ends the round for the team.
    fn fail(&self, who: &str, problem: &Problem) {
        let mut first = self.problem.lock();
        first.get_or_insert_with(|| format!("{who}: {problem}"));
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A leader and its helpers.
pub struct Team {
    round: Round,
    family: &'static str,
    place: u64,
    size: u64,
    random: Random,
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
}

impl Team {
    /// A team of `size` threads, the caller included, at a place of the round.
    pub fn new(round: Round, family: &'static str, place: u64, size: u64) -> Self {
        Team {
            round,
            family,
            place,
            size,
            random: Self::random_for(&round, place, 0),
            shared: Arc::new(Shared {
                stop: AtomicBool::new(false),
                problem: dragonet_rt::sync::Mutex::new(None),
                steps: AtomicU64::new(0),
            }),
            helpers: Vec::new(),
        }
    }

    /// The numbers of a member, 0 for the leader.
    fn random_for(round: &Round, place: u64, member: u64) -> Random {
        let mut random = Random::new(round.seed);
        let mut mixed = random.next_number();
        for part in [round.number, place, member] {
            mixed = Random::new(mixed ^ part).next_number();
        }
        Random::new(mixed)
    }

    /// How many helpers there are to be.
    pub const fn helpers(&self) -> u64 {
        self.size - 1
    }

    /// CPUs of the machine.
    pub const fn cpus(&self) -> u64 {
        self.round.cpus
    }

    /// True if the family is to leave out what it must do.
    pub const fn sabotaged(&self) -> bool {
        self.round.sabotage
    }

    /// The leader's numbers.
    pub const fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Starts a helper, which repeats `step`. It stays on one CPU, or goes where it likes.
    pub fn helper(
        &mut self,
        role: &'static str,
        mut step: impl FnMut(&mut Random) -> Outcome + Send + 'static,
    ) -> Outcome {
        let member = self.helpers.len() as u64 + 1;
        let mut random = Self::random_for(&self.round, self.place, member);
        let cpu = random.below(self.round.cpus);
        let affinity = if random.below(4) == 0 { u64::MAX } else { 1 << cpu };
        let name = format!("{}, {role} {member}", self.family);
        let shared = Arc::clone(&self.shared);
        let work = move || {
            let ticket = Ticket::new(name.clone());
            // From now on posts of the leader end its runs.
            if let Err(errno) = virtual_interrupt::enable(INTERRUPT) {
                shared.fail(&name, &Problem::Refused("enabling interrupts", errno));
            }
            while !shared.stop.load(Ordering::Relaxed) {
                if let Err(problem) = step(&mut random) {
                    shared.fail(&name, &problem);
                }
                ticket.step();
            }
            shared.steps.fetch_add(ticket.steps(), Ordering::Relaxed);
        };
        let started = thread::Builder::new().affinity(affinity).spawn(work);
        self.helpers.push(started.map_err(doing("starting a thread"))?);
        Ok(())
    }

    /// Repeats the leader's `step`. The leader runs before its helpers, which leave no CPU idle, and rests now and then.
    pub fn lead(&mut self, mut step: impl FnMut(&mut Random) -> Outcome) -> Outcome {
        let ticket = Ticket::new(format!("{}, leader", self.family));
        set_priority(PRIORITY_DEFAULT + 1);
        let mut outcome = Ok(());
        while outcome.is_ok() && !self.is_over() {
            outcome = step(&mut self.random);
            ticket.step();
            self.interrupt_one();
            match self.random.below(16) {
                0 => time::sleep(Duration::from_micros(self.random.below(400))),
                1..4 => thread::yield_now(),
                _ => {}
            }
        }
        set_priority(PRIORITY_DEFAULT);
        self.shared.steps.fetch_add(ticket.steps(), Ordering::Relaxed);
        outcome
    }

    /// Now and then interrupts a helper, whatever it does at the moment.
    fn interrupt_one(&mut self) {
        let chosen = self.random.below(8 * self.helpers.len().max(1) as u64);
        if let Some(helper) = self.helpers.get(chosen as usize) {
            // One that has ended cannot be interrupted.
            let _ = syscall::virq_post(helper.handle(), INTERRUPT);
        }
    }

    /// True if the round's time is over or a member has failed.
    fn is_over(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed) || time::now() >= self.round.deadline
    }

    /// Ends the helpers.
    pub fn finish(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for helper in self.helpers.drain(..) {
            if helper.join().is_none() {
                let lost = Problem::Wrong(String::from("a helper ended without a word"));
                self.shared.fail(self.family, &lost);
            }
        }
    }

    /// Plays a family to its end: what went wrong first, if anything did, and the steps that were made.
    pub fn play(mut self, family: fn(&mut Team) -> Outcome) -> (Result<(), String>, u64) {
        let outcome = family(&mut self);
        self.finish();
        if let Err(problem) = outcome {
            self.shared.fail(&format!("{}, leader", self.family), &problem);
        }
        let problem = self.shared.problem.lock().take();
        (
            problem.map_or(Ok(()), Err),
            self.shared.steps.load(Ordering::Relaxed),
        )
    }
}

/// Own priority. A refusal changes only who runs when.
fn set_priority(priority: u64) {
    let _ = syscall::thread_control(Handle::SELF_THREAD, ThreadControl::SetPriority, priority);
}
