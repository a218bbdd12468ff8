//! Replacing a full table of leaves by one larger leaf that translates the same. Why it is broken and flushed in between: see
//! `split`.

use super::{Place, Tables};
use crate::{ENTRIES, FlushSet, OwedFlush, TableMemory, Usage, span};

/// A table that is out of the page table, and the place for the larger leaf after the flush.
#[must_use = "the translations are missing until the leaf is made"]
pub struct Promotion<'tables, M> {
    tables: &'tables Tables<'tables, M>,
    place: Place,
    table: u64,
    /// The larger leaf, its usage aside.
    leaf: u64,
}

impl<M: TableMemory> Tables<'_, M> {
    /// Breaks the table below the entry for `address` at `level`, if its leaves can become one of that level: all 512 are there,
    /// contiguous, aligned as the larger leaf must be, and alike in all but their usage. `None` if not, or if no leaf of
    /// `level` exists (2 and 3 do, 3 only on CPUs with pages of 1 GiB).
    pub fn promote(&self, address: u64, level: u8) -> Option<OwedFlush<Promotion<'_, M>>> {
        if !(2..=3).contains(&level) {
            return None;
        }
        let place = self.slot_at(address, level)?;
        let entry = self.memory.load(place.table, place.slot);
        if !self.format.is_present(entry) || self.format.is_leaf(entry, level) {
            return None;
        }
        let table = self.format.table_address(entry);
        let leaf = self.common_leaf(table, level)?;
        self.memory.store(place.table, place.slot, 0);
        let start = address & !(span(level) - 1);
        let mut set = FlushSet::nothing();
        set.add_table(&(start..start + span(level)));
        let tables = self;
        Some(OwedFlush::new(
            set,
            Promotion {
                tables,
                place,
                table,
                leaf,
            },
        ))
    }

    /// The leaf of `level` that says what all entries of the table below say, their usage aside.
    fn common_leaf(&self, table: u64, level: u8) -> Option<u64> {
        let format = self.format;
        let below = level - 1;
        let first = self.memory.load(table, 0);
        let attributes = format.attributes(first, below)?;
        let start = format.leaf_address(first, below);
        let compared = !(format.leaf_address_mask(below) | format.accessed | format.dirty);
        let alike = (0..ENTRIES).all(|slot| {
            let entry = self.memory.load(table, slot);
            format.is_present(entry)
                && format.is_leaf(entry, below)
                && (entry ^ first) & compared == 0
                && format.leaf_address(entry, below) == start + slot as u64 * span(below)
        });
        (alike && start.is_multiple_of(span(level))).then(|| format.leaf(level, start, attributes))
    }
}

impl<M: TableMemory> Promotion<'_, M> {
    /// Puts the larger leaf in place, used in every way in which one of the smaller ones was, and returns the table that held
    /// those, to be freed. Nothing is to be flushed for that.
    pub fn make(self) -> u64 {
        let Tables { format, memory, .. } = self.tables;
        let Place { table, slot, .. } = self.place;
        // Read now and not before the flush: until then page walks recorded usage in the old leaves.
        let entries = (0..ENTRIES).map(|slot| memory.load(self.table, slot));
        let usage = entries.fold(Usage::empty(), |usage, entry| usage | format.usage(entry));
        memory.store(table, slot, self.leaf | format.usage_bits(usage));
        self.table
    }
}
