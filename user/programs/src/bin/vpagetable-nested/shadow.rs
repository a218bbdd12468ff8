//! Shadows: tables in level 1's RAM, in the format that the microkernel walks, made of what walks of level 2's tables gave.
//!
//! They are what a pmap is in the microkernel, and are kept with the same crate: entered page by page, dropped at any time.

use alloc::rc::Rc;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::Errno;
use dragonet_abi::memory::Vpte;
use dragonet_programs::vm::{ALLOW, Ram};
use page_table::{
    Attributes, CacheMode, Detached, Entered, Protection, TableMemory, TableSource, Tables, X86_64,
};

/// A shadow.
pub struct Shadow {
    memory: Tablets,
    root: u64,
}

impl Shadow {
    /// An empty one.
    pub fn new(ram: &Rc<Ram>) -> Result<Self, Errno> {
        Ok(Shadow {
            root: ram.page()?,
            memory: Tablets(Rc::clone(ram)),
        })
    }

    /// The root entry for the microkernel.
    pub const fn root(&self) -> Vpte {
        Vpte(self.root | ALLOW)
    }

    fn tables(&self) -> Tables<'_, Tablets> {
        Tables::new(&X86_64, self.root, &self.memory)
    }

    /// Enters the page of the RAM at `place` as the translation of `address`. If there was another one, `invalidate` must make
    /// the microkernel forget it.
    pub fn enter(
        &self,
        address: u64,
        place: u64,
        protection: Protection,
        invalidate: impl Fn(&Range<u64>) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let attributes = Attributes {
            protection,
            user: true,
            global: false,
            cache: CacheMode::WriteBack,
            software: 0,
        };
        let entry = X86_64.leaf(1, place, attributes);
        let page = address..address + page_table::PAGE_SIZE;
        loop {
            let mut source = Source(&self.memory.0);
            match self.tables().enter(address, 1, entry, &mut source) {
                Ok(Entered::New | Entered::Same | Entered::Widened) => return Ok(()),
                Ok(Entered::Broken(owed)) => {
                    // Nobody walks this table but its owner; what was made of it is dropped by the invalidation.
                    let _taken = owed.discharge(|_| ());
                    invalidate(&page)?;
                }
                Err(_) => return Err(Errno::ENOMEM),
            }
        }
    }

    /// Drops all translations of a range. The microkernel may still have what it made of them.
    pub fn remove(&self, range: &Range<u64>) {
        self.tables().remove(range, &(0..0), Nothing).discharge(|_| ());
    }
}

/// The RAM as memory of tables. All offsets come from tables that only level 1 writes, so they are in the RAM.
struct Tablets(Rc<Ram>);

impl Tablets {
    fn word(&self, table: u64, index: usize) -> &AtomicU64 {
        let word = self.0.word(table + 8 * index as u64);
        word.expect("a shadow's tables are in the RAM")
    }
}

impl TableMemory for Tablets {
    fn load(&self, table: u64, index: usize) -> u64 {
        self.word(table, index).load(Ordering::SeqCst)
    }

    fn store(&self, table: u64, index: usize, entry: u64) {
        self.word(table, index).store(entry, Ordering::SeqCst);
    }

    fn swap(&self, table: u64, index: usize, entry: u64) -> u64 {
        self.word(table, index).swap(entry, Ordering::SeqCst)
    }

    fn compare_exchange(&self, table: u64, index: usize, old: u64, new: u64) -> Result<(), u64> {
        self.word(table, index)
            .compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
            .map(drop)
    }
}

/// Pages for tables.
struct Source<'ram>(&'ram Ram);

impl TableSource for Source<'_> {
    fn allocate(&mut self) -> Option<u64> {
        self.0.page().ok()
    }
}

/// Tables stay with their shadow.
struct Nothing;

impl Detached for Nothing {
    fn table(&mut self, _table: u64, _level: u8) {}
    fn leaf(&mut self, _address: u64, _entry: u64, _level: u8) {}
}
