//! One page table in any format: the walk that every operation shares, and an operation a file.
//!
//! The caller holds the lock of the table (or is alone with it), from an operation until what it owes is discharged.
//! Hardware walks the table at the same time and sets accessed and dirty bits, which decides the order of writes: a table is
//! complete before an entry points to it; an entry in use is changed by compare-and-swap; and a translation to another
//! frame, or of another size, is broken and flushed before the new one is made.

mod count;
mod enter;
mod harvest;
mod narrow;
mod promote;
mod remove;
mod split;

pub use enter::{Entered, Taken};
pub use promote::Promotion;
pub use remove::{Released, release_subtree};
pub use split::Split;

use crate::{ADDRESS_END, ENTRIES, Format, Protection, ROOT_LEVEL, TableMemory, index, span};
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

/// Where an entry is.
#[derive(Clone, Copy, Debug)]
struct Place {
    table: u64,
    slot: usize,
    level: u8,
}

impl<'memory, M: TableMemory> Tables<'memory, M> {
    /// A view of the table whose root is at `root`.
    pub const fn new(format: &'static Format, root: u64, memory: &'memory M) -> Self {
        Tables { format, root, memory }
    }

    /// The translation of `address`.
    pub fn lookup(&self, address: u64) -> Option<Leaf> {
        let (place, entry) = self.find(address)?;
        let level = place.level;
        Some(Leaf {
            entry,
            level,
            physical: self.format.leaf_address(entry, level) | address & (span(level) - 1),
            protection: self.format.protection(entry),
        })
    }

    /// Place and entry of the leaf that translates `address`.
    fn find(&self, address: u64) -> Option<(Place, u64)> {
        let mut table = self.root;
        let mut level = ROOT_LEVEL;
        loop {
            let slot = index(address, level);
            let entry = self.memory.load(table, slot);
            if !self.format.is_present(entry) {
                return None;
            }
            if self.format.is_leaf(entry, level) {
                return Some((Place { table, slot, level }, entry));
            }
            table = self.format.table_address(entry);
            level -= 1;
        }
    }

    /// Shows the entries that lead to `address`, from the root down to the last that is there: level and entry. For reports.
    pub fn trace(&self, address: u64, mut show: impl FnMut(u8, u64)) {
        let mut table = self.root;
        for level in (1..=ROOT_LEVEL).rev() {
            let entry = self.memory.load(table, index(address, level));
            show(level, entry);
            if !self.format.is_present(entry) || self.format.is_leaf(entry, level) {
                return;
            }
            table = self.format.table_address(entry);
        }
    }

    /// Place of the entry for `address` in the table of `level`, if there is such a table.
    fn slot_at(&self, address: u64, level: u8) -> Option<Place> {
        let mut table = self.root;
        for above in (level + 1..=ROOT_LEVEL).rev() {
            let entry = self.memory.load(table, index(address, above));
            if !self.format.is_present(entry) || self.format.is_leaf(entry, above) {
                return None;
            }
            table = self.format.table_address(entry);
        }
        let slot = index(address, level);
        Some(Place { table, slot, level })
    }

    /// Calls `visit` with address, entry and level of every leaf in `range`, in ascending order.
    pub fn for_each(&self, range: &Range<u64>, visit: &mut impl FnMut(u64, u64, u8)) {
        self.visit(range, &mut |place, start, entry| visit(start, entry, place.level));
    }

    /// Calls `visit` with the place of every leaf that overlaps `range`, where it begins to translate, and its entry.
    fn visit(&self, range: &Range<u64>, visit: &mut impl FnMut(Place, u64, u64)) {
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
        visit: &mut impl FnMut(Place, u64, u64),
    ) {
        for (slot, start) in slots(level, base, range) {
            let entry = self.memory.load(table, slot);
            if !self.format.is_present(entry) {
                continue;
            }
            if self.format.is_leaf(entry, level) {
                visit(Place { table, slot, level }, start, entry);
            } else {
                self.visit_in(self.format.table_address(entry), level - 1, start, range, visit);
            }
        }
    }

    /// Changes an entry in use from `entry` to what `change` makes of it, whatever hardware sets in it meanwhile. `None` if there
    /// is nothing to change, else the entry before. Hardware sets two bits at most and clears none, so this ends.
    fn update(&self, place: Place, mut entry: u64, change: impl Fn(u64) -> u64) -> Option<u64> {
        loop {
            let changed = change(entry);
            if changed == entry {
                return None;
            }
            match self
                .memory
                .compare_exchange(place.table, place.slot, entry, changed)
            {
                Ok(()) => return Some(entry),
                Err(now) => entry = now,
            }
        }
    }
}

/// Slots of a table of `level` that spans from `base` which overlap `range`, with the address at which each begins.
fn slots(level: u8, base: u64, range: &Range<u64>) -> impl Iterator<Item = (usize, u64)> + use<> {
    debug_assert!(range.end <= ADDRESS_END);
    // Shifts: the level is known to nobody at compile time, and a division takes longer than everything else here.
    let shift = span(level).trailing_zeros();
    let end = range.end.min(base + ((ENTRIES as u64) << shift));
    let first = (range.start.max(base) - base) >> shift;
    let last = (end - base + (span(level) - 1)) >> shift;
    (first..last).map(move |slot| (slot as usize, base + (slot << shift)))
}
