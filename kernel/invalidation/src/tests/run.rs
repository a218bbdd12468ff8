//! Running programs under shuttle.

use super::driver::Rig;
use super::driver::cpu::Core;
use super::driver::vmspace::Vmspace;
use super::fault;
use super::program::{Program, ROOT, first_table};
use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// Steps of one run at most: more means that CPUs wait for each other for ever.
const MOST_STEPS: usize = 200_000;

/// Counts of what happened, over runs.
pub type Events = BTreeMap<&'static str, u64>;

/// One run of a program, on the schedule of the calling shuttle thread.
fn execute(program: &Program) -> Events {
    fault::forget_phases();
    let rig = Arc::new(Rig::new(program.cpus.len(), program.features));
    let at_rest = rig.hardware().memory.used();
    for ((page, index), word) in first_table() {
        rig.hardware().write_frame(rig.ram[page], index, word);
    }
    for slot in 0..2 {
        rig.replace_slot(slot, Some(Vmspace::new(&rig, ROOT)));
    }
    let threads: Vec<_> = (0..program.cpus.len())
        .map(|index| {
            let (rig, operations) = (Arc::clone(&rig), program.cpus[index].clone());
            shuttle::thread::spawn(move || {
                let mut core = Core::new(rig, index);
                core.run(&operations);
                core.finish();
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("a CPU ends");
    }
    assert_eq!(rig.hardware().memory.used(), at_rest, "pages did not come back");
    std::mem::take(&mut rig.hardware().events)
}

impl Core {
    /// Goes on as a program that does nothing until all others do, then leaves everything, and answers until all have.
    fn finish(&mut self) {
        let rig = Arc::clone(&self.rig);
        self.set_mode(self.idle_mode());
        rig.running.fetch_sub(1, Ordering::SeqCst);
        self.idle_while(|| rig.running.load(Ordering::SeqCst) != 0);
        self.switch_to(None);
        for slot in 0..super::driver::SLOTS {
            if let Some(space) = rig.replace_slot(slot, None) {
                self.put(space);
            }
        }
        rig.leaving.fetch_sub(1, Ordering::SeqCst);
        self.idle_while(|| rig.leaving.load(Ordering::SeqCst) != 0);
    }
}

/// Runs `program` on `schedules` schedules from `seed` on.
///
/// # Errors
/// What was wrong, with the seed of the schedule on which it was.
pub fn run(program: &Program, seed: u64, schedules: u64) -> Result<Events, String> {
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(MOST_STEPS);
    config.silence_warnings = true;
    config.stack_size = 0x2_0000;
    let total = Arc::new(Mutex::new(Events::new()));
    let last = Arc::new(Mutex::new(seed));
    let scheduler = Sticky {
        next: seed,
        end: seed + schedules,
        last: Arc::clone(&last),
        random: 0,
        stay: 0,
    };
    let (sum, program) = (Arc::clone(&total), program.clone());
    let work = move || {
        let events = execute(&program);
        let mut sum = sum.lock().expect("no panic with the lock");
        for (name, count) in events {
            *sum.entry(name).or_default() += count;
        }
    };
    let runner = Runner::new(scheduler, config);
    match catch_unwind(AssertUnwindSafe(|| runner.run(work))) {
        Ok(_) => Ok(std::mem::take(&mut total.lock().expect("the runs are over"))),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_default();
            let seed = *last.lock().expect("the run is over");
            Err(format!("schedule {seed}: {text}"))
        }
    }
}

/// Random schedules in which a CPU goes on for some steps before another one comes: how many differs from one schedule to
/// the next, since some faults need long stretches and others short ones. A schedule is its seed.
struct Sticky {
    next: u64,
    end: u64,
    last: Arc<Mutex<u64>>,
    random: u64,
    /// Of 256 steps so many are by the CPU that made the one before.
    stay: u64,
}

impl Scheduler for Sticky {
    fn new_execution(&mut self) -> Option<Schedule> {
        if self.next == self.end {
            return None;
        }
        *self.last.lock().expect("nobody else has it now") = self.next;
        self.random = self.next;
        self.next += 1;
        self.stay = [0, 128, 224, 248][(self.next_u64() % 4) as usize];
        Some(Schedule::new(self.random))
    }

    fn next_task(&mut self, runnable: &[&Task], current: Option<TaskId>, yields: bool) -> Option<TaskId> {
        let random = self.next_u64();
        if let Some(current) = current.filter(|_| !yields && random % 256 < self.stay)
            && runnable.iter().any(|task| task.id() == current)
        {
            return Some(current);
        }
        let index = (random >> 32) as usize % runnable.len();
        Some(runnable[index].id())
    }

    /// SplitMix64.
    fn next_u64(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}
