//! Taking rights from translations.

use super::Tables;
use crate::{FlushSet, OwedFlush, Protection, TableMemory};
use core::ops::Range;

impl<M: TableMemory> Tables<'_, M> {
    /// Takes from every translation in `range` the accesses that are not in `keep`, which contains `READ`. A leaf larger than a page
    /// that sticks out of `range` is narrowed as a whole: faults can always widen it.
    pub fn narrow(&self, range: &Range<u64>, keep: Protection) -> OwedFlush<()> {
        let mut set = FlushSet::nothing();
        self.visit(range, &mut |place, start, entry| {
            let before = self.update(place, entry, |entry| self.format.narrowed(entry, keep));
            if before.is_some() {
                set.add_changed(start.max(range.start), place.level);
            }
        });
        OwedFlush::new(set, ())
    }
}
