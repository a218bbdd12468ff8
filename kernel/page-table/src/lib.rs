//! Page tables without a CPU: formats as data, one walker, mapper and unmapper for every format, the owed flush, the
//! interlock between walks and invalidations, and the walker of virtual page tables.
//!
//! Nothing here touches memory or a TLB by itself. Tables are reached through [`TableMemory`], table pages come from
//! [`TableSource`] and leave through [`Detached`]; whatever must be flushed comes back as an [`OwedFlush`], which the caller
//! discharges. The kernel's `pmap` and `vm` use this crate with real memory, host tests with a vector.
//!
//! Addresses are plain numbers: physical ones in units of bytes, virtual ones with the bits above 47 ignored, so that
//! one code serves virtual and guest-physical addresses.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod format;
mod interlock;
mod mapper;
mod memory;
mod owed;
pub mod vpagetable;

#[cfg(test)]
mod tests;

pub use format::{Attributes, CacheMode, EPT, Format, PAT, Protection, X86_64};
pub use interlock::{Interlock, Stamp};
pub use mapper::{Entered, Leaf, Tables, release_subtree};
pub use memory::{Detached, NoMemory, TableMemory, TableSource};
pub use owed::{FlushSet, OwedFlush};

/// Bytes of a page and of a table.
pub const PAGE_SIZE: u64 = 4096;
/// Entries of a table.
pub const ENTRIES: usize = 512;
/// Number of the root's level; tables of level 1 hold entries of 4 KiB pages.
pub const ROOT_LEVEL: u8 = 4;
/// First address beyond what four levels translate.
pub const ADDRESS_END: u64 = 1 << 48;

/// Bytes that one entry of a table of `level` spans.
#[must_use]
pub const fn span(level: u8) -> u64 {
    1 << (12 + 9 * (level as u32 - 1))
}

/// Index of the entry for `address` in a table of `level`.
#[must_use]
pub const fn index(address: u64, level: u8) -> usize {
    (address >> (12 + 9 * (level as u32 - 1))) as usize & (ENTRIES - 1)
}
