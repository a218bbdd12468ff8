//! What must hold after each step of a program.

use super::super::cpu::Access;
use super::super::machine::ROOT;
use super::run::{Page, Run};
use crate::*;

impl Run {
    /// The table is what it must be, and neither does the CPU hold more than it, nor is there a store that nobody can know of.
    pub fn check(&self) {
        let tables = self.tables();
        let dirtied = self.machine.cpu(|cpu| cpu.dirtied.clone());
        self.machine.cpu(|cpu| {
            for &page in &self.named {
                let expected = self.model.get(&page);
                let found = tables.lookup(page + 0x123).map(|leaf| Page {
                    frame: leaf.physical - 0x123,
                    attributes: self.format.attributes(leaf.entry, leaf.level).unwrap(),
                    leaf: (page & !(span(leaf.level) - 1), leaf.level),
                });
                assert_eq!(found.as_ref(), expected, "{page:#x}");
                let cached = cpu.tlb.get(&page);
                let Some(leaf) = tables.lookup(page) else {
                    assert_eq!(cached, None, "stale: {page:#x}");
                    continue;
                };
                let usage = self.format.usage(leaf.entry);
                if let Some(cached) = cached {
                    assert_eq!(cached.frame, leaf.physical, "stale: {page:#x}");
                    assert_eq!(cached.level, leaf.level, "{page:#x} is cached in another size");
                    assert!(!cached.write || leaf.protection.contains(Protection::WRITE));
                    assert!(!cached.execute || leaf.protection.contains(Protection::EXECUTE));
                    let cache = self.format.attributes(leaf.entry, leaf.level).unwrap().cache;
                    assert_eq!(cached.memory_type, [6, 4, 0, 1, 5][cache as usize]);
                    // Else an access or a store would leave no trace.
                    assert!(usage.contains(Usage::ACCESSED), "{page:#x} can be used unseen");
                    let unseen = if self.mmu.records() {
                        cached.dirty
                    } else {
                        cached.write
                    };
                    assert!(
                        !unseen || usage.contains(Usage::DIRTY),
                        "{page:#x} can be stored to unseen"
                    );
                }
                let first = self.format.leaf_address(leaf.entry, leaf.level);
                let dirty = dirtied.range(first..first + span(leaf.level)).next();
                if self.mmu.records() {
                    let known = usage.contains(Usage::DIRTY);
                    assert!(
                        !known || dirty.is_some(),
                        "{page:#x} is dirty and was not stored to"
                    );
                }
            }
            for (&(level, prefix), table) in &cpu.structures {
                let mut there = ROOT;
                for above in (level + 1..=ROOT_LEVEL).rev() {
                    let entry = self.machine.peek(there, index(prefix * span(level + 1), above));
                    assert!(self.format.is_present(entry) && !self.format.is_leaf(entry, above));
                    there = self.format.table_address(entry);
                }
                assert_eq!(there, *table, "a page walk may be in a detached table");
            }
            // No store is forgotten: the page that was stored to is there and dirty.
            for &frame in &dirtied {
                let page = frame & ((1 << 44) - 1);
                let leaf = tables.lookup(page).filter(|leaf| leaf.physical == frame);
                let usage = leaf.map(|leaf| self.format.usage(leaf.entry));
                assert!(
                    usage.is_some_and(|usage| usage.contains(Usage::DIRTY)),
                    "a store to {page:#x} is lost"
                );
            }
            let mut count = 0;
            tables.for_each(&(0..ADDRESS_END), &mut |_, _, level| {
                count += span(level) / PAGE_SIZE
            });
            assert_eq!(count, self.count);
        });
    }

    /// Everything that can be reached comes into the TLB.
    pub fn touch_everything(&self) {
        for &page in &self.named {
            self.machine.access(page, Access::Load);
        }
    }
}
