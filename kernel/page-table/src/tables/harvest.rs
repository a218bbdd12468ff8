//! Collecting and clearing the record of usage.

use super::Tables;
use crate::{FlushSet, Harvest, OwedFlush, TableMemory, Usage};
use core::ops::Range;

impl<M: TableMemory> Tables<'_, M> {
    /// Clears what is recorded of `usage` in every translation in `range` and tells `harvest` what was. A leaf larger than a page that
    /// sticks out of `range` is told and cleared as a whole.
    ///
    /// `harvest` comes back only after the flush, because a CPU that holds a translation which it knows to be dirty stores through
    /// it without a word until then. So a page is to be called clean, and its contents to be looked at, after the
    /// discharge, not before: what was stored up to the flush belongs to what is told here, and what is stored later is recorded anew.
    ///
    /// Where hardware does not set the dirty bit, the right to store is taken away with it, see
    /// [`Format::without_usage`](crate::Format::without_usage). Where it has no accessed bit, every translation counts as
    /// accessed, and nothing is cleared.
    pub fn harvest<H: Harvest>(&self, range: &Range<u64>, usage: Usage, mut harvest: H) -> OwedFlush<H> {
        let mut set = FlushSet::nothing();
        self.visit(range, &mut |place, start, entry| {
            let clear = |entry| self.format.without_usage(entry, usage);
            // What hardware set since the load is in the entry before the change.
            let before = self.update(place, entry, clear);
            if before.is_some() {
                set.add_changed(start.max(range.start), place.level);
            }
            let found = self.format.usage(before.unwrap_or(entry)) & usage;
            if !found.is_empty() {
                harvest.leaf(start, place.level, found);
            }
        });
        OwedFlush::new(set, harvest)
    }
}
