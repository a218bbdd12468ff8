//! The few addresses that programs use: enough to have two tables below each table, few enough to look at all of them.

use std::ops::Range;

/// Pages in ascending order: 4 in each lowest table, 2 such tables in each of the next level, and so on.
pub const PAGES: usize = 32;
/// The first pages hold private memory.
pub const PRIVATE: Range<usize> = 0..16;
/// The next are translated by a virtual page table.
pub const VIRTUAL: Range<usize> = 16..24;
/// The last lie in two large pages of a device.
pub const DEVICE: Range<usize> = 24..32;
/// All of these large pages.
pub const DEVICE_RANGE: Range<u64> = 1 << 39 | 1 << 30..(1 << 39 | 1 << 30) + 2 * (2 << 20);
/// Addresses that a map of an address space manages.
pub const LIMITS: Range<u64> = 0..2 << 39;
/// First slot of a root table that is the kernel's.
pub const KERNEL_SLOT: usize = 256;
/// Where the kernel's own memory is, a page with a global translation.
pub const KERNEL_PAGE: u64 = (KERNEL_SLOT as u64) << 39;

/// Address of a page by number.
pub fn address(page: usize) -> u64 {
    let page = page as u64;
    (page >> 4) << 39 | (page >> 3 & 1) << 30 | (page >> 2 & 1) << 21 | (page & 3) << 12
}

/// From the first page to the end of the last of `count`, with all that lies between.
pub fn range(first: usize, count: usize) -> Range<u64> {
    address(first)..address(first + count - 1) + 4096
}

/// Addresses of all pages.
pub fn all_pages() -> impl Iterator<Item = u64> {
    (0..PAGES).map(address)
}

/// Pages in `range`.
pub fn pages_in(range: &Range<u64>) -> impl Iterator<Item = u64> + use<> {
    let range = range.clone();
    all_pages().filter(move |page| range.contains(page))
}
