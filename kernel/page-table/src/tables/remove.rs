//! Removing translations, and releasing the tables that nobody can walk any more.

use super::{Tables, slots};
use crate::{Detached, ENTRIES, FlushSet, Format, OwedFlush, PAGE_SIZE, ROOT_LEVEL, TableMemory, span};
use core::ops::Range;

/// State of one removal.
struct Removal<'range, D> {
    range: &'range Range<u64>,
    releasable: &'range Range<u64>,
    set: FlushSet,
    detached: D,
}

impl<M: TableMemory> Tables<'_, M> {
    /// Removes every translation in `range` and detaches every table that translates nothing outside `releasable`, a range
    /// that contains `range` and in which there is no translation beyond those that lie in `range`.
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
        let one_page = range.end - range.start.min(range.end) == PAGE_SIZE;
        if one_page && releasable.end.saturating_sub(releasable.start) < span(2) {
            // No table fits into what may go, so one walk down is all.
            if let Some((place, _)) = self.find(range.start) {
                let entry = self.memory.swap(place.table, place.slot, 0);
                let start = range.start & !(span(place.level) - 1);
                removal.set.add_removed(start, place.level);
                removal.detached.leaf(start, entry, place.level);
            }
        } else if range.start < range.end {
            self.remove_in(self.root, ROOT_LEVEL, 0, &mut removal);
        }
        OwedFlush::new(removal.set, removal.detached)
    }

    fn remove_in<D: Detached>(&self, table: u64, level: u8, base: u64, removal: &mut Removal<'_, D>) {
        for (slot, start) in slots(level, base, removal.range) {
            let entry = self.memory.load(table, slot);
            if !self.format.is_present(entry) {
                continue;
            }
            let end = start + span(level);
            if self.format.is_leaf(entry, level) {
                // What hardware set since the load is in the entry that comes back.
                let entry = self.memory.swap(table, slot, 0);
                removal.set.add_removed(start, level);
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
}

/// What [`release_subtree`] comes across.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// A leaf of `level` and all that hardware ever recorded in it.
    Leaf {
        /// The entry.
        entry: u64,
        /// Level.
        level: u8,
    },
    /// A table, to be freed. What is below it came before.
    Table(u64),
}

/// Hands every leaf and every table of a detached subtree to `released`, and returns how many 4 KiB pages its leaves
/// translated. No CPU may walk the subtree any more.
pub fn release_subtree<M: TableMemory>(
    format: &Format,
    memory: &M,
    table: u64,
    level: u8,
    released: &mut impl FnMut(Released),
) -> u64 {
    let mut pages = 0;
    for slot in 0..ENTRIES {
        let entry = memory.load(table, slot);
        if !format.is_present(entry) {
            continue;
        }
        if format.is_leaf(entry, level) {
            pages += span(level) / PAGE_SIZE;
            released(Released::Leaf { entry, level });
        } else {
            pages += release_subtree(format, memory, format.table_address(entry), level - 1, released);
        }
    }
    released(Released::Table(table));
    pages
}
