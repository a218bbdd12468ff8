//! The gate in front of a guest.

use core::sync::atomic::Ordering;
use invalidation::Word;

/// Closed while somebody needs every CPU to be out of the guest.
///
/// It is closed before the invalidation that drives the CPUs out, and looked at after a CPU's bits in the active sets are set, so
/// that one of both sees the other: each side writes, has a full barrier (that of `invalidation::Machine`), and reads.
#[derive(Debug)]
pub struct Gate<W>(W);

const OPEN: u64 = 0;
const CLOSED: u64 = 1;

impl<W: Word> Gate<W> {
    /// Open.
    #[must_use]
    pub fn new() -> Self {
        Gate(W::new(OPEN))
    }

    pub(crate) fn close(&self) {
        self.0.store(CLOSED, Ordering::SeqCst);
    }

    /// What was done while it was closed is seen by whoever finds it open.
    pub(crate) fn open(&self) {
        self.0.store(OPEN, Ordering::Release);
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.0.load(Ordering::SeqCst) != OPEN
    }
}

impl<W: Word> Default for Gate<W> {
    fn default() -> Self {
        Self::new()
    }
}
