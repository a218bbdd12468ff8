//! Operations that `page-table` has and the kernel does not use yet: a large page becomes small ones and back, and dirty flags are
//! collected. Used here as that crate says, under the lock of the page table from the operation until what it owes is discharged.

use super::cpu::Core;
use super::memory::{RigSource, RigTables};
use super::pmap::{Pmap, Target, Which, leaf};
use crate::tests::fault::{Fault, planted};
use page_table::{ENTRIES, Harvest, PAGE_SIZE, Stamp, Tables, Usage, span};
use std::ops::Range;
use std::sync::Arc;

/// What was found is of no interest here.
struct Found;

impl Harvest for Found {
    fn leaf(&mut self, _address: u64, _level: u8, _usage: Usage) {}
}

impl Pmap {
    /// Splits the large page at `address`, if there is one.
    pub fn split(&self, core: &mut Core, address: u64) {
        let rig = Arc::clone(&core.rig);
        core.with_lock(&self.locked, |core, locked| {
            let (format, root, space) = self.table(locked, Which::Regular);
            let memory = RigTables(&rig);
            let tables = Tables::new(format, root, &memory);
            let mut source = RigSource(&rig, space.id());
            if let Some(owed) = tables
                .split(address, &mut source)
                .expect("there is always memory")
            {
                rig.hardware().count("split");
                let split = owed.discharge(|set| {
                    if !planted(Fault::SkipResizeFlush) {
                        core.invalidate(space, set);
                    }
                });
                split.make();
            }
        });
    }

    /// Fills the table of small pages below the large page at `address`, which leads to `target`, and replaces it by that.
    pub fn promote(&self, core: &mut Core, address: u64, target: Target, stamp: Stamp) {
        let rig = Arc::clone(&core.rig);
        core.with_lock(&self.locked, |core, locked| {
            if !locked
                .interlock
                .admits_range(stamp, &(address..address + span(2)))
            {
                return;
            }
            let (format, root, space) = self.table(locked, Which::Regular);
            let memory = RigTables(&rig);
            let tables = Tables::new(format, root, &memory);
            let mut source = RigSource(&rig, space.id());
            tables
                .build(address, 1, true, &mut source)
                .expect("there is always memory");
            for page in 0..ENTRIES as u64 {
                let small = Target::small(target.frame + page * PAGE_SIZE, target.write);
                tables.enter_absent(address + page * PAGE_SIZE, leaf(format, small));
            }
            if let Some(owed) = tables.promote(address, 2) {
                rig.hardware().count("promoted");
                let promotion = owed.discharge(|set| {
                    if !planted(Fault::SkipResizeFlush) {
                        core.invalidate(space, set);
                    }
                });
                let table = promotion.make();
                rig.hardware().free(table);
            }
        });
    }

    /// Collects the dirty flags of a range: what is stored later is recorded anew.
    pub fn harvest(&self, core: &mut Core, range: &Range<u64>) {
        let rig = Arc::clone(&core.rig);
        core.with_lock(&self.locked, |core, locked| {
            rig.hardware().harvests += 1;
            for which in [Which::Regular, Which::Nested] {
                let (format, root, space) = self.table(locked, which);
                let memory = RigTables(&rig);
                let owed = Tables::new(format, root, &memory).harvest(range, Usage::DIRTY, Found);
                owed.discharge(|set| {
                    if !planted(Fault::SkipHarvestFlush) {
                        core.invalidate(space, set);
                    }
                });
            }
            rig.hardware().end_harvest();
        });
    }
}
