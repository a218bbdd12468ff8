//! Counting what is translated, in pieces of bounded work.

use super::{Tables, slots};
use crate::{ROOT_LEVEL, TableMemory, span};
use core::ops::Range;

impl<M: TableMemory> Tables<'_, M> {
    /// Counts the 4 KiB pages of `range` that are translated, in at most `most` steps (one for each entry looked at; at least
    /// [`ROOT_LEVEL`], or it gets nowhere). Returns the count and where to go on, the end of the range if that is all.
    pub fn count(&self, range: &Range<u64>, most: usize) -> (u64, u64) {
        let (mut pages, mut left) = (0, most);
        if range.start >= range.end {
            return (0, range.end);
        }
        let stopped = self.count_in(self.root, ROOT_LEVEL, 0, range, &mut pages, &mut left);
        (pages, stopped.unwrap_or(range.end))
    }

    /// Adds to `pages`; the address where it stopped if no step was left.
    fn count_in(
        &self,
        table: u64,
        level: u8,
        base: u64,
        range: &Range<u64>,
        pages: &mut u64,
        left: &mut usize,
    ) -> Option<u64> {
        for (slot, start) in slots(level, base, range) {
            let (from, to) = (start.max(range.start), (start + span(level)).min(range.end));
            *left = match left.checked_sub(1) {
                Some(rest) => rest,
                None => return Some(from),
            };
            let entry = self.memory.load(table, slot);
            if !self.format.is_present(entry) {
                continue;
            }
            if self.format.is_leaf(entry, level) {
                *pages += (to - from) >> 12;
                continue;
            }
            let below = self.format.table_address(entry);
            if let Some(stopped) = self.count_in(below, level - 1, start, range, pages, left) {
                return Some(stopped);
            }
        }
        None
    }
}
