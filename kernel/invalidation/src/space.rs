//! A set of translations: its generation and the CPUs that use it.

use crate::Word;
use core::sync::atomic::{AtomicU64, Ordering};

/// CPUs that the protocol can tell apart: one bit of a word each.
pub const MAX_CPUS: usize = 64;

/// What CPUs must know about one page table. Its id is never given to another space, so what a CPU remembers about a space that is
/// gone can never be taken for something about its successor, even if that has the same root page.
#[derive(Debug)]
#[repr(align(128))]
pub struct Space<W> {
    id: u64,
    /// Invalidations so far. Raised after the table has changed and before the active set is read.
    generation: W,
    /// CPUs that use the space now, a bit each. A CPU sets its bit before it reads the generation.
    active: W,
}

impl<W: Word> Space<W> {
    /// A space that nobody uses. `id` is not 0 and is used once.
    #[must_use]
    pub fn new(id: u64) -> Self {
        debug_assert!(id != 0);
        Space {
            id,
            generation: W::new(1),
            active: W::new(0),
        }
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// CPUs that use it now, a bit each.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.active.load(Ordering::SeqCst)
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// A read-modify-write, so that on x86 the changes of the table come before whatever follows.
    pub(crate) fn raise_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn activate(&self, cpu: usize) {
        self.active.fetch_or(1 << cpu, Ordering::SeqCst);
    }

    pub(crate) fn deactivate(&self, cpu: usize) {
        self.active.fetch_and(!(1 << cpu), Ordering::SeqCst);
    }
}

impl Space<AtomicU64> {
    /// [`Self::new`] for constants.
    #[must_use]
    pub const fn new_const(id: u64) -> Self {
        Space {
            id,
            generation: AtomicU64::new(1),
            active: AtomicU64::new(0),
        }
    }
}
