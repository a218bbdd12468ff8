//! The lock order: declared once, checked in debug builds.

use crate::arch::cpu;
use core::sync::atomic::{AtomicU32, Ordering};

/// Position of a lock in the order: a CPU that holds a lock may only take locks that stand below it in this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rank {
    /// Table of all processes.
    Processes,
    /// Life cycle and threads of one process.
    Process,
    /// Handle table of one process.
    Handles,
    /// A channel's queues.
    Channel,
    /// A thread's outstanding call.
    Call,
    /// A bucket of sleeping threads, by user word.
    Umtx,
    /// Threads that wait for one event.
    WaitQueue,
    /// Map of entries of one vmspace.
    VmspaceMap,
    /// Page tables of one vmspace.
    Pmap,
    /// Pages that leave one page tree.
    PageTree,
    /// Bindings of interrupt lines.
    Interrupt,
    /// Registers of the I/O APICs.
    InterruptController,
    /// A thread's guest context and other private state.
    Thread,
    /// Timers of one CPU.
    Timer,
    /// Run queue of one CPU.
    RunQueue,
    /// The kernel's own mappings.
    KernelMap,
    /// Large blocks of free frames, whose bookkeeping lives in the heap.
    Buddy,
    /// The kernel heap.
    Heap,
    /// Free frames.
    Frames,
    /// The log ring.
    Log,
    /// The serial line and the screen.
    Serial,
}

/// Per CPU, one bit for every rank that is held. A slot is used with interrupts off by its own CPU alone.
static HELD: [AtomicU32; cpu::MAX_CPUS] = [const { AtomicU32::new(0) }; cpu::MAX_CPUS];

/// Notes that this CPU is about to take a lock of `rank`. Interrupts are off.
pub(super) fn acquire(rank: Rank) {
    if cfg!(debug_assertions) {
        let held = &HELD[cpu::index()];
        let ranks = held.load(Ordering::Relaxed);
        let not_above = ranks >> rank as u32;
        assert!(
            not_above == 0,
            "lock order: taking {rank:?} while holding ranks {ranks:#b}"
        );
        held.store(ranks | 1 << rank as u32, Ordering::Relaxed);
    }
}

/// Notes a lock that was taken without waiting, which cannot deadlock and so needs no order.
pub(super) fn acquired_without_wait(rank: Rank) {
    if cfg!(debug_assertions) {
        HELD[cpu::index()].fetch_or(1 << rank as u32, Ordering::Relaxed);
    }
}

/// Notes that this CPU has let go of a lock of `rank`.
pub(super) fn release(rank: Rank) {
    if cfg!(debug_assertions) {
        HELD[cpu::index()].fetch_and(!(1 << rank as u32), Ordering::Relaxed);
    }
}

/// Panics in debug builds if this CPU holds any lock: called before a user copy and before switching threads.
pub fn assert_none_held(what: &str) {
    if cfg!(debug_assertions) && !crate::arch::irq::enabled() {
        let ranks = HELD[cpu::index()].load(Ordering::Relaxed);
        assert!(ranks == 0, "{what} while holding ranks {ranks:#b}");
    }
}
