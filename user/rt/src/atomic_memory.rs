//! Memory whose protection and contents may change at any time.

use crate::memory::Mapping;
use crate::syscall;
use core::sync::atomic::AtomicU64;
use dragonet_abi::Errno;
use dragonet_abi::memory::{Advice, Protection};

/// Private memory that is only ever reached through atomics, so that nothing breaks if it is protected or forgotten. An
/// access that its protection does not allow ends the program.
#[derive(Debug)]
pub struct AtomicMemory(Mapping);

impl AtomicMemory {
    /// New zeroed memory. `length` in bytes is rounded up to pages.
    ///
    /// # Errors
    /// `ENOMEM`, `EINVAL` for length 0.
    pub fn anonymous(length: u64) -> Result<Self, Errno> {
        Mapping::anonymous(length).map(AtomicMemory)
    }

    /// Address of the first byte.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.0.address()
    }

    /// Bytes, a multiple of the page size.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.0.length()
    }

    /// One aligned 64-bit word.
    ///
    /// # Errors
    /// `ERANGE` beyond the memory, `EINVAL` if `offset` is not a multiple of 8.
    pub fn word(&self, offset: u64) -> Result<&AtomicU64, Errno> {
        self.0.word(offset)
    }

    /// Changes which accesses are allowed.
    ///
    /// # Errors
    /// `ERANGE` beyond the memory, and those of `mprotect`.
    pub fn protect(&self, offset: u64, length: u64, protection: Protection) -> Result<(), Errno> {
        // SAFETY: there are no slices of the memory, which is reached through atomics alone.
        unsafe { self.0.protect(offset, length, protection) }
    }

    /// Drops the contents: what is read next is zero.
    ///
    /// # Errors
    /// `ERANGE` beyond the memory, `EINVAL` for a range that is not made of whole pages.
    pub fn forget(&self, offset: u64, length: u64) -> Result<(), Errno> {
        self.0.check(offset, length)?;
        // SAFETY: any contents will do for words that are reached through atomics alone.
        unsafe { syscall::madvise(self.0.address() + offset, length, Advice::DontNeed) }
    }
}
