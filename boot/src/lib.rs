//! The parts of the boot stage that need no machine: they read what a boot loader left in memory, decide where
//! everything goes, and write the answers of the Limine boot protocol. Everything here is safe code over byte slices
//! and small traits, and is tested on the host; the binary (`main.rs`) owns the machine and calls down into these.
//!
//! - [`multiboot`]: Multiboot 1 and 2 information as one [`multiboot::BootInformation`].
//! - [`memory_map`]: the map of physical memory, kept sorted and disjoint, which is also the frame allocator.
//! - [`elf_plan`]: where the segments of the kernel go. [`requests`]: what the kernel asks for.
//! - [`page_table`], [`direct_map`]: the address space the kernel is entered in.
//! - [`responses`]: the answers, laid out in memory. [`acpi`], [`efi`], [`smbios`], [`date`]: firmware's tables.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod acpi;
pub mod bytes;
pub mod command_line;
pub mod date;
pub mod direct_map;
pub mod efi;
pub mod elf_plan;
pub mod memory_map;
pub mod multiboot;
pub mod page_table;
pub mod requests;
pub mod responses;
#[cfg(test)]
mod responses_test;
pub mod smbios;

/// Size of a page and of a frame, in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// Where the higher-half direct map begins: physical address 0 is at this virtual address.
pub const DIRECT_MAP_BASE: u64 = 0xffff_8000_0000_0000;

/// The stage addresses memory below this physical address only.
pub const REACHABLE_END: u64 = 1 << 32;

/// Physical memory as the stage reads it.
pub trait PhysicalMemory {
    /// The `length` bytes at physical `address`; nothing if they are not all within the stage's reach, or if the
    /// range is empty or begins at address 0.
    fn bytes(&self, address: u64, length: u64) -> Option<&[u8]>;
}
