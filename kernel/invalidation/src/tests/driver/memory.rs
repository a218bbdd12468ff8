//! How the crate `page-table` and the walker of virtual page tables reach the model's memory.

use super::Rig;
use crate::tests::fault::{Fault, planted};
use crate::tests::model::memory::Use;
use dragonet_abi::memory::Vpte;
use page_table::vpagetable::VpteMemory;
use page_table::{Detached, Format, Released, TableMemory, TableSource, release_subtree};

/// Tables of page tables.
pub struct RigTables<'rig>(pub &'rig Rig);

impl RigTables<'_> {
    fn check(&self, table: u64) {
        let state = self.0.hardware().memory.page(table).state;
        assert!(
            matches!(state, Use::Table(_)),
            "the kernel takes {table:#x}, {state:?}, for a table"
        );
    }
}

impl TableMemory for RigTables<'_> {
    fn load(&self, table: u64, index: usize) -> u64 {
        self.check(table);
        // Most entries are empty, and nobody fills one behind the back of whoever holds the lock.
        if self.0.hardware().memory.word(table, index) == 0 {
            return 0;
        }
        self.0.step();
        self.0.hardware().memory.word(table, index)
    }

    fn store(&self, table: u64, index: usize, entry: u64) {
        self.swap(table, index, entry);
    }

    fn swap(&self, table: u64, index: usize, entry: u64) -> u64 {
        self.check(table);
        self.0.step();
        let mut hardware = self.0.hardware();
        let before = hardware.memory.word(table, index);
        hardware.write(table, index, entry);
        before
    }

    fn compare_exchange(&self, table: u64, index: usize, old: u64, new: u64) -> Result<(), u64> {
        self.check(table);
        self.0.step();
        let mut hardware = self.0.hardware();
        let now = hardware.memory.word(table, index);
        if now != old {
            return Err(now);
        }
        hardware.write(table, index, new);
        Ok(())
    }
}

/// New tables of the space with this id.
pub struct RigSource<'rig>(pub &'rig Rig, pub u64);

impl TableSource for RigSource<'_> {
    fn allocate(&mut self) -> Option<u64> {
        Some(self.0.hardware().memory.allocate(Use::Table(self.1)))
    }
}

/// Tables that a removal took out.
pub struct Removed<'rig> {
    rig: &'rig Rig,
    format: &'static Format,
    tables: Vec<(u64, u8)>,
}

impl<'rig> Removed<'rig> {
    pub fn new(rig: &'rig Rig, format: &'static Format) -> Self {
        Removed {
            rig,
            format,
            tables: Vec::new(),
        }
    }

    /// `DetachedTables::release` of `kernel/src/pmap/tables.rs`.
    pub fn release(&mut self) {
        for (table, level) in std::mem::take(&mut self.tables) {
            release_subtree(self.format, &RigTables(self.rig), table, level, &mut |released| {
                if let Released::Table(table) = released {
                    self.rig.step();
                    self.rig.hardware().free(table);
                }
            });
        }
    }
}

impl Detached for Removed<'_> {
    fn table(&mut self, table: u64, level: u8) {
        self.tables.push((table, level));
        if planted(Fault::FreeTablesEarly) {
            self.release();
        }
    }

    fn leaf(&mut self, _address: u64, _entry: u64, _level: u8) {}
}

/// The object with the virtual page tables.
pub struct RigRam<'rig> {
    pub rig: &'rig Rig,
    /// Every entry reads as if its dirty flag were set.
    pub pretend_dirty: bool,
    /// Space and page of the fault for which it is walked, and when that began.
    pub walk: (u64, u64, u64),
}

impl VpteMemory for RigRam<'_> {
    fn pages(&self) -> u64 {
        self.rig.ram.len() as u64
    }

    fn load(&self, page: u64, index: usize) -> u64 {
        self.rig.step();
        let entry = self
            .rig
            .hardware()
            .memory
            .word(self.rig.ram[page as usize], index);
        if self.pretend_dirty && entry != 0 {
            entry | Vpte::DIRTY | Vpte::ACCESSED
        } else {
            entry
        }
    }

    fn compare_exchange(&self, page: u64, index: usize, old: u64, new: u64) -> Result<(), u64> {
        self.rig.step();
        let frame = self.rig.ram[page as usize];
        let mut hardware = self.rig.hardware();
        let now = hardware.memory.word(frame, index);
        if now != old {
            return Err(now);
        }
        let (space, page, began) = self.walk;
        hardware.check_walk(space, page, began);
        hardware.write_frame(frame, index, new);
        Ok(())
    }
}
