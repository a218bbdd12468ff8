//! The scheduler's state of each CPU, and where a thread that becomes ready goes.

use super::current;
use super::task::{Schedulable, State, Task};
use super::{QUANTUM, switch, timer, work};
use crate::arch::apic::{self, Vector};
use crate::arch::irq::{IrqGuard, IrqsOff};
use crate::arch::{clock, cpu};
use crate::debug::counters;
use crate::sync::{Rank, SpinLock, SpinLockGuard};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use dragonet_abi::counters::Counter;
use dragonet_abi::time::FOREVER;
use run_queue::RunQueue;

/// One CPU as the scheduler sees it. Aligned so that no two CPUs share a cache line.
#[repr(align(128))]
pub(super) struct CpuScheduler {
    queue: SpinLock<RunQueue<Arc<dyn Schedulable>>>,
    idle: spin::Once<Arc<dyn Schedulable>>,
    /// Priority of the current thread; [`IDLE`] when idle. Read by other CPUs as a hint.
    current_priority: AtomicU8,
    /// When the current thread must let others of its priority run; FOREVER while there are none.
    quantum_end: AtomicU64,
    /// The thread that was just switched away from, until the next one has put it away.
    pub(super) previous: SpinLock<Option<(Arc<dyn Schedulable>, switch::After)>>,
    ready: AtomicUsize,
}

const IDLE: u8 = u8::MAX;

static CPUS: [CpuScheduler; cpu::MAX_CPUS] = [const {
    CpuScheduler {
        queue: SpinLock::new(Rank::RunQueue, RunQueue::new()),
        idle: spin::Once::new(),
        current_priority: AtomicU8::new(0),
        quantum_end: AtomicU64::new(FOREVER),
        previous: SpinLock::new(Rank::KernelMap, None),
        ready: AtomicUsize::new(0),
    }
}; cpu::MAX_CPUS];

/// CPUs that schedule, a bit each.
static ONLINE: AtomicU64 = AtomicU64::new(0);
/// CPUs that have nothing to do, a bit each: a hint for wake-ups.
static IDLE_CPUS: AtomicU64 = AtomicU64::new(0);

/// CPUs that schedule, a bit each.
pub fn online_mask() -> u64 {
    ONLINE.load(Ordering::Relaxed)
}

/// Ready and running threads of a CPU.
pub fn load(index: usize) -> usize {
    CPUS.get(index).map_or(0, |cpu| {
        let running = usize::from(cpu.current_priority.load(Ordering::Relaxed) != IDLE);
        cpu.ready.load(Ordering::Relaxed) + running
    })
}

/// Makes the code that runs on the boot CPU its idle thread. Call once, before any other function of the scheduler.
///
/// # Panics
/// If memory is exhausted.
pub fn init(idle: Arc<dyn Schedulable>) {
    init_secondary(idle);
}

/// The same for every further CPU, called on it.
pub fn init_secondary(idle: Arc<dyn Schedulable>) {
    let guard = IrqGuard::new();
    let cpu = this(guard.witness());
    idle.task().set_state(State::Running);
    cpu.idle.call_once(|| idle.clone());
    cpu.current_priority.store(IDLE, Ordering::Relaxed);
    let before = current::replace(guard.witness(), idle);
    assert!(before.is_none(), "the scheduler was started twice on one CPU");
    ONLINE.fetch_or(1 << cpu::index(), Ordering::SeqCst);
}

/// The state of the CPU that runs this code.
pub(super) fn this(_irqs: &IrqsOff) -> &'static CpuScheduler {
    &CPUS[cpu::index()]
}

/// True if a thread may run on a CPU: its affinity names it, or none that is there.
pub(super) fn may_run_on(thread: &dyn Schedulable, index: usize) -> bool {
    let affinity = thread.task().affinity();
    affinity >> index & 1 != 0 || affinity & ONLINE.load(Ordering::Relaxed) == 0
}

/// When the current thread of a CPU must let others run.
pub(super) fn quantum_end(index: usize) -> u64 {
    CPUS[index].quantum_end.load(Ordering::Relaxed)
}

/// Puts a thread that is switched out into the queue of the best CPU, and makes that CPU look.
pub fn make_ready(thread: Arc<dyn Schedulable>) {
    let guard = IrqGuard::new();
    let here = cpu::index();
    let task = thread.task();
    let target = choose(task.affinity(), task.cpu(), here);
    if target != task.cpu.swap(target, Ordering::Relaxed) {
        counters::count(Counter::Migration);
    }
    task.set_state(State::Ready);
    let priority = task.priority();
    let cpu = &CPUS[target];
    let (was_empty, running) = {
        let mut queue = cpu.queue.lock();
        let was_empty = queue.is_empty();
        queue.push(usize::from(priority), thread);
        cpu.ready.store(queue.len(), Ordering::Relaxed);
        // Read under the lock under which `pick` writes it and an idle CPU takes its last look: whoever chose before this
        // push is known here, and whoever chooses after it sees the thread.
        (was_empty, cpu.current_priority.load(Ordering::Relaxed))
    };
    let preempts = running == IDLE || priority > running;
    if target == here {
        if preempts {
            switch::request(guard.witness(), work::RESCHEDULE);
        } else if was_empty {
            start_quantum(guard.witness(), clock::now());
        }
    } else if preempts || was_empty {
        cpu::by_index(target).request_work(work::RESCHEDULE);
        apic::send(target, Vector::Reschedule);
    }
}

/// The CPU for a thread: the last one if it is idle, else an idle one, else the last one, else the least loaded.
fn choose(affinity: u64, last: usize, here: usize) -> usize {
    let online = ONLINE.load(Ordering::Relaxed);
    let allowed = if affinity & online != 0 {
        affinity & online
    } else {
        online
    };
    let idle = IDLE_CPUS.load(Ordering::Relaxed) & allowed;
    let last_bit = 1u64 << last;
    if idle & last_bit != 0 {
        last
    } else if idle != 0 {
        // Start the search behind the waking CPU, so that wake-ups from many CPUs spread.
        let rotated = idle.rotate_right(here as u32 + 1);
        (rotated.trailing_zeros() as usize + here + 1) % 64
    } else if allowed & last_bit != 0 {
        last
    } else {
        (0..cpu::MAX_CPUS)
            .filter(|&index| allowed >> index & 1 != 0)
            .min_by_key(|&index| load(index))
            .unwrap_or(here)
    }
}

/// Gives the current thread a quantum from `now` on, since others wait.
fn start_quantum(irqs: &IrqsOff, now: u64) {
    let end = now + QUANTUM;
    this(irqs).quantum_end.store(end, Ordering::Relaxed);
    timer::arm_at_most(irqs, end);
}

impl CpuScheduler {
    /// Takes the next thread of this CPU with at least this priority.
    pub(super) fn pick(&self, minimum: usize) -> Option<Arc<dyn Schedulable>> {
        let mut queue = self.queue.lock();
        let next = queue.pop(minimum);
        self.ready.store(queue.len(), Ordering::Relaxed);
        if let Some(next) = &next {
            // It will run: whoever queues another thread from here on compares it with this one.
            self.current_priority
                .store(next.task().priority(), Ordering::Relaxed);
        }
        next
    }

    /// Takes a thread from the longest queue that has one for this CPU, for a CPU that would idle.
    pub(super) fn steal(&self, here: usize) -> Option<Arc<dyn Schedulable>> {
        let mut untried = ONLINE.load(Ordering::Relaxed) & !(1 << here);
        loop {
            let (_, victim) = (0..cpu::MAX_CPUS)
                .filter(|&index| untried >> index & 1 != 0)
                .map(|index| (CPUS[index].ready.load(Ordering::Relaxed), index))
                .filter(|&(ready, _)| ready > 0)
                .max()?;
            untried &= !(1 << victim);
            let mut queue: SpinLockGuard<'_, _> = CPUS[victim].queue.lock();
            let taken = queue.take_first(|thread| thread.task().affinity() >> here & 1 != 0);
            CPUS[victim].ready.store(queue.len(), Ordering::Relaxed);
            drop(queue);
            if let Some(thread) = taken {
                thread.task().cpu.store(here, Ordering::Relaxed);
                counters::count(Counter::Migration);
                return Some(thread);
            }
        }
    }

    /// The thread that runs when there is no other.
    pub(super) fn idle(&self) -> &Arc<dyn Schedulable> {
        self.idle.get().expect("the scheduler was started on this CPU")
    }

    /// Notes what runs from `now` on, and starts its quantum if others wait.
    pub(super) fn note_current(&self, irqs: &IrqsOff, thread: &Arc<dyn Schedulable>, task: &Task, now: u64) {
        let idle = Arc::ptr_eq(thread, self.idle());
        let priority = if idle { IDLE } else { task.priority() };
        self.current_priority.store(priority, Ordering::Relaxed);
        self.quantum_end.store(FOREVER, Ordering::Relaxed);
        if !idle && self.ready.load(Ordering::Relaxed) > 0 {
            start_quantum(irqs, now);
        }
    }

    /// The current thread goes on, with this priority: starts a quantum if others wait and none runs yet, or the last is over.
    pub(super) fn go_on(&self, irqs: &IrqsOff, priority: u8) {
        self.current_priority.store(priority, Ordering::Relaxed);
        let end = self.quantum_end.load(Ordering::Relaxed);
        if self.ready.load(Ordering::Relaxed) == 0 {
            self.quantum_end.store(FOREVER, Ordering::Relaxed);
            return;
        }
        let now = clock::now();
        if end == FOREVER || end <= now {
            start_quantum(irqs, now);
        }
    }

    /// Announces that this CPU will sleep, and says whether it may: nothing is ready.
    pub(super) fn prepare_idle(&self, index: usize) -> bool {
        IDLE_CPUS.fetch_or(1 << index, Ordering::SeqCst);
        self.queue.lock().is_empty()
    }

    /// Takes the announcement back.
    pub(super) fn end_idle(&self, index: usize) {
        IDLE_CPUS.fetch_and(!(1 << index), Ordering::SeqCst);
    }
}
