//! A CPU that stands for all CPUs. It caches every translation and every pointer to a table that it comes across, drops only what an
//! owed flush says, uses what it has cached or walks anew as it likes, and sets accessed and dirty bits as hardware does.

use super::hardware::{Decoded, Mmu};
use super::machine::ROOT;
use crate::*;
use std::collections::{BTreeMap, BTreeSet};

/// Pages of tables by address. Touching one that is not there is a use after free.
pub type Pages = BTreeMap<u64, Vec<u64>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Load,
    Store,
    Fetch,
}

/// A translation in the TLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cached {
    pub frame: u64,
    pub write: bool,
    pub execute: bool,
    pub memory_type: u8,
    /// Level of the leaf.
    pub level: u8,
    /// The dirty bit is known to be set: a store goes without a look at the table.
    pub dirty: bool,
}

/// The CPU.
pub struct Cpu {
    pub mmu: Mmu,
    random: u64,
    /// Pages that it uses of its own accord.
    pages: Vec<u64>,
    /// A store to a page after so many accesses of ours.
    moment: Option<(usize, u64)>,
    /// By page of 4 KiB: larger ones are cached in pieces.
    pub tlb: BTreeMap<u64, Cached>,
    /// Tables by level and by what of an address leads to them.
    pub structures: BTreeMap<(u8, u64), u64>,
    /// Frames that were stored to since somebody was told that they are dirty.
    pub dirtied: BTreeSet<u64>,
}

impl Cpu {
    pub fn new(mmu: Mmu, seed: u64, pages: Vec<u64>) -> Self {
        Cpu {
            mmu,
            random: seed | 1,
            pages,
            moment: None,
            tlb: BTreeMap::new(),
            structures: BTreeMap::new(),
            dirtied: BTreeSet::new(),
        }
    }

    /// Stores to `page` just before our access number `moment`, a flush included, and does nothing else.
    pub fn store_at(&mut self, moment: usize, page: u64) {
        self.pages.clear();
        self.moment = Some((moment, page));
    }

    /// True if [`Self::store_at`] has come to pass.
    pub fn has_stored(&self) -> bool {
        self.moment.is_none()
    }

    /// A number below `limit`.
    pub fn random(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % limit
    }

    /// What it does between two accesses of ours.
    pub fn act(&mut self, tables: &mut Pages) {
        if let Some((left, page)) = &mut self.moment {
            if *left > 0 {
                *left -= 1;
            } else {
                let page = *page;
                self.moment = None;
                self.access(tables, page, Access::Store);
            }
            return;
        }
        if self.pages.is_empty() || self.random(2) == 0 {
            return;
        }
        let number = self.random(self.pages.len() as u64) as usize;
        let access = [Access::Load, Access::Store, Access::Fetch][self.random(3) as usize];
        self.access(tables, self.pages[number], access);
    }

    /// One access.
    pub fn access(&mut self, tables: &mut Pages, page: u64, access: Access) {
        let store = access == Access::Store;
        let allowed = |write: bool, execute: bool| match access {
            Access::Load => true,
            Access::Store => write,
            Access::Fetch => execute,
        };
        if let Some(cached) = self.tlb.get(&page) {
            let known = !store || cached.dirty || !self.mmu.records();
            if known && allowed(cached.write, cached.execute) {
                if store {
                    self.dirtied.insert(cached.frame);
                }
                return;
            }
        }
        let (mut table, mut level) = (ROOT, ROOT_LEVEL);
        for below in 1..ROOT_LEVEL {
            if let Some(&cached) = self.structures.get(&(below, page / span(below + 1)))
                && self.random(2) == 0
            {
                (table, level) = (cached, below);
                break;
            }
        }
        loop {
            let walked = tables.get_mut(&table).expect("a page walk in a freed table");
            let entry = &mut walked[index(page, level)];
            match self.mmu.decode(*entry, level) {
                Decoded::NotPresent => return,
                Decoded::Invalid(why) => panic!("{:?}: {why}: {entry:#x} at level {level}", self.mmu),
                Decoded::Table { address, .. } => {
                    *entry = self.mmu.used(*entry, false);
                    level -= 1;
                    self.structures.insert((level, page / span(level + 1)), address);
                    table = address;
                }
                Decoded::Leaf(leaf) if !allowed(leaf.write, leaf.execute) => return,
                Decoded::Leaf(leaf) => {
                    *entry = self.mmu.used(*entry, store);
                    let frame = leaf.physical + page % span(level);
                    if store {
                        self.dirtied.insert(frame);
                    }
                    let cached = Cached {
                        frame,
                        write: leaf.write,
                        execute: leaf.execute,
                        memory_type: leaf.memory_type,
                        level,
                        dirty: leaf.dirty || store,
                    };
                    self.tlb.insert(page, cached);
                    return;
                }
            }
        }
    }

    /// Drops what the set names, and pointers to tables only if it says that there were some.
    pub fn flush(&mut self, tables: &Pages, set: &FlushSet) {
        if set.tables_detached() {
            self.structures.clear();
        }
        let Some(pages) = set.pages() else {
            self.tlb.clear();
            return;
        };
        for &page in pages {
            // All pieces of the page that the tables have now (SDM volume 3, 4.10.2.3).
            let bytes = self.leaf_span(tables, page);
            let start = page / bytes * bytes;
            self.tlb
                .retain(|cached, _| !(start..start + bytes).contains(cached));
        }
    }

    /// Bytes that the leaf for `page` translates, one page if there is none.
    fn leaf_span(&self, tables: &Pages, page: u64) -> u64 {
        let mut table = ROOT;
        for level in (1..=ROOT_LEVEL).rev() {
            match self.mmu.decode(tables[&table][index(page, level)], level) {
                Decoded::Table { address, .. } => table = address,
                Decoded::Leaf(_) => return span(level),
                Decoded::NotPresent | Decoded::Invalid(_) => break,
            }
        }
        PAGE_SIZE
    }
}
