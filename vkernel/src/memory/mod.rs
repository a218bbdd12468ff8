//! The vkernel's memory management: frames of its RAM, page tables in the hardware's format inside that RAM, memory objects, and
//! the address spaces of its programs with their faults and checked copies.
//!
//! `ram` is the only place that touches RAM; everything above deals in frames and owned pages. Program addresses are
//! plain numbers that are looked up in the program's own tables, never dereferenced.

pub mod area;
pub mod areas;
pub mod copy;
pub mod fault;
pub mod fork;
pub mod frames;
pub mod object;
mod opcode;
pub mod page_table;
pub mod ram;
pub mod space;
#[cfg(test)]
mod tests;

pub use frames::{Page, PhysicalMemory};
pub use object::MemoryObject;
pub use space::AddressSpace;

use dragonet_abi::layout::PAGE_SIZE;

/// The start of the page that holds `address`.
pub const fn page_floor(address: u64) -> u64 {
    address & !(PAGE_SIZE - 1)
}

/// The first page boundary at or above `address`, unless that is beyond all numbers.
pub const fn page_ceiling(address: u64) -> Option<u64> {
    address.checked_next_multiple_of(PAGE_SIZE)
}
