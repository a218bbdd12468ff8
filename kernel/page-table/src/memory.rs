//! What the walker needs from its surroundings.

use crate::Usage;

/// Access to the entries of tables. Hardware may set accessed and dirty bits at the same time, so every access is atomic.
pub trait TableMemory {
    /// The entry.
    fn load(&self, table: u64, index: usize) -> u64;
    /// Writes an entry; everything written before is visible to whoever sees it.
    fn store(&self, table: u64, index: usize, entry: u64);
    /// Writes an entry and returns the one before.
    fn swap(&self, table: u64, index: usize, entry: u64) -> u64;
    /// Writes `new` if the entry is `old`.
    ///
    /// # Errors
    /// The entry that is there instead.
    fn compare_exchange(&self, table: u64, index: usize, old: u64, new: u64) -> Result<(), u64>;
}

/// Where table pages come from.
pub trait TableSource {
    /// A zeroed page, or `None` if memory is exhausted.
    fn allocate(&mut self) -> Option<u64>;
}

/// Takes what a removal found. The tables handed over may still be in use by page walkers of CPUs: they are freed only after
/// the owed flush.
pub trait Detached {
    /// A table of `level` that no entry points to any more, with all tables below it.
    fn table(&mut self, table: u64, level: u8);
    /// A leaf of `level` that is no longer there. It translated from `address`, aligned to the level's span, and `entry` has all that
    /// hardware ever recorded in it.
    fn leaf(&mut self, address: u64, entry: u64, level: u8);
}

/// Takes what a harvest found.
pub trait Harvest {
    /// A leaf of `level` that translates from `address`, aligned to the level's span, was used in these ways.
    fn leaf(&mut self, address: u64, level: u8, usage: Usage);
}

/// No page for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;
