//! Walk against invalidation: a result that was computed before an invalidation of its address is not entered after it.
//!
//! Whoever resolves a fault takes a [`Stamp`] *first*, then looks at the map, the objects and virtual page tables, and
//! enters the result under the lock of the page table only if [`Interlock::admits`] it. Whoever invalidates calls
//! [`Interlock::invalidate`] under that lock, after what it invalidates has changed. The last few ranges are remembered, so that
//! an invalidation elsewhere does not make a fault start over.

use core::ops::Range;

/// Point in time of an [`Interlock`]: how many invalidations had happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub u64);

/// Remembers recent invalidations of one address space. Lives under the lock of its page table.
#[derive(Debug)]
pub struct Interlock {
    count: u64,
    recent: [(u64, u64); Interlock::REMEMBERED],
}

impl Default for Interlock {
    fn default() -> Self {
        Self::new()
    }
}

impl Interlock {
    /// Ranges that are remembered; a stamp older than that is refused for any address.
    pub const REMEMBERED: usize = 16;

    /// Before the first invalidation.
    #[must_use]
    pub const fn new() -> Self {
        Interlock {
            count: 0,
            recent: [(0, 0); Self::REMEMBERED],
        }
    }

    /// The present.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        Stamp(self.count)
    }

    /// Notes an invalidation and returns the stamp that walks which begin after it may carry.
    pub fn invalidate(&mut self, range: &Range<u64>) -> Stamp {
        self.recent[(self.count % Self::REMEMBERED as u64) as usize] = (range.start, range.end);
        self.count += 1;
        Stamp(self.count)
    }

    /// True if nothing since `stamp` invalidated `address`.
    #[must_use]
    pub fn admits(&self, stamp: Stamp, address: u64) -> bool {
        self.admits_range(stamp, &(address..address + 1))
    }

    /// True if nothing since `stamp` invalidated any address of `range`.
    #[must_use]
    #[inline]
    pub fn admits_range(&self, stamp: Stamp, range: &Range<u64>) -> bool {
        let age = self.count - stamp.0.min(self.count);
        age <= Self::REMEMBERED as u64
            && (stamp.0..self.count).all(|number| {
                let (start, end) = self.recent[(number % Self::REMEMBERED as u64) as usize];
                !(start < range.end && range.start < end)
            })
    }
}
