//! Page-table registers, translation caches, and a reader of the live page table for checks and reports.

use super::boot;
use core::arch::asm;
use dragonet_abi::Errno;
use x86_64::registers::control::{Cr3, Cr4, Cr4Flags};
use x86_64::structures::paging::page_table::PageTableFlags;
use x86_64::{PhysAddr, VirtAddr};

const ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;
const LEVELS: u32 = 4;
const INDEX_BITS: u32 = 9;
const PAGE_BITS: u32 = 12;
const ENTRIES: u64 = 1 << INDEX_BITS;

/// Root of the page table in use: CR3 without flags.
pub fn read_cr3() -> PhysAddr {
    Cr3::read_raw().0.start_address()
}

/// In the operand of MOV to CR3: keep what the CPU has under the identifier.
const KEEP: u64 = 1 << 63;

/// Loads CR3 under a process-context identifier, 0 to 4095. Without `keep` this drops every translation and paging-structure entry
/// under that identifier that is not global (SDM 3A 4.10.4.1). Where the CPU has no identifiers it drops all that are not global.
///
/// # Safety
/// 1. `root` is a complete page table that maps the kernel, the running stack included, as the one in use does.
/// 2. It stays alive for as long as it is in use.
/// 3. With `keep`: what the CPU has under the identifier are translations that the table still makes.
#[inline]
pub unsafe fn load_root(root: PhysAddr, identifier: u16, keep: bool) {
    debug_assert!(identifier < 1 << 12);
    let mut value = root.as_u64();
    // Bits 63 and 11:0 mean something else, or fault, while CR4.PCIDE is clear.
    if super::cpu::features().pcid {
        value |= u64::from(identifier);
        if keep {
            value |= KEEP;
        }
    }
    // SAFETY: the caller's promises.
    unsafe { asm!("mov cr3, {}", in(reg) value, options(nostack, preserves_flags)) };
}

/// Drops this CPU's translations of one page under the current identifier, global ones under any, and the current identifier's
/// paging-structure cache entries (SDM 3A 4.10.4.1).
pub fn flush_page(page: VirtAddr) {
    // SAFETY: dropping a translation only makes the CPU walk again.
    unsafe { asm!("invlpg [{}]", in(reg) page.as_u64(), options(nostack, preserves_flags)) };
}

/// Drops every translation and paging-structure entry under `identifier` that is not global, with INVPCID (SDM 3A 4.10.4.1, type 1). False
/// if the CPU does not have the instruction.
pub fn flush_identifier(identifier: u16) -> bool {
    const SINGLE_CONTEXT: u64 = 1;
    let features = super::cpu::features();
    if !features.invpcid || !features.pcid {
        return false;
    }
    let descriptor = [u64::from(identifier), 0];
    // SAFETY: the CPU has the instruction, the descriptor's reserved bits are clear, and dropping translations only makes the CPU
    // walk again.
    unsafe {
        asm!("invpcid {}, [{}]", in(reg) SINGLE_CONTEXT, in(reg) &descriptor, options(nostack, preserves_flags, readonly));
    }
    true
}

/// Drops all of this CPU's translations, global ones too: by changing CR4.PGE (SDM 3A 4.10.4.1).
pub fn flush_all_with_global() {
    let guard = super::irq::IrqGuard::new();
    let flags = Cr4::read();
    // SAFETY: only PGE changes, and comes back.
    unsafe {
        Cr4::write(flags ^ Cr4Flags::PAGE_GLOBAL);
        Cr4::write(flags);
    }
    drop(guard);
}

/// What the live page table says about one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The physical address behind the virtual one.
    pub physical: PhysAddr,
    /// Bytes of the page that it lies in.
    pub page_size: u64,
    /// Writable at every level.
    pub writable: bool,
    /// Executable at every level.
    pub executable: bool,
    /// Open to user mode at every level.
    pub user: bool,
}

/// Rights gathered on the way down.
#[derive(Clone, Copy)]
struct Path {
    writable: bool,
    executable: bool,
    user: bool,
}

impl Path {
    const START: Path = Path {
        writable: true,
        executable: true,
        user: true,
    };

    fn through(self, flags: PageTableFlags) -> Self {
        Path {
            writable: self.writable && flags.contains(PageTableFlags::WRITABLE),
            executable: self.executable && !flags.contains(PageTableFlags::NO_EXECUTE),
            user: self.user && flags.contains(PageTableFlags::USER_ACCESSIBLE),
        }
    }
}

fn entry(table: PhysAddr, index: u64) -> u64 {
    let address = boot::hhdm_offset() + table.as_u64() + index * 8;
    // SAFETY: `table` is a page table of the tree in use, and the direct map reaches all of them. Another CPU may write
    // the entry at the same time, so it is read as a whole, once.
    unsafe { (address as *const u64).read_volatile() }
}

/// Looks an address up in the live page table, as the CPU would. None if it is not mapped.
pub fn translate(address: VirtAddr) -> Option<Translation> {
    let mut table = read_cr3();
    let mut path = Path::START;
    for level in (0..LEVELS).rev() {
        let shift = PAGE_BITS + level * INDEX_BITS;
        let raw = entry(table, address.as_u64() >> shift & (ENTRIES - 1));
        let flags = PageTableFlags::from_bits_truncate(raw);
        if !flags.contains(PageTableFlags::PRESENT) {
            return None;
        }
        path = path.through(flags);
        if level == 0 || (level < 3 && flags.contains(PageTableFlags::HUGE_PAGE)) {
            let page_size = 1 << shift;
            let base = raw & ADDRESS_MASK & !(page_size - 1);
            return Some(Translation {
                physical: PhysAddr::new(base + (address.as_u64() & (page_size - 1))),
                page_size,
                writable: path.writable,
                executable: path.executable,
                user: path.user,
            });
        }
        table = PhysAddr::new(raw & ADDRESS_MASK);
    }
    None
}

/// Calls `visit` with the first address and the translation of every page that the upper half of the live table maps.
pub fn for_each_kernel_page(visit: &mut dyn FnMut(VirtAddr, &Translation)) {
    visit_table(read_cr3(), LEVELS - 1, 0, Path::START, visit);
}

fn visit_table(
    table: PhysAddr,
    level: u32,
    base: u64,
    path: Path,
    visit: &mut dyn FnMut(VirtAddr, &Translation),
) {
    let shift = PAGE_BITS + level * INDEX_BITS;
    let first = if level == LEVELS - 1 { ENTRIES / 2 } else { 0 };
    for index in first..ENTRIES {
        let raw = entry(table, index);
        let flags = PageTableFlags::from_bits_truncate(raw);
        if !flags.contains(PageTableFlags::PRESENT) {
            continue;
        }
        let path = path.through(flags);
        let address = base | index << shift;
        if level == 0 || (level < 3 && flags.contains(PageTableFlags::HUGE_PAGE)) {
            let page_size = 1 << shift;
            let translation = Translation {
                physical: PhysAddr::new(raw & ADDRESS_MASK & !(page_size - 1)),
                page_size,
                writable: path.writable,
                executable: path.executable,
                user: path.user,
            };
            visit(VirtAddr::new_truncate(address), &translation);
        } else {
            visit_table(PhysAddr::new(raw & ADDRESS_MASK), level - 1, address, path, visit);
        }
    }
}

/// A mapping of a physical range for reading: through the direct map where that reaches it, else a device mapping. It stays for good.
///
/// # Errors
/// ENOMEM.
pub(super) fn reach(address: PhysAddr, length: u64) -> Result<VirtAddr, Errno> {
    let window = VirtAddr::new(boot::hhdm_offset() + address.as_u64());
    let mut pages = 0..=(address.as_u64() % 4096 + length.max(1) - 1) / 4096;
    let reached = pages.all(|page| translate(window.align_down(4096_u64) + page * 4096).is_some());
    if reached {
        Ok(window)
    } else {
        crate::pmap::map_device(address, length)
    }
}

/// Reads a word of kernel memory for a report, without any chance to fault or to touch a device: the address must be aligned, mapped,
/// and RAM.
pub fn read_kernel_word(address: u64) -> Option<u64> {
    let aligned = address.is_multiple_of(8);
    let address = VirtAddr::try_new(address)
        .ok()
        .filter(|address| aligned && address.as_u64() >> 63 == 1)?;
    let translation = translate(address)?;
    if !boot::is_ram(translation.physical) {
        return None;
    }
    // SAFETY: mapped RAM, aligned. Someone may write it at the same time; a report may show either value.
    Some(unsafe { address.as_ptr::<u64>().read_volatile() })
}
