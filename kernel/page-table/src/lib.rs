//! Page tables without a CPU: formats as data, one walker, mapper, unmapper, protector and harvester for every format, the
//! owed flush, the interlock between walks and invalidations, and the walker of virtual page tables.
//!
//! Nothing here touches memory or a TLB by itself. Tables are reached through [`TableMemory`], table pages come from
//! [`TableSource`] and leave through [`Detached`]; whatever must be flushed comes back as an [`OwedFlush`], which the caller
//! discharges. The kernel's `pmap` and `vm` use this crate with real memory, host tests with a vector.
//!
//! Addresses are plain numbers: physical ones in units of bytes, virtual ones with the bits above 47 ignored, so that
//! one code serves virtual and guest-physical addresses.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod attributes;
mod ept;
mod format;
mod interlock;
mod memory;
mod owed;
mod tables;
pub mod vpagetable;
mod x86_64;

#[cfg(test)]
mod tests;

pub use attributes::{Attributes, CacheMode, Protection, Usage};
pub use ept::{EPT, EPT_WITHOUT_ACCESSED_DIRTY, WalkMemory, ept_format, ept_pointer};
pub use format::Format;
pub use interlock::{Interlock, Stamp};
pub use memory::{Detached, Harvest, NoMemory, TableMemory, TableSource};
pub use owed::{FlushSet, OwedFlush};
pub use tables::{Entered, Leaf, Promotion, Released, Split, Tables, Taken, release_subtree};
pub use x86_64::{PAT, X86_64};

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
