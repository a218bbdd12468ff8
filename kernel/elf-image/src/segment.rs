//! One checked loadable segment.

use crate::PAGE_SIZE;
use core::ops::Range;

/// What accesses a segment allows. Never writable and executable at once, never writable without readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Loads.
    pub read: bool,
    /// Stores.
    pub write: bool,
    /// Instruction fetches.
    pub execute: bool,
}

/// A run of memory that begins with bytes of the file and continues with zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Address of the first byte, load bias included. Need not be page-aligned.
    pub address: u64,
    /// Bytes in memory, above 0.
    pub memory_size: u64,
    /// Offset of the first byte in the file; equal to `address` modulo [`PAGE_SIZE`].
    pub file_offset: u64,
    /// Bytes in the file, at most `memory_size`.
    pub file_size: u64,
    /// Allowed accesses.
    pub protection: Protection,
}

impl Segment {
    /// The whole pages that the segment occupies.
    #[must_use]
    pub const fn pages(&self) -> Range<u64> {
        let end = self.address + self.memory_size;
        self.address & !(PAGE_SIZE - 1)..(end + PAGE_SIZE - 1) & !(PAGE_SIZE - 1)
    }

    /// Addresses of the bytes that come from the file.
    #[must_use]
    pub const fn file_addresses(&self) -> Range<u64> {
        self.address..self.address + self.file_size
    }

    /// The bytes of the segment in the file from which the plan was made.
    ///
    /// Empty if `file` is a shorter one than that.
    #[must_use]
    pub fn bytes<'file>(&self, file: &'file [u8]) -> &'file [u8] {
        let start = usize::try_from(self.file_offset).unwrap_or(usize::MAX);
        let length = usize::try_from(self.file_size).unwrap_or(usize::MAX);
        start
            .checked_add(length)
            .and_then(|end| file.get(start..end))
            .unwrap_or(&[])
    }

    /// True if `address` is inside the segment's memory.
    #[must_use]
    pub const fn contains(&self, address: u64) -> bool {
        address >= self.address && address - self.address < self.memory_size
    }
}
