//! A virtual page table in a [`Ram`].

use super::Ram;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::Errno;
use dragonet_abi::memory::Vpte;
use page_table::{ROOT_LEVEL, index};

/// Everything is allowed.
pub const ALLOW: u64 = Vpte::VALID | Vpte::WRITE | Vpte::USER;

/// A four-level table, known by the offset of its level-4 table.
#[derive(Clone, Copy, Debug)]
pub struct PageTable(u64);

impl PageTable {
    /// An empty table.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(ram: &Ram) -> Result<Self, Errno> {
        ram.page().map(PageTable)
    }

    /// The root entry for `MADV_SETMAP`, which allows everything.
    #[must_use]
    pub const fn root(self) -> Vpte {
        Vpte(self.0 | ALLOW)
    }

    /// The entry for `address` in the table of `level`; tables above it are made if they are not there, and allow everything.
    ///
    /// # Errors
    /// `ENOMEM`; `ERANGE` if an entry above leads out of the memory.
    pub fn entry(self, ram: &Ram, address: u64, level: u8) -> Result<&AtomicU64, Errno> {
        let mut table = self.0;
        for above in (level + 1..=ROOT_LEVEL).rev() {
            let entry = ram.word(table + 8 * index(address, above) as u64)?;
            if !Vpte(entry.load(Ordering::SeqCst)).has(Vpte::VALID) {
                entry.store(ram.page()? | ALLOW, Ordering::SeqCst);
            }
            table = Vpte(entry.load(Ordering::SeqCst)).offset();
        }
        ram.word(table + 8 * index(address, level) as u64)
    }

    /// Sets the entry of the page at `address`.
    ///
    /// # Errors
    /// As for [`PageTable::entry`].
    pub fn map(self, ram: &Ram, address: u64, entry: u64) -> Result<(), Errno> {
        self.entry(ram, address, 1)?.store(entry, Ordering::SeqCst);
        Ok(())
    }
}
