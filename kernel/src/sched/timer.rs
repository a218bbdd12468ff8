//! Deadlines of threads: one ordered queue per CPU, and the hardware timer set to the earliest.

use super::cpu::quantum_end;
use super::park::unpark;
use super::task::{Schedulable, Task};
use super::{switch, work};
use crate::arch::irq::{IrqGuard, IrqsOff};
use crate::arch::{apic, clock, cpu};
use crate::debug::counters;
use crate::sync::{Rank, SpinLock};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::counters::Counter;
use dragonet_abi::time::FOREVER;

/// Names a timer that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerKey {
    cpu: usize,
    deadline: u64,
    sequence: u64,
}

type Entries = BTreeMap<(u64, u64), (Arc<dyn Schedulable>, u8)>;

struct TimerQueue {
    entries: Entries,
    next_sequence: u64,
}

static QUEUES: [SpinLock<TimerQueue>; cpu::MAX_CPUS] = [const {
    SpinLock::new(
        Rank::Timer,
        TimerQueue {
            entries: BTreeMap::new(),
            next_sequence: 0,
        },
    )
}; cpu::MAX_CPUS];

/// What the hardware timer of each CPU is set to, to leave it alone when nothing earlier comes.
static ARMED: [AtomicU64; cpu::MAX_CPUS] = [const { AtomicU64::new(FOREVER) }; cpu::MAX_CPUS];

/// Starts a timer on this CPU: at `deadline` the thread is unparked ([`Task::TIMER_PARK`]) or told by `timer_expired`.
pub fn start_timer(deadline: u64, thread: Arc<dyn Schedulable>, kind: u8) -> TimerKey {
    let guard = IrqGuard::new();
    let cpu = cpu::index();
    let key = {
        let mut queue = QUEUES[cpu].lock();
        let sequence = queue.next_sequence;
        queue.next_sequence += 1;
        queue.entries.insert((deadline, sequence), (thread, kind));
        TimerKey {
            cpu,
            deadline,
            sequence,
        }
    };
    arm_at_most(guard.witness(), deadline);
    key
}

/// Stops a timer. False if it has passed already.
pub fn stop_timer(key: TimerKey) -> bool {
    let removed = QUEUES[key.cpu]
        .lock()
        .entries
        .remove(&(key.deadline, key.sequence));
    removed.is_some()
}

/// Sets this CPU's hardware timer to `deadline` unless it will fire earlier.
pub(super) fn arm_at_most(_irqs: &IrqsOff, deadline: u64) {
    let armed = &ARMED[cpu::index()];
    if deadline < armed.load(Ordering::Relaxed) {
        armed.store(deadline, Ordering::Relaxed);
        apic::arm_timer(deadline);
    }
}

/// The hardware timer of this CPU has fired.
pub fn on_timer_interrupt(irqs: &IrqsOff) {
    counters::count(Counter::TimerInterrupt);
    let index = cpu::index();
    ARMED[index].store(FOREVER, Ordering::Relaxed);
    let now = clock::now();
    while let Some((thread, kind)) = take_expired(index, now) {
        if kind == Task::TIMER_PARK {
            unpark(&thread);
        } else if let Some(next) = thread.clone().timer_expired(kind, now) {
            start_timer(next, thread, kind);
        }
    }
    if quantum_end(index) <= now {
        switch::request(irqs, work::RESCHEDULE);
    }
    let earliest = QUEUES[index]
        .lock()
        .entries
        .keys()
        .next()
        .map_or(FOREVER, |&(deadline, _)| deadline);
    let quantum = quantum_end(index);
    let quantum = if quantum <= now { FOREVER } else { quantum };
    arm_at_most(irqs, earliest.min(quantum));
}

fn take_expired(cpu: usize, now: u64) -> Option<(Arc<dyn Schedulable>, u8)> {
    let mut queue = QUEUES[cpu].lock();
    let first = queue.entries.first_entry()?;
    (first.key().0 <= now).then(|| first.remove())
}
