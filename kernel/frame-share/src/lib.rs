//! How many owners a frame of private memory has: the count behind copy-on-write.
//!
//! A frame in one tree of pages has a count of zero and costs nothing. A fork makes another tree an owner with
//! [`ShareCount::share`]; each owner gives its part back with [`ShareCount::release`], and whoever is told that it was the last
//! frees the frame. An owner may store to the frame in place only while [`ShareCount::is_shared`] says no.
//!
//! All of it is one word, changed by compare-and-swap: owners in different address spaces take no common lock. What
//! keeps the answer of `is_shared` true until the store is possible is the interlock of the owner's page table, see
//! docs/src/design/memory.md; `tests/protocol.rs` runs both together in every order. The kernel's `mm` keeps one count per frame.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU32, Ordering};

/// Set when the frame gets a second owner, cleared when the last one left makes it its own again.
const MARK: u32 = 1;
/// One owner beside the first.
const OTHER: u32 = 2;

/// The frame has as many owners as can be counted. Copy it instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Owners of one frame beside the first. All zero bits are a valid count of none.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct ShareCount(AtomicU32);

impl ShareCount {
    /// Owners beside the first at most.
    pub const MOST: u32 = u32::MAX / OTHER;

    /// One owner.
    #[must_use]
    pub const fn new() -> Self {
        ShareCount(AtomicU32::new(0))
    }

    /// Says that the frame has `others` owners, at most [`Self::MOST`], beside the first: for tests of what happens at the end of the
    /// range.
    pub fn pretend(&self, others: u32) {
        self.0.store(others * OTHER | MARK, Ordering::Relaxed);
    }

    /// True if somebody else owns the frame too. To an owner, *no* is an answer that only its own [`Self::share`] can change; *yes*
    /// may change at any time. All that former owners did with the frame happens before the answer *no*.
    #[must_use]
    #[inline]
    pub fn is_shared(&self) -> bool {
        self.0.load(Ordering::Acquire) >= OTHER
    }

    /// Adds an owner. Called by an owner, who keeps its own part meanwhile.
    ///
    /// # Errors
    /// [`Full`]; nothing is changed.
    pub fn share(&self) -> Result<(), Full> {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                count.checked_add(OTHER).map(|count| count | MARK)
            })
            .map(|_| ())
            .map_err(|_| Full)
    }

    /// Gives an owner's part back. True for the last one: nobody else has the frame, and the count is ready for its next use.
    #[must_use = "the last owner frees the frame"]
    #[inline]
    pub fn release(&self) -> bool {
        // As a rule a frame never was shared.
        if self.0.load(Ordering::Acquire) == 0 {
            return true;
        }
        let left = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
            count.checked_sub(OTHER)
        });
        match left {
            Ok(_) => false,
            Err(_) => {
                // The only owner left: nobody else changes the word.
                self.0.store(0, Ordering::Relaxed);
                true
            }
        }
    }

    /// Notes that the only owner makes the frame writable in place. True the first time since it was shared.
    #[inline]
    pub fn reuse(&self) -> bool {
        self.0.load(Ordering::Relaxed) == MARK
            && self
                .0
                .compare_exchange(MARK, 0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}
