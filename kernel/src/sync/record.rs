//! Which locks a CPU takes between two points: how a test shows that two paths share none.
//!
//! Debug builds only: in a release build [`note`] is nothing and [`locks_of`] finds nothing.

use super::Rank;
use crate::arch::cpu;
use crate::arch::irq::IrqGuard;
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// True if this build records.
pub const RECORDS: bool = cfg!(debug_assertions);

/// Locks that one record holds; of more, the first ones.
pub const MOST: usize = 64;

/// A lock that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Address of the lock.
    pub lock: usize,
    /// Its [`Rank`], as a number.
    pub rank: u8,
}

/// `count` while nobody records.
const OFF: usize = usize::MAX;

/// What one CPU has taken. Used with interrupts off by its own CPU alone.
struct Record {
    count: AtomicUsize,
    locks: [AtomicUsize; MOST],
    ranks: [AtomicU8; MOST],
}

static RECORDS_OF_CPUS: [Record; cpu::MAX_CPUS] = [const {
    Record {
        count: AtomicUsize::new(OFF),
        locks: [const { AtomicUsize::new(0) }; MOST],
        ranks: [const { AtomicU8::new(0) }; MOST],
    }
}; cpu::MAX_CPUS];

/// Notes that this CPU takes the lock at `lock`. Interrupts are off.
#[inline]
pub(super) fn note(lock: usize, rank: Rank) {
    if !RECORDS {
        return;
    }
    let record = &RECORDS_OF_CPUS[cpu::index()];
    let count = record.count.load(Ordering::Relaxed);
    if let (Some(place), Some(number)) = (record.locks.get(count), record.ranks.get(count)) {
        place.store(lock, Ordering::Relaxed);
        number.store(rank as u8, Ordering::Relaxed);
        record.count.store(count + 1, Ordering::Relaxed);
    }
}

/// Runs `action` with interrupts off and returns what it returned and the locks that it took on the way, in their order.
pub fn locks_of<R>(action: impl FnOnce() -> R) -> (R, ArrayVec<Taken, MOST>) {
    let _interrupts_off = IrqGuard::new();
    let mut taken = ArrayVec::new();
    if !RECORDS {
        return (action(), taken);
    }
    let record = &RECORDS_OF_CPUS[cpu::index()];
    record.count.store(0, Ordering::Relaxed);
    let result = action();
    let count = record.count.swap(OFF, Ordering::Relaxed);
    for (lock, rank) in record.locks.iter().zip(&record.ranks).take(count) {
        taken.push(Taken {
            lock: lock.load(Ordering::Relaxed),
            rank: rank.load(Ordering::Relaxed),
        });
    }
    (result, taken)
}
