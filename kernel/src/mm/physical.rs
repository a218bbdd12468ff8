//! The direct map: all memory of the machine at a fixed offset in the kernel's half.

use super::frame::{self, Frame};
use crate::arch::boot::{BootInfo, MemoryKind};
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::Errno;
use spin::Once;
use x86_64::{PhysAddr, VirtAddr};

static OFFSET: AtomicU64 = AtomicU64::new(0);
static BOOT: Once<&'static BootInfo> = Once::new();

/// Notes where the boot protocol put the direct map, where the kernel's own page table keeps it, and what memory there is.
pub(super) fn init(boot: &'static BootInfo) {
    OFFSET.store(boot.hhdm_offset, Ordering::Relaxed);
    BOOT.call_once(|| boot);
}

/// Memory of a boot module: there from the start, in the direct map, written by nobody, freed never.
#[derive(Clone, Copy, Debug)]
pub struct ModuleMemory {
    start: PhysAddr,
    pages: u64,
}

impl ModuleMemory {
    /// The pages of `size` bytes at `start`. The rest of a module's last page counts as the module's.
    ///
    /// # Errors
    /// EINVAL if that is not inside a boot module, or misaligned.
    pub fn new(start: PhysAddr, size: u64) -> Result<Self, Errno> {
        let modules = BOOT.get().map_or(&[][..], |boot| boot.modules);
        let inside = modules.iter().any(|module| {
            let end = (module.physical.as_u64() + module.size).next_multiple_of(frame::SIZE);
            start >= module.physical && start.as_u64().checked_add(size).is_some_and(|mine| mine <= end)
        });
        if !inside || size == 0 || !start.is_aligned(frame::SIZE) {
            return Err(Errno::EINVAL);
        }
        Ok(ModuleMemory {
            start,
            pages: size.div_ceil(frame::SIZE),
        })
    }

    /// The page at `index`.
    pub fn page(&self, index: u64) -> Option<PhysAddr> {
        (index < self.pages).then(|| self.start + index * frame::SIZE)
    }

    /// The whole pages as bytes.
    pub fn bytes(&self) -> &'static [u8] {
        let start: *const u8 = to_virtual(self.start).as_ptr();
        // SAFETY: boot modules are memory in the direct map that nobody writes or frees.
        unsafe { core::slice::from_raw_parts(start, (self.pages * frame::SIZE) as usize) }
    }

    /// Copies the page at `index`; false if there is none.
    pub fn copy_page(&self, index: u64, frame: &mut Frame) -> bool {
        let Some(page) = self.page(index) else {
            return false;
        };
        let from: *const u8 = to_virtual(page).as_ptr();
        // SAFETY: a page of a boot module is memory in the direct map.
        unsafe { core::ptr::copy_nonoverlapping(from, frame.bytes().as_mut_ptr(), frame::SIZE as usize) };
        true
    }
}

/// First address beyond what this CPU can address.
pub fn address_limit() -> u64 {
    1 << crate::arch::cpu::features().physical_bits.min(52)
}

/// True if any of the range is memory that the kernel manages or that holds the kernel, modules or the loader's data.
pub fn overlaps_ram(start: PhysAddr, size: u64) -> bool {
    let end = start.as_u64().saturating_add(size);
    BOOT.get().is_none_or(|boot| {
        boot.memory_map.iter().any(|region| {
            let owned = matches!(
                region.kind,
                MemoryKind::Usable | MemoryKind::BootloaderReclaimable | MemoryKind::KernelAndModules
            );
            owned && start.as_u64() < region.base.as_u64() + region.length && region.base.as_u64() < end
        })
    })
}

/// Start of the direct map.
pub fn offset() -> u64 {
    OFFSET.load(Ordering::Relaxed)
}

/// Where physical memory is seen by the kernel.
#[inline]
pub fn to_virtual(address: PhysAddr) -> VirtAddr {
    VirtAddr::new_truncate(address.as_u64().wrapping_add(offset()))
}

/// The physical address behind an address in the direct map.
#[inline]
pub fn from_direct_map(address: VirtAddr) -> PhysAddr {
    PhysAddr::new_truncate(address.as_u64().wrapping_sub(offset()))
}

/// The 512 words of a page.
///
/// # Safety
/// 1. `page` is page-aligned memory (not device registers) that stays allocated for `'page`.
/// 2. For as long, everyone accesses it with atomic operations, is a program, or is hardware.
#[inline]
pub unsafe fn words<'page>(page: PhysAddr) -> &'page [AtomicU64; 512] {
    debug_assert!(page.is_aligned(4096u64));
    // SAFETY: mapped in the direct map, aligned, any bit pattern is valid; the rest is the caller's promise.
    unsafe { &*to_virtual(page).as_ptr() }
}
