//! The memory of the frame buffer: bounds-checked volatile writes to it.

use super::paging;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use volatile::VolatilePtr;
use x86_64::VirtAddr;

/// Where the frame buffer is mapped; 0 = nowhere yet.
static BASE: AtomicU64 = AtomicU64::new(0);
static LENGTH: AtomicU64 = AtomicU64::new(0);
/// The page table for which the mapping was last found good.
static CHECKED_ROOT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Sets where the frame buffer is mapped: first through the boot loader's tables, later by the kernel's own mapping.
///
/// # Safety
/// 1. `base..base + length` is device memory of the frame buffer, and nothing else, in every page table that maps it.
pub(super) unsafe fn set(base: VirtAddr, length: u64) {
    LENGTH.store(0, Ordering::Relaxed);
    BASE.store(base.as_u64(), Ordering::Relaxed);
    CHECKED_ROOT.store(u64::MAX, Ordering::Relaxed);
    LENGTH.store(length, Ordering::Release);
}

/// True if the frame buffer can be written now. Between the loading of the kernel's own page table and its own mapping of
/// the buffer it may not be mapped; this looks, once for each page table.
pub fn is_ready() -> bool {
    let length = LENGTH.load(Ordering::Acquire);
    if length == 0 {
        return false;
    }
    let root = paging::read_cr3().as_u64();
    if CHECKED_ROOT.load(Ordering::Relaxed) == root {
        return true;
    }
    let base = VirtAddr::new(BASE.load(Ordering::Relaxed));
    let mapped = [base, base + (length - 1)]
        .iter()
        .all(|&end| paging::translate(end).is_some_and(|translation| translation.writable));
    if mapped {
        CHECKED_ROOT.store(root, Ordering::Relaxed);
    }
    mapped
}

/// Writes the lowest `size` bytes (1 to 4) of `value` at an offset. Outside the buffer nothing happens.
#[inline]
pub fn write(offset: usize, value: u32, size: usize) {
    if offset as u64 + size as u64 > LENGTH.load(Ordering::Relaxed) {
        return;
    }
    let address = BASE.load(Ordering::Relaxed) + offset as u64;
    // SAFETY: inside the frame buffer, which `is_ready` found mapped; nothing else is there. The wide writes are aligned where pitch
    // and pixel size are multiples of theirs, which the console checks.
    unsafe {
        match size {
            4 => VolatilePtr::new(NonNull::new_unchecked(address as *mut u32)).write(value),
            2 => VolatilePtr::new(NonNull::new_unchecked(address as *mut u16)).write(value as u16),
            _ => {
                for byte in 0..size {
                    let pointer = NonNull::new_unchecked((address + byte as u64) as *mut u8);
                    VolatilePtr::new(pointer).write((value >> (byte * 8)) as u8);
                }
            }
        }
    }
}
