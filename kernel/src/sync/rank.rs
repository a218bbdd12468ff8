//! The lock order: declared once, checked in debug builds.

use crate::arch::cpu;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};
use lock_order::{Held, Violation};

macro_rules! ranks {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Position of a lock in the order: a CPU that holds a lock may only take locks that stand below it in this list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Rank { $($(#[$doc])* $name,)* }

        impl Rank {
            const ALL: &'static [Rank] = &[$(Rank::$name,)*];
        }
    };
}

ranks! {
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
    /// Guest threads of one process, and changes of what they share.
    Guest,
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
    /// No lock: held, as it were, where none may be taken, see [`forbid_locks`].
    GuestEntry,
}

const _: () = assert!(Rank::ALL.len() <= lock_order::RANKS as usize);

/// Per CPU, the ranks that are held. A slot is used with interrupts off by its own CPU alone.
static HELD: [AtomicU32; cpu::MAX_CPUS] = [const { AtomicU32::new(0) }; cpu::MAX_CPUS];

fn held() -> Held {
    Held::from_bits(HELD[cpu::index()].load(Ordering::Relaxed))
}

fn note(held: Held) {
    HELD[cpu::index()].store(held.bits(), Ordering::Relaxed);
}

/// Ranks by name.
struct Names(Held);

impl fmt::Display for Names {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.ranks().filter_map(|rank| Rank::ALL.get(rank as usize));
        for (position, rank) in names.enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(formatter, "{separator}{rank:?}")?;
        }
        Ok(())
    }
}

/// A note that this CPU holds a lock of a rank, until it is dropped. Nothing in release builds.
#[must_use]
pub(super) struct Noted(Rank);

impl Noted {
    /// This CPU is about to take a lock of `rank`. Interrupts are off.
    #[inline]
    pub(super) fn acquire(rank: Rank) -> Self {
        if cfg!(debug_assertions) {
            match held().wait_for(rank as u32) {
                Ok(more) => note(more),
                Err(Violation { held, .. }) => {
                    panic!("lock order: taking {rank:?} while holding {}", Names(held))
                }
            }
        }
        Noted(rank)
    }

    /// It has taken one without waiting, which cannot deadlock and so needs no order.
    #[inline]
    pub(super) fn without_wait(rank: Rank) -> Self {
        if cfg!(debug_assertions) {
            note(held().without_waiting(rank as u32));
        }
        Noted(rank)
    }
}

impl Drop for Noted {
    #[inline]
    fn drop(&mut self) {
        if cfg!(debug_assertions) {
            note(held().release(self.0 as u32));
        }
    }
}

/// Panics in debug builds if this CPU holds any lock: called before a user copy and before switching threads.
pub fn assert_none_held(what: &str) {
    if cfg!(debug_assertions) && !crate::arch::irq::enabled() {
        let held = held();
        assert!(held.is_none(), "{what} while holding {}", Names(held));
    }
}

/// From here to [`allow_locks`] this CPU must take no lock: it is about to enter a guest with caches that it has made fit for that, and who
/// waits for a lock serves invalidations, which would be forgotten. Debug builds stop at the first one.
#[inline]
pub fn forbid_locks() {
    if cfg!(debug_assertions) {
        note(held().without_waiting(Rank::GuestEntry as u32));
    }
}

/// Ends what [`forbid_locks`] began.
#[inline]
pub fn allow_locks() {
    if cfg!(debug_assertions) {
        note(held().release(Rank::GuestEntry as u32));
    }
}

/// Panics in debug builds between [`forbid_locks`] and [`allow_locks`].
#[inline]
pub fn assert_locks_allowed(what: &str) {
    if cfg!(debug_assertions) {
        let forbidden = held().ranks().any(|rank| rank == Rank::GuestEntry as u32);
        assert!(
            !forbidden,
            "{what} between the preparation of a guest's entry and the exit"
        );
    }
}
