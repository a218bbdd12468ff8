//! Physical memory below 4 GiB, which the entry code has mapped one to one.

use dragonet_boot::memory_map::{Kind, MemoryMap};
use dragonet_boot::page_table::TableMemory;
use dragonet_boot::{PAGE_SIZE, PhysicalMemory, REACHABLE_END};

/// Read access to what loader and firmware left in memory.
#[derive(Clone, Copy, Debug)]
pub struct IdentityMapped;

impl PhysicalMemory for IdentityMapped {
    fn bytes(&self, address: u64, length: u64) -> Option<&[u8]> {
        let end = address.checked_add(length)?;
        if address == 0 || length == 0 || end > REACHABLE_END {
            return None;
        }
        // SAFETY: every address below 4 GiB is mapped, and any byte is a valid `u8`. The stage writes only to memory
        // it has allocated from the map, from which everything that is read through here has been claimed before.
        Some(unsafe { core::slice::from_raw_parts(address as *const u8, length as usize) })
    }
}

/// A piece of memory that nothing else uses, to be written.
///
/// # Safety
/// 1. `address..address + length` is below 4 GiB, not empty, and was given out by the memory map to the caller.
/// 2. No other reference to any byte of it is alive.
pub unsafe fn owned(address: u64, length: u64) -> &'static mut [u8] {
    // SAFETY: by the caller's promises.
    unsafe { core::slice::from_raw_parts_mut(address as *mut u8, length as usize) }
}

/// Frames for page tables, taken from the memory map as they are needed.
#[derive(Debug)]
pub struct TableFrames<'map> {
    map: &'map mut MemoryMap,
}

impl<'map> TableFrames<'map> {
    /// Takes frames from `map`.
    pub fn new(map: &'map mut MemoryMap) -> Self {
        TableFrames { map }
    }
}

impl TableMemory for TableFrames<'_> {
    fn new_table(&mut self) -> Option<u64> {
        let kind = Kind::BootloaderReclaimable;
        let frame = self
            .map
            .allocate(PAGE_SIZE, PAGE_SIZE, REACHABLE_END, kind)
            .ok()?;
        // SAFETY: the map has just given out this frame, so nothing else refers to it.
        unsafe { owned(frame, PAGE_SIZE) }.fill(0);
        Some(frame)
    }

    fn entry(&self, table: u64, index: usize) -> u64 {
        assert!(index < 512);
        // SAFETY: `table` is a frame of `new_table` (the builder passes no other), and the index is inside it.
        unsafe { (table as *const u64).add(index).read() }
    }

    fn set_entry(&mut self, table: u64, index: usize, entry: u64) {
        assert!(index < 512);
        // SAFETY: as in `entry`; the frame is written by this builder only.
        unsafe { (table as *mut u64).add(index).write(entry) }
    }
}
