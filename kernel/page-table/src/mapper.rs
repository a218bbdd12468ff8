//! The one walker: look up, enter, remove and narrow translations of any format.
//!
//! The caller holds the lock of the table (or is alone with it). Hardware walks the table at the same time, which decides
//! the order of writes: a table is complete before an entry points to it, and a translation to another frame is
//! broken and flushed before the new one is made.

use crate::{
    ADDRESS_END, Detached, ENTRIES, FlushSet, Format, NoMemory, OwedFlush, Protection, ROOT_LEVEL,
    TableMemory, TableSource, index, span,
};
use core::ops::Range;

/// A page table: format, root, and the memory that holds it.
pub struct Tables<'memory, M> {
    format: &'static Format,
    root: u64,
    memory: &'memory M,
}

/// A translation found by [`Tables::lookup`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The entry as it stands in the table.
    pub entry: u64,
    /// 1 for 4 KiB, 2 for 2 MiB, 3 for 1 GiB.
    pub level: u8,
    /// Physical address that the looked-up address translates to.
    pub physical: u64,
    /// Accesses allowed.
    pub protection: Protection,
}

/// What [`Tables::enter`] did.
#[must_use = "a broken translation must be flushed and entered again"]
#[derive(Debug)]
pub enum Entered {
    /// There was no translation; nothing needs to be flushed.
    New,
    /// The same page with at least these accesses was there, or is there now; nothing needs to be flushed.
    Same,
    /// Another translation was there and is removed. Discharge the flush, then enter again.
    Broken(OwedFlush<()>),
}

/// State of one removal.
struct Removal<'range, D> {
    range: &'range Range<u64>,
    releasable: &'range Range<u64>,
    set: FlushSet,
    detached: D,
}

impl<'memory, M: TableMemory> Tables<'memory, M> {
    /// A view of the table whose root is at `root`.
    pub const fn new(format: &'static Format, root: u64, memory: &'memory M) -> Self {
        Tables { format, root, memory }
    }

    /// The translation of `address`.
    pub fn lookup(&self, address: u64) -> Option<Leaf> {
        let mut table = self.root;
        let mut level = ROOT_LEVEL;
        loop {
            let entry = self.memory.load(table, index(address, level));
            if !self.format.is_present(entry) {
                return None;
            }
            if self.format.is_leaf(entry, level) {
                let physical = self.format.leaf_address(entry, level) | address & (span(level) - 1);
                return Some(Leaf {
                    entry,
                    level,
                    physical,
                    protection: self.format.protection(entry),
                });
            }
            table = self.format.table_address(entry);
            level -= 1;
        }
    }

    /// Writes `entry` as the translation of `address` at `level`, building tables on the way.
    ///
    /// A translation with other attributes, or a larger one in the way, is broken first: see [`Entered::Broken`].
    ///
    /// # Errors
    /// [`NoMemory`] if a table page is needed and there is none. Tables built so far stay.
    ///
    /// # Panics
    /// If a table stands where a larger leaf is to be entered.
    pub fn enter(
        &self,
        address: u64,
        level: u8,
        entry: u64,
        source: &mut impl TableSource,
    ) -> Result<Entered, NoMemory> {
        let user = entry & self.format.user != 0;
        let table = match self.descend(address, level, user, source)? {
            Ok(table) => table,
            Err((table, slot)) => return Ok(self.break_leaf(table, slot, address)),
        };
        let slot = index(address, level);
        loop {
            let old = self.memory.load(table, slot);
            if !self.format.is_present(old) {
                self.memory.store(table, slot, entry);
                return Ok(Entered::New);
            }
            assert!(
                self.format.is_leaf(old, level),
                "a table where a larger leaf should go"
            );
            let access = self.format.write | self.format.execute | self.format.no_execute;
            let ignored = access | self.format.accessed | self.format.dirty;
            let (had, wanted) = (self.format.protection(old), self.format.protection(entry));
            if (old ^ entry) & !ignored != 0 {
                return Ok(self.break_leaf(table, slot, address));
            }
            if had.contains(wanted) {
                return Ok(Entered::Same);
            }
            if !wanted.contains(had) {
                return Ok(self.break_leaf(table, slot, address));
            }
            // Widening: a CPU that still holds the old translation faults once more and comes back here.
            let widened = entry | old & (self.format.accessed | self.format.dirty);
            if self.memory.compare_exchange(table, slot, old, widened).is_ok() {
                return Ok(Entered::Same);
            }
        }
    }

    /// Writes `entry` as the translation of the page at `address` if its table is there and there is no translation. True if it did.
    /// Nothing is allocated, nothing changed that a CPU can hold, nothing to flush.
    pub fn enter_absent(&self, address: u64, entry: u64) -> bool {
        let mut table = self.root;
        for above in (2..=ROOT_LEVEL).rev() {
            let found = self.memory.load(table, index(address, above));
            if !self.format.is_present(found) || self.format.is_leaf(found, above) {
                return false;
            }
            table = self.format.table_address(found);
        }
        let slot = index(address, 1);
        let absent = !self.format.is_present(self.memory.load(table, slot));
        if absent {
            self.memory.store(table, slot, entry);
        }
        absent
    }

    /// Builds the tables for `address` down to the one of `level`, without a translation.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn build(
        &self,
        address: u64,
        level: u8,
        user: bool,
        source: &mut impl TableSource,
    ) -> Result<(), NoMemory> {
        self.descend(address, level, user, source).map(|_| ())
    }

    /// The table of `level` for `address`, built if need be; or table and slot of a larger leaf that is in the way.
    fn descend(
        &self,
        address: u64,
        level: u8,
        user: bool,
        source: &mut impl TableSource,
    ) -> Result<Result<u64, (u64, usize)>, NoMemory> {
        let mut table = self.root;
        for above in (level + 1..=ROOT_LEVEL).rev() {
            let slot = index(address, above);
            let found = self.memory.load(table, slot);
            table = if !self.format.is_present(found) {
                let fresh = source.allocate().ok_or(NoMemory)?;
                self.memory.store(table, slot, self.format.table(fresh, user));
                fresh
            } else if self.format.is_leaf(found, above) {
                return Ok(Err((table, slot)));
            } else {
                self.format.table_address(found)
            };
        }
        Ok(Ok(table))
    }

    fn break_leaf(&self, table: u64, slot: usize, address: u64) -> Entered {
        self.memory.swap(table, slot, 0);
        let mut set = FlushSet::nothing();
        set.add(address & !0xfff);
        Entered::Broken(OwedFlush::new(set, ()))
    }

    /// Removes every translation in `range` and detaches every table that translates nothing outside `releasable`, a range
    /// that contains `range` and in which there is no translation beyond those in `range`.
    ///
    /// The work is bounded by what is there: absent tables are skipped and a table that lies in `releasable` is detached
    /// whole, without a look at its entries, which then get no [`Detached::leaf`]. A leaf larger than a page that sticks
    /// out of `range` is removed as a whole: translations can always be made again.
    pub fn remove<D: Detached>(
        &self,
        range: &Range<u64>,
        releasable: &Range<u64>,
        detached: D,
    ) -> OwedFlush<D> {
        let mut removal = Removal {
            range,
            releasable,
            set: FlushSet::nothing(),
            detached,
        };
        if range.start < range.end {
            self.remove_in(self.root, ROOT_LEVEL, 0, &mut removal);
        }
        OwedFlush::new(removal.set, removal.detached)
    }

    fn remove_in<D: Detached>(&self, table: u64, level: u8, base: u64, removal: &mut Removal<'_, D>) {
        for (slot, start) in Self::slots(level, base, removal.range) {
            let entry = self.memory.load(table, slot);
            if !self.format.is_present(entry) {
                continue;
            }
            let end = start + span(level);
            if self.format.is_leaf(entry, level) {
                let entry = self.memory.swap(table, slot, 0);
                removal.set.add(start.max(removal.range.start));
                removal.detached.leaf(start, entry, level);
            } else if removal.releasable.start <= start && end <= removal.releasable.end {
                self.memory.store(table, slot, 0);
                let (from, to) = (start.max(removal.range.start), end.min(removal.range.end));
                removal.set.add_table(&(from..to));
                removal
                    .detached
                    .table(self.format.table_address(entry), level - 1);
            } else {
                self.remove_in(self.format.table_address(entry), level - 1, start, removal);
            }
        }
    }

    /// Takes from every translation in `range` the accesses that are not in `keep`, which contains `READ`.
    pub fn narrow(&self, range: &Range<u64>, keep: Protection) -> OwedFlush<()> {
        let mut set = FlushSet::nothing();
        if range.start < range.end {
            self.narrow_in(self.root, ROOT_LEVEL, 0, range, keep, &mut set);
        }
        OwedFlush::new(set, ())
    }

    fn narrow_in(
        &self,
        table: u64,
        level: u8,
        base: u64,
        range: &Range<u64>,
        keep: Protection,
        set: &mut FlushSet,
    ) {
        for (slot, start) in Self::slots(level, base, range) {
            let mut entry = self.memory.load(table, slot);
            if !self.format.is_present(entry) {
                continue;
            }
            if !self.format.is_leaf(entry, level) {
                self.narrow_in(
                    self.format.table_address(entry),
                    level - 1,
                    start,
                    range,
                    keep,
                    set,
                );
                continue;
            }
            loop {
                let narrowed = self.format.narrowed(entry, keep);
                if narrowed == entry {
                    break;
                }
                match self.memory.compare_exchange(table, slot, entry, narrowed) {
                    Ok(()) => {
                        set.add(start.max(range.start));
                        break;
                    }
                    Err(now) => entry = now,
                }
            }
        }
    }

    /// Calls `visit` with address, entry and level of every leaf in `range`, in ascending order.
    pub fn for_each(&self, range: &Range<u64>, visit: &mut impl FnMut(u64, u64, u8)) {
        if range.start < range.end {
            self.visit_in(self.root, ROOT_LEVEL, 0, range, visit);
        }
    }

    fn visit_in(
        &self,
        table: u64,
        level: u8,
        base: u64,
        range: &Range<u64>,
        visit: &mut impl FnMut(u64, u64, u8),
    ) {
        for (slot, start) in Self::slots(level, base, range) {
            let entry = self.memory.load(table, slot);
            if !self.format.is_present(entry) {
                continue;
            }
            if self.format.is_leaf(entry, level) {
                visit(start, entry, level);
            } else {
                self.visit_in(self.format.table_address(entry), level - 1, start, range, visit);
            }
        }
    }

    /// Slots of a table of `level` that spans from `base` which overlap `range`, with the address at which each begins.
    fn slots(level: u8, base: u64, range: &Range<u64>) -> impl Iterator<Item = (usize, u64)> + use<M> {
        debug_assert!(range.end <= ADDRESS_END);
        let bytes = span(level);
        let end = range.end.min(base + bytes * ENTRIES as u64);
        let first = (range.start.max(base) - base) / bytes;
        let last = (end - base).div_ceil(bytes);
        (first..last).map(move |slot| (slot as usize, base + slot * bytes))
    }
}

/// Hands every table of a detached subtree to `free`, children before their parent, and returns how many 4 KiB pages its leaves
/// translated. No CPU may walk the subtree any more.
pub fn release_subtree<M: TableMemory>(
    format: &Format,
    memory: &M,
    table: u64,
    level: u8,
    free: &mut impl FnMut(u64),
) -> u64 {
    let mut pages = 0;
    for slot in 0..ENTRIES {
        let entry = memory.load(table, slot);
        if !format.is_present(entry) {
            continue;
        }
        if format.is_leaf(entry, level) {
            pages += span(level) >> 12;
        } else {
            pages += release_subtree(format, memory, format.table_address(entry), level - 1, free);
        }
    }
    free(table);
    pages
}
