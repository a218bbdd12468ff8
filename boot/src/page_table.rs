//! Four-level page tables of x86-64, built in frames that the caller provides.
//!
//! Only what a boot stage needs: pages are added to an address space that no CPU uses yet, never changed or removed.
#![forbid(unsafe_code)]

use crate::PAGE_SIZE;

/// Frames that hold page tables.
pub trait TableMemory {
    /// A frame filled with zeros, below the stage's reach.
    fn new_table(&mut self) -> Option<u64>;
    /// The entry `index` of the table in frame `table`.
    fn entry(&self, table: u64, index: usize) -> u64;
    /// Writes the entry `index` of the table in frame `table`.
    fn set_entry(&mut self, table: u64, index: usize, entry: u64);
}

/// What a mapping allows and how it is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// May be written.
    pub writable: bool,
    /// May be executed.
    pub executable: bool,
    /// Write-combining (the sixth entry of the page attribute table) instead of write-back.
    pub write_combining: bool,
}

/// Why a page could not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// No frame for a table.
    OutOfMemory,
    /// Something is mapped at this virtual address already.
    Occupied(u64),
}

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const WRITE_THROUGH: u64 = 1 << 3;
const LARGE: u64 = 1 << 7;
const ATTRIBUTE_SMALL: u64 = 1 << 7;
const ATTRIBUTE_LARGE: u64 = 1 << 12;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Bytes of a page mapped by an entry of the second level.
pub const LARGE_PAGE: u64 = 2 << 20;

/// An address space under construction.
#[derive(Debug)]
pub struct PageTables<'memory, M: TableMemory> {
    memory: &'memory mut M,
    root: u64,
    no_execute: bool,
}

impl<'memory, M: TableMemory> PageTables<'memory, M> {
    /// An empty address space. `no_execute` says whether the CPU has the NX bit.
    ///
    /// # Errors
    /// [`TableError::OutOfMemory`].
    pub fn new(memory: &'memory mut M, no_execute: bool) -> Result<Self, TableError> {
        let root = memory.new_table().ok_or(TableError::OutOfMemory)?;
        Ok(PageTables {
            memory,
            root,
            no_execute,
        })
    }

    /// Physical address of the top-level table.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Maps `size` bytes (whole pages) at virtual `address` to `frame`, with pages of 2 MiB where both addresses
    /// and the size allow it.
    ///
    /// # Errors
    /// See [`TableError`].
    pub fn map(&mut self, address: u64, frame: u64, size: u64, access: Access) -> Result<(), TableError> {
        let mut done = 0;
        while done < size {
            let (page, frame) = (address + done, frame + done);
            let large = (page | frame).is_multiple_of(LARGE_PAGE) && size - done >= LARGE_PAGE;
            self.map_page(page, frame, large, access)?;
            done += if large { LARGE_PAGE } else { PAGE_SIZE };
        }
        Ok(())
    }

    fn map_page(&mut self, address: u64, frame: u64, large: bool, access: Access) -> Result<(), TableError> {
        let lowest = if large { 1 } else { 0 };
        let mut table = self.root;
        for level in (lowest + 1..4).rev() {
            let index = index(address, level);
            let entry = self.memory.entry(table, index);
            table = match entry & (PRESENT | LARGE) {
                0 => {
                    let new = self.memory.new_table().ok_or(TableError::OutOfMemory)?;
                    self.memory.set_entry(table, index, new | PRESENT | WRITABLE);
                    new
                }
                PRESENT => entry & ADDRESS,
                _ => return Err(TableError::Occupied(address)),
            };
        }
        let index = index(address, lowest);
        if self.memory.entry(table, index) & PRESENT != 0 {
            return Err(TableError::Occupied(address));
        }
        self.memory
            .set_entry(table, index, frame | self.bits(large, access));
        Ok(())
    }

    fn bits(&self, large: bool, access: Access) -> u64 {
        let mut bits = PRESENT;
        if access.writable {
            bits |= WRITABLE;
        }
        if !access.executable && self.no_execute {
            bits |= NO_EXECUTE;
        }
        if large {
            bits |= LARGE;
        }
        if access.write_combining {
            bits |= WRITE_THROUGH | if large { ATTRIBUTE_LARGE } else { ATTRIBUTE_SMALL };
        }
        bits
    }
}

/// The index into the table of a level (3 = top) for a virtual address.
fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * level)) as usize & 511
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Debug, Default)]
    struct Tables(BTreeMap<u64, [u64; 512]>, usize);

    impl TableMemory for Tables {
        fn new_table(&mut self) -> Option<u64> {
            let frame = (self.0.len() as u64 + 1) << 12;
            (self.0.len() < self.1).then(|| self.0.insert(frame, [0; 512]))?;
            Some(frame)
        }
        fn entry(&self, table: u64, index: usize) -> u64 {
            self.0[&table][index]
        }
        fn set_entry(&mut self, table: u64, index: usize, entry: u64) {
            self.0.get_mut(&table).unwrap()[index] = entry;
        }
    }

    /// The physical address and leaf entry that the MMU would use.
    fn walk(tables: &Tables, root: u64, address: u64) -> Option<(u64, u64)> {
        let mut table = root;
        for level in (0..4).rev() {
            let entry = tables.entry(table, index(address, level));
            if entry & PRESENT == 0 {
                return None;
            }
            if level == 0 {
                return Some((entry & ADDRESS | address & 0xfff, entry));
            }
            if level == 1 && entry & LARGE != 0 {
                return Some((
                    entry & ADDRESS & !(LARGE_PAGE - 1) | address & (LARGE_PAGE - 1),
                    entry,
                ));
            }
            table = entry & ADDRESS;
        }
        None
    }

    const DATA: Access = Access {
        writable: true,
        executable: false,
        write_combining: false,
    };
    const CODE: Access = Access {
        writable: false,
        executable: true,
        write_combining: false,
    };
    const PIXELS: Access = Access {
        writable: true,
        executable: true,
        write_combining: true,
    };

    #[test]
    fn maps_with_the_largest_page_that_fits() {
        let mut memory = Tables(BTreeMap::new(), 100);
        let mut tables = PageTables::new(&mut memory, true).unwrap();
        let base = 0xffff_8000_0000_0000;
        tables.map(base + 0x1f_f000, 0x1f_f000, 0x20_3000, DATA).unwrap();
        tables.map(0xffff_ffff_8000_0000, 0x7000, 0x1000, CODE).unwrap();
        let root = tables.root();
        assert_eq!(
            tables.map(base + 0x20_1000, 0, 0x1000, DATA),
            Err(TableError::Occupied(base + 0x20_1000))
        );
        assert_eq!(walk(&memory, root, base + 0x1f_e000), None);
        assert_eq!(walk(&memory, root, base + 0x1f_f123).unwrap().0, 0x1f_f123);
        let (frame, entry) = walk(&memory, root, base + 0x3f_ff00).unwrap();
        assert_eq!(
            (frame, entry & LARGE, entry & NO_EXECUTE),
            (0x3f_ff00, LARGE, NO_EXECUTE)
        );
        assert_eq!(walk(&memory, root, base + 0x40_1fff).unwrap().0, 0x40_1fff);
        assert_eq!(walk(&memory, root, base + 0x40_2000), None);
        let (frame, entry) = walk(&memory, root, 0xffff_ffff_8000_0008).unwrap();
        assert_eq!((frame, entry & (WRITABLE | NO_EXECUTE)), (0x7008, 0));
    }

    #[test]
    fn write_combining_selects_the_sixth_attribute() {
        let mut memory = Tables(BTreeMap::new(), 100);
        let mut tables = PageTables::new(&mut memory, false).unwrap();
        tables
            .map(0x20_0000, 0x20_0000, LARGE_PAGE + PAGE_SIZE, PIXELS)
            .unwrap();
        let root = tables.root();
        let (frame, large) = walk(&memory, root, 0x20_0000).unwrap();
        assert_eq!((large & 0x1098, large >> 63), (0x1088, 0));
        assert_eq!(frame & !0x1fff, 0x20_0000);
        assert_eq!(walk(&memory, root, 0x40_0000).unwrap().1 & 0x98, 0x88);
    }

    #[test]
    fn running_out_of_frames_is_an_error() {
        let mut memory = Tables(BTreeMap::new(), 3);
        let mut tables = PageTables::new(&mut memory, true).unwrap();
        assert_eq!(tables.map(0, 0, PAGE_SIZE, DATA), Err(TableError::OutOfMemory));
    }
}
