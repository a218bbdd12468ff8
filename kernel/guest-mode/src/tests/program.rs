//! What CPUs do, and running it under shuttle.

use super::fault;
use super::machine::{Core, Machinery, SpinLock};
use super::thread::{ATTENTION, Around, Guest, Nested, PREEMPT, Process, Step};
use crate::{Departure, Members, Role, run};
use page_table::FlushSet;
use shuttle::scheduler::RandomScheduler;
use shuttle::sync::atomic::AtomicU64;
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// Threads that programs know by number.
pub const SLOTS: usize = 3;
/// Steps of one run at most: more means that CPUs wait for each other for ever.
const MOST_STEPS: usize = 20_000;

/// One thing that a CPU does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A thread becomes a guest, as master or not, if it is none.
    Create(usize, bool),
    /// The CPU runs a thread, if it is a guest that runs nowhere, until it leaves guest mode, ends, or is preempted.
    Run(usize, Vec<Step>),
    /// Asks another CPU to run something else.
    Preempt(usize),
    /// Waits until a thread runs, or until it runs nowhere.
    Await(usize, bool),
    /// Does nothing for so many steps.
    Rest(usize),
    /// Kills a thread.
    Kill(usize),
    /// Changes the guests' page table and invalidates it: a page, or everything.
    Invalidate(bool),
    /// Takes memory away from the process.
    Unmap,
    /// Changes the guests' page table with every CPU out of the guest.
    Alone,
}

/// What each CPU does.
#[derive(Clone, Debug)]
pub struct Program {
    /// Guests' page tables have identifiers.
    pub identifiers: bool,
    pub cpus: Vec<Vec<Operation>>,
}

/// A thread.
struct Thread {
    /// Its guest, while it runs nowhere.
    guest: Mutex<Option<Guest>>,
    killed: AtomicU64,
    /// Number of the CPU that runs it + 1, or [`CREATED`], or 0.
    running: AtomicU64,
}

/// A thread is becoming a guest.
const CREATED: u64 = u64::MAX;

/// What all CPUs share.
pub struct Rig {
    pub machinery: Arc<Machinery>,
    pub process: Arc<Process>,
    pub nested: Nested,
    pub identifiers: bool,
    nested_lock: SpinLock<()>,
    threads: Vec<Thread>,
    /// CPUs that are not done, in each of two rounds.
    rounds: [AtomicU64; 2],
}

/// What happened, to see that something did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub entries: u64,
    pub accesses: u64,
    pub moves: u64,
}

impl Rig {
    fn new(program: &Program) -> Self {
        let cpus = program.cpus.len();
        Rig {
            machinery: Arc::new(Machinery::new(cpus)),
            process: Arc::new(Process::new(SpinLock::<Members>::default(), 1)),
            nested: Nested::new(1),
            identifiers: program.identifiers,
            nested_lock: SpinLock::default(),
            threads: (0..SLOTS)
                .map(|_| Thread {
                    guest: Mutex::new(None),
                    killed: AtomicU64::new(0),
                    running: AtomicU64::new(0),
                })
                .collect(),
            rounds: [(); 2].map(|()| AtomicU64::new(cpus as u64)),
        }
    }

    fn perform(self: &Arc<Self>, core: &Rc<Core>, operation: &Operation) {
        core.poll();
        match operation {
            &Operation::Create(slot, master) => self.create(slot, master),
            Operation::Run(slot, steps) => self.run(core, *slot, steps),
            &Operation::Preempt(cpu) => self.ask(core, cpu % self.machinery.work.len(), PREEMPT),
            &Operation::Await(slot, runs) => {
                let running = &self.threads[slot].running;
                while matches!(running.load(Ordering::SeqCst), 0 | CREATED) == runs {
                    core.poll();
                    shuttle::thread::yield_now();
                }
            }
            &Operation::Rest(steps) => (0..steps).for_each(|_| core.poll()),
            &Operation::Kill(slot) => {
                let thread = &self.threads[slot];
                thread.killed.store(1, Ordering::SeqCst);
                let running = thread.running.load(Ordering::SeqCst);
                if let Some(cpu) = running.checked_sub(1).filter(|_| running != CREATED) {
                    self.ask(core, cpu as usize, ATTENTION);
                }
            }
            &Operation::Invalidate(everything) => {
                let mut set = FlushSet::nothing();
                set.add(0x5000);
                if everything {
                    set = FlushSet::everything();
                }
                let version = core.hardware().linear.change();
                self.process.invalidate(&set);
                core.hardware().linear.promise(version);
            }
            Operation::Unmap => {
                let held = self.nested_lock.lock();
                let version = core.hardware().nested.change();
                core.invalidate(&self.nested);
                core.hardware().nested.promise(version);
                drop(held);
            }
            Operation::Alone => {
                let version = self.process.alone(|| {
                    core.hardware().set_alone(true);
                    (0..4).for_each(|_| core.step());
                    let version = core.hardware().linear.change();
                    (0..4).for_each(|_| core.step());
                    core.hardware().set_alone(false);
                    version
                });
                core.hardware().linear.promise(version);
            }
        }
    }

    fn ask(&self, core: &Core, cpu: usize, bits: u64) {
        self.machinery.work[cpu].fetch_or(bits, Ordering::SeqCst);
        if cpu != core.index {
            core.hardware().interrupt(cpu);
        }
    }

    fn create(self: &Arc<Self>, slot: usize, master: bool) {
        let thread = &self.threads[slot];
        let mine = thread
            .running
            .compare_exchange(0, CREATED, Ordering::SeqCst, Ordering::SeqCst);
        if mine.is_err() {
            return;
        }
        let taken = thread.guest.lock().expect("no CPU died").is_some();
        if !taken {
            let role = if master { Role::Master } else { Role::Slave };
            if let Ok(membership) = self.process.join(role) {
                thread.killed.store(0, Ordering::SeqCst);
                let guest = Guest::new(self, membership);
                *thread.guest.lock().expect("no CPU died") = Some(guest);
            }
        }
        thread.running.store(0, Ordering::SeqCst);
    }

    fn run(&self, core: &Rc<Core>, slot: usize, steps: &[Step]) {
        let thread = &self.threads[slot];
        let running = core.index as u64 + 1;
        let mine = thread
            .running
            .compare_exchange(0, running, Ordering::SeqCst, Ordering::SeqCst);
        if mine.is_err() {
            return;
        }
        let guest = thread.guest.lock().expect("no CPU died").take();
        if let Some(mut guest) = guest {
            // Who is switched in looks at himself first.
            self.machinery.work[core.index].fetch_or(ATTENTION, Ordering::SeqCst);
            let mut around = Around::new(core, &thread.killed, steps);
            let departure = run(&mut guest, &mut around);
            if departure == Departure::Ends && around.preempted {
                *thread.guest.lock().expect("no CPU died") = Some(guest);
            } else {
                drop(guest);
            }
        }
        thread.running.store(0, Ordering::SeqCst);
    }

    /// Answers until all CPUs have come to the end of the round.
    fn finish_round(&self, core: &Core, round: usize) {
        self.rounds[round].fetch_sub(1, Ordering::SeqCst);
        while self.rounds[round].load(Ordering::SeqCst) != 0 {
            core.poll();
            shuttle::thread::yield_now();
        }
    }
}

/// One run of a program, on the schedule of the calling shuttle thread.
fn execute(program: &Program) -> Counts {
    let rig = Arc::new(Rig::new(program));
    let cpus: Vec<_> = (0..program.cpus.len())
        .map(|index| {
            let (rig, operations) = (Arc::clone(&rig), program.cpus[index].clone());
            shuttle::thread::spawn(move || {
                let core = Core::begin(&rig.machinery, index);
                for operation in &operations {
                    rig.perform(&core, operation);
                }
                rig.finish_round(&core, 0);
                if index == 0 {
                    for thread in &rig.threads {
                        let guest = thread.guest.lock().expect("no CPU died").take();
                        drop(guest);
                    }
                    // All places came back: a master may come.
                    drop(rig.process.join(Role::Master).expect("nobody is left"));
                }
                rig.finish_round(&core, 1);
            })
        })
        .collect();
    for cpu in cpus {
        cpu.join().expect("a CPU ends");
    }
    assert_eq!(
        rig.process.linear().active(),
        0,
        "CPUs are in the active set of guests"
    );
    assert_eq!(
        rig.nested.active(),
        0,
        "CPUs are in the active set of the nested table"
    );
    let hardware = rig.machinery.hardware();
    assert_eq!(hardware.structures(), 0, "structures did not come back");
    Counts {
        entries: hardware.entries,
        accesses: hardware.accesses,
        moves: hardware.moves,
    }
}

/// Runs `body` on `schedules` random schedules from `seed` on.
///
/// # Errors
/// What was wrong.
pub fn explore(seed: u64, schedules: usize, body: impl Fn() + Send + Sync + 'static) -> Result<(), String> {
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(MOST_STEPS);
    config.silence_warnings = true;
    config.stack_size = 0x2_0000;
    let runner = Runner::new(RandomScheduler::new_from_seed(seed, schedules), config);
    match catch_unwind(AssertUnwindSafe(|| runner.run(body))) {
        Ok(_) => Ok(()),
        Err(panic) => Err(panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()),
    }
}

/// Runs a program.
///
/// # Errors
/// What was wrong.
pub fn try_program(program: &Program, seed: u64, schedules: usize) -> Result<Counts, String> {
    let total = Arc::new(Mutex::new(Counts::default()));
    let (sum, program) = (Arc::clone(&total), program.clone());
    explore(seed, schedules, move || {
        let counts = execute(&program);
        let mut sum = sum.lock().expect("no panic with the lock");
        sum.entries += counts.entries;
        sum.accesses += counts.accesses;
        sum.moves += counts.moves;
    })?;
    Ok(*total.lock().expect("the runs are over"))
}

/// These operations are right, and wrong with each of these faults.
#[track_caller]
pub fn assert_right(faults: &[fault::Fault], schedules: usize, cpus: &[&[Operation]]) {
    let program = Program {
        identifiers: true,
        cpus: cpus.iter().map(|operations| operations.to_vec()).collect(),
    };
    fault::plant(None);
    let counts = try_program(&program, 0, schedules).expect("the program is right");
    assert!(counts.entries > 0 && counts.accesses > 0, "no guest ran");
    for &fault in faults {
        fault::plant(Some(fault));
        let found = try_program(&program, 0, schedules);
        fault::plant(None);
        assert!(found.is_err(), "{fault:?} makes no difference");
    }
}
