//! The page tables in use, walked the way the MMU does, through the direct map.

use x86_64::registers::control::Cr3;

use crate::requests::direct_map;

/// What an address is mapped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The physical address.
    pub physical: u64,
    /// Writable at every level.
    pub writable: bool,
    /// Not executable at some level.
    pub no_execute: bool,
    /// User at every level.
    pub user: bool,
    /// Index into the page attribute table.
    pub attribute: u8,
}

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Physical address of the top-level table of this CPU.
pub fn root() -> u64 {
    Cr3::read().0.start_address().as_u64()
}

/// One entry of the table at a physical address.
pub fn entry(table: u64, index: usize) -> u64 {
    // SAFETY: page tables are in reclaimable memory, which the direct map covers; `page_tables_are_reclaimable`
    // checks that, and any 64 bits are a valid number.
    unsafe { ((direct_map() + table) as *const u64).add(index).read_volatile() }
}

/// The mapping of a virtual address, if it has one.
pub fn walk(address: u64) -> Option<Mapping> {
    let mut table = root();
    let mut mapping = Mapping {
        physical: 0,
        writable: true,
        no_execute: false,
        user: true,
        attribute: 0,
    };
    for level in (0..4).rev() {
        let shift = 12 + 9 * level;
        let entry = entry(table, (address >> shift) as usize & 511);
        if entry & PRESENT == 0 {
            return None;
        }
        mapping.writable &= entry & WRITABLE != 0;
        mapping.user &= entry & USER != 0;
        mapping.no_execute |= entry & NO_EXECUTE != 0;
        let leaf = level == 0 || entry & LARGE != 0 && level < 3;
        if leaf {
            let offset = (1 << shift) - 1;
            let attribute_bit = if level == 0 { 7 } else { 12 };
            mapping.attribute = (entry >> 3 & 3 | (entry >> attribute_bit & 1) << 2) as u8;
            mapping.physical = entry & ADDRESS & !offset | address & offset;
            return Some(mapping);
        }
        table = entry & ADDRESS;
    }
    None
}

/// Calls `visit` with the physical address of every page table in use, until it returns false.
pub fn tables(visit: &mut impl FnMut(u64) -> bool) -> bool {
    fn below(table: u64, level: u32, visit: &mut impl FnMut(u64) -> bool) -> bool {
        visit(table)
            && (level == 0
                || (0..512).map(|index| entry(table, index)).all(|entry| {
                    let leaf = entry & PRESENT == 0 || entry & LARGE != 0;
                    leaf || below(entry & ADDRESS, level - 1, visit)
                }))
    }
    below(root(), 3, visit)
}
