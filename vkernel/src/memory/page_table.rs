//! Page tables in RAM, in the hardware's 4-level format (Intel SDM volume 3, section 4.5).
//!
//! The same bits serve the host's software walker and the MMU of a guest thread; both set accessed and dirty atomically. So entries
//! are only changed atomically, and every change says whether it narrowed a translation that somebody may have used: then the owner
//! invalidates before the page is used for anything else.

use crate::linux::Errno;
use crate::memory::frames::{Page, PhysicalMemory};
use crate::memory::ram::{Frame, TABLE_ENTRIES};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::Vpte;

/// Software bit (ignored by hardware): the entry owns a page, even while it is not valid because nothing may access it.
pub const HELD: u64 = 1 << 9;
/// Level of the root; level 0 holds the leaves.
const ROOT_LEVEL: u32 = 3;

/// A leaf entry that owns a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    entry: u64,
    frame: Frame,
}

impl Leaf {
    /// The page it owns.
    pub fn frame(self) -> Frame {
        self.frame
    }

    /// The bits that are set among those of `mask`.
    pub fn bits(self, mask: u64) -> u64 {
        self.entry & mask
    }

    /// True if every bit of `mask` is set.
    pub fn has(self, mask: u64) -> bool {
        self.entry & mask == mask
    }

    /// A walker has used the entry, so somebody may hold a translation made from it.
    pub fn was_used(self) -> bool {
        self.has(Vpte::ACCESSED)
    }
}

/// One program's table. It owns the pages that its leaves name.
pub struct PageTable {
    memory: &'static PhysicalMemory,
    root: Page,
}

impl PageTable {
    /// An empty table.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(memory: &'static PhysicalMemory) -> Result<Self, Errno> {
        let root = memory.allocate_zeroed()?;
        Ok(PageTable { memory, root })
    }

    /// What `MADV_SETMAP` wants: the root as an entry.
    pub fn root_entry(&self) -> Vpte {
        Vpte(self.memory.ram().physical(self.root.frame()) | Vpte::VALID | Vpte::WRITE | Vpte::USER)
    }

    /// The leaf for `address`, if it owns a page.
    pub fn get(&self, address: u64) -> Option<Leaf> {
        let mut table = self.root.frame();
        for level in (1..=ROOT_LEVEL).rev() {
            table = self.child(self.entry(table, address, level))?;
        }
        self.leaf(self.entry(table, address, 0))
    }

    /// Puts `page` at `address`, which holds none.
    ///
    /// # Errors
    /// `ENOMEM`: no frame for a table; `page` is freed.
    pub fn insert(&mut self, address: u64, page: Page, bits: u64) -> Result<(), Errno> {
        let mut table = self.root.frame();
        for level in (1..=ROOT_LEVEL).rev() {
            table = match self.child(self.entry(table, address, level)) {
                Some(next) => next,
                None => {
                    let next = self.memory.allocate_zeroed()?.into_frame();
                    let bits = Vpte::VALID | Vpte::WRITE | Vpte::USER;
                    self.entry(table, address, level)
                        .store(self.memory.ram().physical(next) | bits, Ordering::Release);
                    next
                }
            };
        }
        let slot = self.entry(table, address, 0);
        assert!(slot.load(Ordering::Relaxed) & HELD == 0, "page put over another");
        slot.store(self.owning(page, bits), Ordering::Release);
        Ok(())
    }

    /// Replaces the page at `address` and returns the old one. In between, when the address leads nowhere, `flush` sees to it that
    /// no CPU uses the old page any more if its leaf was used: never is one CPU in the new page while another still reads the old one.
    pub fn replace(&mut self, address: u64, page: Page, bits: u64, flush: impl FnOnce(Leaf)) -> Option<Page> {
        let slot = self.find(address)?;
        self.leaf(slot)?;
        let old = self.leaf_of(slot.swap(0, Ordering::AcqRel));
        flush(old);
        slot.store(self.owning(page, bits), Ordering::Release);
        Some(self.memory.adopt(old.frame()))
    }

    /// Takes the page at `address` out. Returns it and its leaf.
    pub fn remove(&mut self, address: u64) -> Option<(Page, Leaf)> {
        let slot = self.find(address)?;
        self.leaf(slot)?;
        let old = self.leaf_of(slot.swap(0, Ordering::AcqRel));
        Some((self.memory.adopt(old.frame()), old))
    }

    /// Sets and clears bits of the leaf at `address`, which owns a page. Returns the leaf as it was.
    pub fn change(&mut self, address: u64, set: u64, clear: u64) -> Option<Leaf> {
        let slot = self.find(address)?;
        self.leaf(slot)?;
        slot.fetch_update(Ordering::AcqRel, Ordering::Acquire, |old| {
            Some(old & !clear | set)
        })
        .ok()
        .map(|old| self.leaf_of(old))
    }

    /// The first address at or above `range.start` whose leaf owns a page.
    pub fn next_held(&self, range: Range<u64>) -> Option<(u64, Leaf)> {
        let mut address = range.start;
        'search: while address < range.end {
            let mut table = self.root.frame();
            for level in (1..=ROOT_LEVEL).rev() {
                match self.child(self.entry(table, address, level)) {
                    Some(next) => table = next,
                    None => {
                        let span = PAGE_SIZE << (9 * level);
                        address = (address & !(span - 1)).checked_add(span)?;
                        continue 'search;
                    }
                }
            }
            for index in index(address, 0)..TABLE_ENTRIES {
                if address >= range.end {
                    return None;
                }
                if let Some(found) = self.leaf(self.memory.ram().entry(table, index)) {
                    return Some((address, found));
                }
                address += PAGE_SIZE;
            }
        }
        None
    }

    fn find(&self, address: u64) -> Option<&'static AtomicU64> {
        let mut table = self.root.frame();
        for level in (1..=ROOT_LEVEL).rev() {
            table = self.child(self.entry(table, address, level))?;
        }
        Some(self.entry(table, address, 0))
    }

    fn entry(&self, table: Frame, address: u64, level: u32) -> &'static AtomicU64 {
        self.memory.ram().entry(table, index(address, level))
    }

    /// The entry that owns `page`, with [`Vpte`] bits.
    fn owning(&self, page: Page, bits: u64) -> u64 {
        self.memory.ram().physical(page.into_frame()) | bits | HELD
    }

    fn leaf_of(&self, entry: u64) -> Leaf {
        let frame = self.memory.ram().frame_at(entry & Vpte::FRAME);
        Leaf { entry, frame }
    }

    fn child(&self, slot: &AtomicU64) -> Option<Frame> {
        let entry = slot.load(Ordering::Acquire);
        (entry & Vpte::VALID != 0).then(|| self.memory.ram().frame_at(entry & Vpte::FRAME))
    }

    fn leaf(&self, slot: &AtomicU64) -> Option<Leaf> {
        let entry = slot.load(Ordering::Acquire);
        (entry & HELD != 0).then(|| self.leaf_of(entry))
    }

    fn free_tables(&self, table: Frame, level: u32) {
        for index in 0..TABLE_ENTRIES {
            let slot = self.memory.ram().entry(table, index);
            if level == 0 {
                if let Some(leaf) = self.leaf(slot) {
                    drop(self.memory.adopt(leaf.frame()));
                }
            } else if let Some(next) = self.child(slot) {
                self.free_tables(next, level - 1);
                drop(self.memory.adopt(next));
            }
        }
    }
}

impl Drop for PageTable {
    /// Nobody can walk this table or holds anything from it by then: the address space drops its [`crate::host::Vmspace`] first.
    fn drop(&mut self) {
        self.free_tables(self.root.frame(), ROOT_LEVEL);
    }
}

fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * level)) as usize % TABLE_ENTRIES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::frames::tests::memory;

    const BITS: u64 = Vpte::VALID | Vpte::USER;

    #[test]
    fn pages_are_found_at_their_addresses_and_everything_is_freed() {
        let memory = memory(32);
        let mut table = PageTable::new(memory).unwrap();
        let addresses = [0x1_0000, 0x40_0000, 0x7fff_ffff_e000, 0x5555_5555_4000];
        for address in addresses {
            table
                .insert(address, memory.allocate_zeroed().unwrap(), BITS)
                .unwrap();
        }
        let mut from = 0;
        let mut seen = alloc::vec::Vec::new();
        while let Some((address, leaf)) = table.next_held(from..0x7fff_ffff_f000) {
            assert_eq!(table.get(address), Some(leaf));
            seen.push(address);
            from = address + PAGE_SIZE;
        }
        let mut sorted = addresses;
        sorted.sort_unstable();
        assert_eq!(seen, sorted);
        let (page, _) = table.remove(0x40_0000).unwrap();
        assert_eq!(table.get(0x40_0000), None);
        drop(page);
        drop(table);
        assert_eq!(memory.statistics(), (32, 32));
    }

    #[test]
    fn a_walk_by_hardware_rules_finds_the_frame() {
        let memory = memory(16);
        let mut table = PageTable::new(memory).unwrap();
        let page = memory.allocate_zeroed().unwrap();
        let frame = page.frame();
        let address = 0x1234_5678_9000;
        table.insert(address, page, BITS | Vpte::WRITE).unwrap();
        let mut entry = table.root_entry();
        for shift in [39, 30, 21, 12] {
            assert!(entry.has(Vpte::VALID | Vpte::WRITE | Vpte::USER));
            let table = memory.ram().frame_at(entry.offset());
            let index = (address >> shift) as usize & 511;
            entry = Vpte(memory.ram().entry(table, index).load(Ordering::Relaxed));
        }
        assert_eq!(entry.offset(), memory.ram().physical(frame));
    }

    #[test]
    fn a_held_page_survives_without_access() {
        let memory = memory(16);
        let mut table = PageTable::new(memory).unwrap();
        table
            .insert(0x1000_0000, memory.allocate_zeroed().unwrap(), BITS)
            .unwrap();
        let before = table.change(0x1000_0000, 0, Vpte::VALID).unwrap();
        assert!(before.has(Vpte::VALID));
        assert!(!table.get(0x1000_0000).unwrap().has(Vpte::VALID));
        let mut frame = None;
        let old = table
            .replace(0x1000_0000, memory.allocate_zeroed().unwrap(), BITS, |old| {
                frame = Some(old.frame());
            })
            .unwrap();
        assert_eq!(Some(old.frame()), frame);
        assert!(table.replace(0x1000_1000, old, BITS, |_| {}).is_none());
    }

    #[test]
    fn no_page_is_behind_an_address_while_the_old_one_is_flushed() {
        let memory = memory(16);
        let mut table = PageTable::new(memory).unwrap();
        table
            .insert(0x1000_0000, memory.allocate_zeroed().unwrap(), BITS)
            .unwrap();
        let slot = table.find(0x1000_0000).unwrap();
        let before = slot.load(Ordering::Relaxed);
        let mut during = before;
        let copy = memory.allocate_zeroed().unwrap();
        table.replace(0x1000_0000, copy, BITS, |_| during = slot.load(Ordering::Relaxed));
        assert_eq!(during, 0);
        assert_ne!(slot.load(Ordering::Relaxed), before);
    }
}
