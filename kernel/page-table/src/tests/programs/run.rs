//! A program, step by step, on a table and on a naive list of pages.

use super::super::cpu::Cpu;
use super::super::hardware::Mmu;
use super::super::machine::{Collected, Harvested, Machine, ROOT, Source};
use super::steps::{Step, backing, named_pages};
use crate::*;
use std::collections::BTreeMap;
use std::ops::Range;

/// A page of 4 KiB that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    pub frame: u64,
    pub attributes: Attributes,
    /// Start and level of the leaf that it is part of.
    pub leaf: (u64, u8),
}

impl Page {
    fn overlaps(&self, range: &Range<u64>) -> bool {
        self.leaf.0 < range.end && range.start < self.leaf.0 + span(self.leaf.1)
    }
}

/// One run.
pub struct Run {
    pub format: &'static Format,
    pub mmu: Mmu,
    pub machine: Machine,
    /// What must be there, of the named pages.
    pub model: BTreeMap<u64, Page>,
    /// Translated pages, named or not.
    pub count: u64,
    pub named: Vec<u64>,
}

impl Run {
    pub fn new(format: &'static Format, mmu: Mmu, seed: u64) -> Self {
        let named = named_pages();
        Run {
            format,
            mmu,
            machine: Machine::with(Cpu::new(mmu, seed, named.clone())),
            model: BTreeMap::new(),
            count: 0,
            named,
        }
    }

    pub fn tables(&self) -> Tables<'_, Machine> {
        Tables::new(self.format, ROOT, &self.machine)
    }

    fn discharge<D>(&self, owed: OwedFlush<D>) -> (D, bool) {
        let mut detached = false;
        let kept = owed.discharge(|set| {
            detached = set.tables_detached();
            self.machine.flush(set);
        });
        (kept, detached)
    }

    /// Somebody is told that the frames of a leaf are dirty.
    fn told_dirty(&self, physical: u64, level: u8) {
        let frames = physical..physical + span(level);
        self.machine
            .cpu(|cpu| cpu.dirtied.retain(|frame| !frames.contains(frame)));
    }

    fn told_leaf(&mut self, entry: u64, level: u8) {
        self.count -= span(level) / PAGE_SIZE;
        if self.format.usage(entry).contains(Usage::DIRTY) {
            self.told_dirty(self.format.leaf_address(entry, level), level);
        }
    }

    fn told(&mut self, collected: &Collected) {
        for &(_, entry, level) in &collected.leaves {
            self.told_leaf(entry, level);
        }
        for &(table, level) in &collected.tables {
            let mut all = Vec::new();
            let format = self.format;
            let pages = release_subtree(format, &self.machine, table, level, &mut |released| {
                all.push(released)
            });
            let before = self.count;
            for released in all {
                match released {
                    Released::Table(table) => self.machine.free(table),
                    Released::Leaf { entry, level } => self.told_leaf(entry, level),
                }
            }
            assert_eq!(pages, before - self.count);
        }
    }

    fn enter(&mut self, address: u64, level: u8, physical: u64, attributes: Attributes, dirty: bool) {
        let mut entry = self.format.leaf(level, physical, attributes);
        if dirty {
            entry |= self.format.usage_bits(Usage::DIRTY);
        }
        let span_of_it = address..address + span(level);
        for attempt in 0.. {
            assert!(attempt < 2, "broken twice");
            let mut source = Source::plenty(&self.machine);
            match self.tables().enter(address, level, entry, &mut source).unwrap() {
                Entered::New => {
                    self.count += span(level) / PAGE_SIZE;
                    for &page in self.named.iter().filter(|page| span_of_it.contains(page)) {
                        let frame = physical + page - address;
                        let leaf = (address, level);
                        let new = Page {
                            frame,
                            attributes,
                            leaf,
                        };
                        assert_eq!(self.model.insert(page, new), None);
                    }
                    break;
                }
                entered @ (Entered::Same | Entered::Widened) => {
                    for &page in self.named.iter().filter(|page| span_of_it.contains(page)) {
                        let there = self.model.get_mut(&page).unwrap();
                        let had = there.attributes.protection;
                        assert_eq!(
                            had.contains(attributes.protection),
                            matches!(entered, Entered::Same)
                        );
                        let expected = Page {
                            frame: physical + page - address,
                            attributes: Attributes {
                                protection: attributes.protection | had,
                                ..attributes
                            },
                            leaf: (address, level),
                        };
                        there.attributes.protection |= attributes.protection;
                        there.attributes.software = attributes.software;
                        assert_eq!(*there, expected);
                    }
                    break;
                }
                Entered::Broken(owed) => {
                    let (taken, detached) = self.discharge(owed);
                    let mut collected = Collected::default();
                    taken.hand_to(&mut collected);
                    assert_eq!(detached, !collected.tables.is_empty());
                    self.told(&collected);
                    let at = |page: &Page| page.overlaps(&span_of_it);
                    let same = |page: &Page| {
                        let both = page.attributes.protection & attributes.protection;
                        page.leaf == (address, level)
                            && page.frame & !(span(level) - 1) == physical
                            && page.attributes.cache == attributes.cache
                            && (both == page.attributes.protection || both == attributes.protection)
                    };
                    assert!(
                        !self.model.values().any(|page| at(page) && same(page)),
                        "broken needlessly"
                    );
                    self.model.retain(|_, page| !at(page));
                }
            }
        }
        if dirty {
            self.machine.cpu(|cpu| cpu.dirtied.insert(physical));
        }
    }

    /// What a removal of `range` may release: up to the next translations.
    fn releasable(&self, range: &Range<u64>) -> Range<u64> {
        let (mut start, mut end) = (0, ADDRESS_END);
        self.quietly(|| {
            self.tables().for_each(&(0..ADDRESS_END), &mut |from, _, level| {
                let to = from + span(level);
                if from < range.start {
                    start = start.max(to.min(range.start));
                }
                if to > range.end {
                    end = end.min(from.max(range.end));
                }
            });
        });
        start..end
    }

    /// With a CPU that does nothing.
    fn quietly<T>(&self, look: impl FnOnce() -> T) -> T {
        self.machine.cpu(|_| look())
    }

    /// Whether the leaves below the entry for `address` at `level` can become one, by looking at all of them.
    fn promotable(&self, address: u64, level: u8) -> bool {
        let start = address & !(span(level) - 1);
        let (mut number, mut first, mut alike) = (0, None, true);
        self.quietly(|| {
            self.tables()
                .for_each(&(start..start + span(level)), &mut |from, entry, below| {
                    let physical = self.format.leaf_address(entry, below);
                    let what = (
                        below,
                        physical.wrapping_sub(from.wrapping_sub(start)),
                        self.format.attributes(entry, below),
                    );
                    alike &= *first.get_or_insert(what) == what && below == level - 1;
                    number += 1;
                });
        });
        number == ENTRIES
            && alike
            && first.is_some_and(|(_, physical, _)| physical.is_multiple_of(span(level)))
    }

    pub fn run(&mut self, step: &Step) {
        match step.clone() {
            Step::Enter {
                page,
                level,
                variant,
                mut attributes,
                store,
                dirty,
            } => {
                let address = page & !(span(level) - 1);
                attributes.protection = self.format.protection_on_fault(attributes.protection, store);
                self.enter(address, level, backing(variant, address), attributes, dirty);
            }
            Step::Fill {
                page,
                level,
                protection,
                odd,
            } => {
                let start = page & !(span(level + 1) - 1);
                let attributes = Attributes {
                    protection,
                    user: false,
                    global: false,
                    cache: CacheMode::WriteBack,
                    software: 0,
                };
                for number in 0..ENTRIES as u64 {
                    let address = start + number * span(level);
                    let variant = u64::from(odd == Some(number));
                    self.enter(address, level, backing(variant, address), attributes, false);
                }
            }
            Step::EnterAbsent(address, mut attributes) => {
                attributes.protection = self.format.protection_on_fault(attributes.protection, false);
                let frame = backing(0, address);
                let entered = self
                    .tables()
                    .enter_absent(address, self.format.leaf(1, frame, attributes));
                let there = self.model.contains_key(&address);
                let table = address & !(span(2) - 1);
                let mut beside = self.model.range(table..table + span(2));
                assert!(!(there && entered), "a translation was replaced");
                assert!(there || entered || beside.all(|(_, page)| page.leaf.1 > 1));
                if entered {
                    self.count += 1;
                    let leaf = (address, 1);
                    let page = Page {
                        frame,
                        attributes,
                        leaf,
                    };
                    self.model.insert(address, page);
                }
            }
            Step::Remove(range) => {
                let releasable = self.releasable(&range);
                let owed = self.tables().remove(&range, &releasable, Collected::default());
                let (collected, detached) = self.discharge(owed);
                assert_eq!(detached, !collected.tables.is_empty());
                self.told(&collected);
                self.model.retain(|_, page| !page.overlaps(&range));
            }
            Step::Narrow(range, keep) => {
                self.discharge(self.tables().narrow(&range, keep));
                for page in self.model.values_mut().filter(|page| page.overlaps(&range)) {
                    page.attributes.protection &= keep;
                }
            }
            Step::Harvest(range, usage) => {
                let owed = self.tables().harvest(&range, usage, Harvested::default());
                let (harvested, _) = self.discharge(owed);
                let dirty = usage.contains(Usage::DIRTY);
                for (address, level, told) in harvested.0 {
                    assert!(usage.contains(told) && !told.is_empty());
                    if told.contains(Usage::DIRTY) {
                        let leaf = self.quietly(|| self.tables().lookup(address)).unwrap();
                        assert_eq!(leaf.level, level);
                        // Else it was stored to again before the flush.
                        if !self.usage(address).contains(Usage::DIRTY) {
                            self.told_dirty(leaf.physical, level);
                        }
                    }
                }
                if dirty && !self.mmu.records() {
                    for page in self.model.values_mut().filter(|page| page.overlaps(&range)) {
                        page.attributes.protection -= Protection::WRITE;
                    }
                }
            }
            Step::Split(address) => {
                let expected = self.model.get(&address).is_some_and(|page| page.leaf.1 > 1);
                let tables = Tables::new(self.format, ROOT, &self.machine);
                let split = tables.split(address, &mut Source::plenty(&self.machine)).unwrap();
                assert_eq!(split.is_some(), expected);
                let Some(owed) = split else { return };
                let (split, detached) = self.discharge(owed);
                assert!(!detached);
                split.make();
                let (start, level) = self.model[&address].leaf;
                let below = span(level - 1);
                for (page, there) in self.model.range_mut(start..start + span(level)) {
                    there.leaf = (page & !(below - 1), level - 1);
                }
                // Each of the smaller leaves counts as dirty if the large one did.
                if self.usage(address).contains(Usage::DIRTY) {
                    let page = self.model[&address];
                    let first = page.frame & !(span(level) - 1);
                    let frames = (0..ENTRIES as u64).map(|number| first + number * below);
                    self.machine.cpu(|cpu| cpu.dirtied.extend(frames));
                }
            }
            Step::Promote(address, level) => {
                let expected = self.promotable(address, level);
                let tables = Tables::new(self.format, ROOT, &self.machine);
                let promotion = tables.promote(address, level);
                assert_eq!(promotion.is_some(), expected);
                let Some(owed) = promotion else { return };
                let (promotion, detached) = self.discharge(owed);
                assert!(detached);
                self.machine.free(promotion.make());
                let start = address & !(span(level) - 1);
                for (_, there) in self.model.range_mut(start..start + span(level)) {
                    there.leaf = (start, level);
                }
            }
        }
    }

    pub fn usage(&self, page: u64) -> Usage {
        let leaf = self.quietly(|| self.tables().lookup(page)).unwrap();
        self.format.usage(leaf.entry)
    }
}
