//! On for all CPUs or for none, with several callers at once.

use super::fault::{Fault, OF_THE_SWITCH, plant, planted};
use super::machine::SharedWord;
use super::program::explore;
use crate::{Cpus, Switch, ThisCpu};
use invalidation::Word;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What goes wrong in an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Nothing,
    /// There is no memory for what CPUs need.
    NotPrepared,
    /// This CPU cannot be asked.
    NotStarted(usize),
    /// These refuse.
    Refused(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Error {
    NoMemory,
    Refused(u64),
}

/// A word whose faults are those of the switch.
#[derive(Debug)]
struct SwitchWord(SharedWord);

impl Word for SwitchWord {
    fn new(value: u64) -> Self {
        SwitchWord(SharedWord::new(value))
    }
    fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }
    fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, order);
    }
    fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.0.swap(value, order)
    }
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_add(value, order)
    }
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        let before = self.0.fetch_or(bits, order);
        // The stage: nobody else sets this bit here, since CPU 1 sets its own only after it is known to be on or to refuse.
        if planted(Fault::ChangeTogether) && TURNING.with(|turning| *turning.borrow()) {
            return 0;
        }
        before
    }
    fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
        self.0.fetch_and(bits, order)
    }
}

shuttle::thread_local! {
    /// The calling thread is a caller of `turn_on`, not a CPU that takes part.
    static TURNING: std::cell::RefCell<bool> = std::cell::RefCell::new(false);
}

struct World {
    switch: Switch<SwitchWord>,
    cpus: usize,
    /// CPUs on which it is on.
    on: AtomicU64,
    /// What goes wrong in the attempts that are to come, the last one first.
    troubles: Mutex<Vec<Trouble>>,
    now: Mutex<Trouble>,
    parts: Mutex<Vec<shuttle::thread::JoinHandle<()>>>,
    attempts: AtomicU64,
}

struct Caller(Arc<World>);

impl Cpus for Caller {
    type Error = Error;

    fn count(&self) -> usize {
        self.0.cpus
    }
    fn prepare(&self) -> Result<(), Error> {
        let on = self.0.on.load(Ordering::SeqCst);
        assert_eq!(
            on, 0,
            "an attempt begins with CPUs on, or while another one is made"
        );
        self.0.attempts.fetch_add(1, Ordering::SeqCst);
        let trouble = self
            .0
            .troubles
            .lock()
            .expect("nobody died")
            .pop()
            .unwrap_or(Trouble::Nothing);
        *self.0.now.lock().expect("nobody died") = trouble;
        if trouble == Trouble::NotPrepared {
            return Err(Error::NoMemory);
        }
        Ok(())
    }
    fn start(&self, cpu: usize) -> Result<(), Error> {
        let trouble = *self.0.now.lock().expect("nobody died");
        if trouble == Trouble::NotStarted(cpu) {
            return Err(Error::NoMemory);
        }
        let world = Arc::clone(&self.0);
        let part = shuttle::thread::spawn(move || {
            let refuses = matches!(trouble, Trouble::Refused(cpus) if cpus >> cpu & 1 != 0);
            world.switch.take_part(
                cpu,
                &Part {
                    world: &world,
                    cpu,
                    refuses,
                },
            );
        });
        self.0.parts.lock().expect("nobody died").push(part);
        Ok(())
    }
    fn wait(&self) {
        shuttle::thread::yield_now();
    }
    fn refused(&self, cpus: u64) -> Error {
        Error::Refused(cpus)
    }
}

struct Part<'world> {
    world: &'world World,
    cpu: usize,
    refuses: bool,
}

impl ThisCpu for Part<'_> {
    fn turn_on(&self) -> bool {
        if !self.refuses {
            let before = self.world.on.fetch_or(1 << self.cpu, Ordering::SeqCst);
            assert_eq!(before >> self.cpu & 1, 0, "CPU {} is turned on twice", self.cpu);
        }
        // Nobody learns of it.
        !self.refuses || planted(Fault::HideRefusal)
    }
    fn turn_off(&self) {
        assert!(!self.refuses, "a CPU that refused is turned off");
        if !planted(Fault::ForgetRollBack) {
            self.world.on.fetch_and(!(1 << self.cpu), Ordering::SeqCst);
        }
    }
    fn wait(&self) {
        shuttle::thread::yield_now();
    }
}

/// `callers` turn it on on `cpus` CPUs, each again until it is on, while attempts have these troubles.
fn turn_on(cpus: usize, callers: usize, troubles: &[Trouble]) {
    let world = Arc::new(World {
        switch: Switch::new(),
        cpus,
        on: AtomicU64::new(0),
        troubles: Mutex::new(troubles.iter().rev().copied().collect()),
        now: Mutex::new(Trouble::Nothing),
        parts: Mutex::new(Vec::new()),
        attempts: AtomicU64::new(0),
    });
    let failures = Arc::new(Mutex::new(Vec::new()));
    let threads: Vec<_> = (0..callers)
        .map(|_| {
            let (world, failures) = (Arc::clone(&world), Arc::clone(&failures));
            shuttle::thread::spawn(move || {
                TURNING.with(|turning| *turning.borrow_mut() = true);
                while let Err(error) = world.switch.turn_on(&Caller(Arc::clone(&world))) {
                    failures.lock().expect("nobody died").push(error);
                }
                let on = world.on.load(Ordering::SeqCst);
                assert_eq!(on, (1 << cpus) - 1, "it is on, they say");
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().expect("it ends"));
    let parts = std::mem::take(&mut *world.parts.lock().expect("nobody died"));
    parts.into_iter().for_each(|part| part.join().expect("it ends"));
    let expected: Vec<_> = troubles
        .iter()
        .map(|trouble| match trouble {
            Trouble::Refused(cpus) => Error::Refused(*cpus),
            _ => Error::NoMemory,
        })
        .collect();
    let mut failures = failures.lock().expect("nobody died").clone();
    // Callers write down their failures in any order.
    let order = |error: &Error| match error {
        Error::NoMemory => 0,
        Error::Refused(cpus) => *cpus,
    };
    failures.sort_by_key(order);
    let mut expected = expected;
    expected.sort_by_key(order);
    assert_eq!(
        failures, expected,
        "each trouble fails one attempt, and nothing else does"
    );
    let attempts = world.attempts.load(Ordering::SeqCst);
    assert_eq!(attempts, troubles.len() as u64 + 1, "it is turned on once");
}

const SCHEDULES: usize = 300;

fn cases() -> Vec<(usize, usize, &'static [Trouble])> {
    vec![
        (1, 1, &[]),
        (4, 1, &[Trouble::Refused(0b100)]),
        (3, 3, &[]),
        (2, 2, &[Trouble::Refused(0b10), Trouble::NotStarted(1)]),
        (
            3,
            2,
            &[
                Trouble::NotPrepared,
                Trouble::Refused(0b101),
                Trouble::NotStarted(0),
            ],
        ),
    ]
}

fn try_all() -> Result<(), String> {
    for (cpus, callers, troubles) in cases() {
        explore(7, SCHEDULES, move || turn_on(cpus, callers, troubles))
            .map_err(|text| format!("{cpus} CPUs, {callers} callers, {troubles:?}: {text}"))?;
    }
    Ok(())
}

#[test]
fn it_is_on_for_all_cpus_or_for_none() {
    plant(None);
    if let Err(text) = try_all() {
        panic!("{text}");
    }
}

#[test]
fn faults_in_turning_it_on_are_found() {
    for &fault in OF_THE_SWITCH {
        plant(Some(fault));
        let found = try_all();
        plant(None);
        match found {
            Err(text) => println!("{fault:?}: {text}"),
            Ok(()) => panic!("{fault:?} makes no difference"),
        }
    }
}
