//! Replacing a large leaf by a table of smaller ones that translate the same.
//!
//! # Why the translation is broken and flushed in between
//! While only the page size changes, a CPU may hold both sizes in its TLBs and use either (Intel SDM volume 3, 4.10.2.3). The manual
//! asks for "not present, flush, then the new size" where frame, rights or attributes change with the size. Here they do
//! not, and yet that order is the only one, in `promote` too: several families end in a machine check when one access
//! meets two sizes of a translation (Intel's "machine check error on page size change", CVE-2018-12207; AMD's
//! erratum 383), and this order is both vendors' remedy. Whoever faults meanwhile waits for the table's lock and
//! finds the new translation.

use super::{Place, Tables};
use crate::{ENTRIES, FlushSet, NoMemory, OwedFlush, TableMemory, TableSource, span};

/// A leaf that is out of the table, and the table to be put in its place after the flush.
#[must_use = "the translation is missing until it is made"]
pub struct Split<'tables, M> {
    tables: &'tables Tables<'tables, M>,
    place: Place,
    entry: u64,
}

impl<M: TableMemory> Tables<'_, M> {
    /// Breaks the large leaf that translates `address` and prepares a table of leaves of the next level with the same attributes. Each
    /// of them counts as used in every way in which the large one was. `None` if there is no large leaf.
    ///
    /// # Errors
    /// [`NoMemory`] if there is no page for the table; then nothing is changed.
    pub fn split(
        &self,
        address: u64,
        source: &mut impl TableSource,
    ) -> Result<Option<OwedFlush<Split<'_, M>>>, NoMemory> {
        let format = self.format;
        let Some((place, found)) = self.find(address).filter(|(place, _)| place.level > 1) else {
            return Ok(None);
        };
        let Some(attributes) = format.attributes(found, place.level) else {
            return Ok(None);
        };
        let table = source.allocate().ok_or(NoMemory)?;
        // From here on no page walk finds the leaf, so what hardware recorded in it is complete.
        let old = self.memory.swap(place.table, place.slot, 0);
        let usage = format.usage_bits(format.usage(old));
        let below = place.level - 1;
        let first = format.leaf_address(old, place.level);
        for slot in 0..ENTRIES {
            let physical = first + slot as u64 * span(below);
            let leaf = format.leaf(below, physical, attributes) | usage;
            self.memory.store(table, slot, leaf);
        }
        let mut set = FlushSet::nothing();
        set.add_removed(address & !(span(place.level) - 1), place.level);
        let entry = format.table(table, attributes.user);
        let tables = self;
        Ok(Some(OwedFlush::new(set, Split { tables, place, entry })))
    }
}

impl<M: TableMemory> Split<'_, M> {
    /// Level of the leaves that are to come.
    pub const fn level(&self) -> u8 {
        self.place.level - 1
    }

    /// Puts the smaller leaves in place. Nothing is to be flushed for that.
    pub fn make(self) {
        let Place { table, slot, .. } = self.place;
        self.tables.memory.store(table, slot, self.entry);
    }
}
