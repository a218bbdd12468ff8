//! Entering a translation, and building the tables on the way to it.

use super::{Place, Tables};
use crate::{Detached, FlushSet, NoMemory, OwedFlush, ROOT_LEVEL, TableMemory, TableSource, index, span};

/// What [`Tables::enter`] did.
#[must_use = "a broken translation must be flushed and entered again"]
#[derive(Debug)]
pub enum Entered {
    /// There was no translation; nothing needs to be flushed.
    New,
    /// The same page with at least these accesses was there; nothing needs to be flushed.
    Same,
    /// The same page with fewer accesses was there and now has these; nothing needs to be flushed.
    Widened,
    /// Something else was there and is removed. Discharge the flush, then enter again.
    Broken(OwedFlush<Taken>),
}

/// What stood in the way of a new translation.
#[must_use = "it may be a dirty page or a table"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A leaf of `level` that translated from `address`, and all that hardware ever recorded in it.
    Leaf {
        /// First address, aligned to the level's span.
        address: u64,
        /// The entry.
        entry: u64,
        /// Level.
        level: u8,
    },
    /// A table of `level` with all tables below it, where a leaf is to go. To be freed after the flush.
    Table {
        /// Physical address.
        table: u64,
        /// Level.
        level: u8,
    },
}

impl Taken {
    /// Hands it to who also takes what a removal finds.
    pub fn hand_to(self, detached: &mut impl Detached) {
        match self {
            Taken::Leaf {
                address,
                entry,
                level,
            } => detached.leaf(address, entry, level),
            Taken::Table { table, level } => detached.table(table, level),
        }
    }
}

impl<M: TableMemory> Tables<'_, M> {
    /// Writes `entry` as the translation of `address` at `level`, building tables on the way.
    ///
    /// The same translation with fewer rights is widened, one with other bits of the owner gets these, and what `entry` says about
    /// usage is added to what is known: a CPU that still holds the old translation can do less, faults, and comes back
    /// here. Anything else is broken first, see [`Entered::Broken`]: a translation to another frame or with other
    /// attributes, a larger one, and a table of smaller ones, which goes as a whole.
    ///
    /// # Errors
    /// [`NoMemory`] if a table page is needed and there is none. Tables built so far stay.
    pub fn enter(
        &self,
        address: u64,
        level: u8,
        entry: u64,
        source: &mut impl TableSource,
    ) -> Result<Entered, NoMemory> {
        let format = self.format;
        let user = entry & format.user != 0;
        let table = match self.descend(address, level, user, source)? {
            Ok(table) => table,
            Err(larger) => return Ok(self.break_leaf(larger, address)),
        };
        let slot = index(address, level);
        let place = Place { table, slot, level };
        let old = self.memory.load(table, slot);
        if !format.is_present(old) {
            self.memory.store(table, slot, entry);
            return Ok(Entered::New);
        }
        if !format.is_leaf(old, level) {
            return Ok(self.break_table(place, old, address));
        }
        let access = format.write | format.execute | format.no_execute;
        let usage = format.accessed | format.dirty;
        let software = format.software_mask();
        let (had, wanted) = (format.protection(old), format.protection(entry));
        let comparable = had.contains(wanted) || wanted.contains(had);
        if (old ^ entry) & !(access | usage | software) != 0 || !comparable {
            return Ok(self.break_leaf(place, address));
        }
        self.update(place, old, |old| {
            if had.contains(wanted) {
                old & !software | entry & (usage | software)
            } else {
                entry | old & usage
            }
        });
        Ok(if had.contains(wanted) {
            Entered::Same
        } else {
            Entered::Widened
        })
    }

    /// Writes `entry` as the translation of the page at `address` if its table is there and there is no translation. True if it did.
    /// Nothing is allocated, nothing changed that a CPU can hold, nothing to flush.
    pub fn enter_absent(&self, address: u64, entry: u64) -> bool {
        let place = self.slot_at(address, 1);
        let absent = place.filter(|place| !self.format.is_present(self.memory.load(place.table, place.slot)));
        if let Some(place) = absent {
            self.memory.store(place.table, place.slot, entry);
        }
        absent.is_some()
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

    /// The table of `level` for `address`, built if need be; or the place of a larger leaf that is in the way.
    fn descend(
        &self,
        address: u64,
        level: u8,
        user: bool,
        source: &mut impl TableSource,
    ) -> Result<Result<u64, Place>, NoMemory> {
        let mut table = self.root;
        for above in (level + 1..=ROOT_LEVEL).rev() {
            let slot = index(address, above);
            let found = self.memory.load(table, slot);
            table = if !self.format.is_present(found) {
                let fresh = source.allocate().ok_or(NoMemory)?;
                self.memory.store(table, slot, self.format.table(fresh, user));
                fresh
            } else if self.format.is_leaf(found, above) {
                let level = above;
                return Ok(Err(Place { table, slot, level }));
            } else {
                // A walk that used the entry without the bit faults and finds it next time.
                let widen = if user { self.format.user } else { 0 };
                self.update(
                    Place {
                        table,
                        slot,
                        level: above,
                    },
                    found,
                    |entry| entry | widen,
                );
                self.format.table_address(found)
            };
        }
        Ok(Ok(table))
    }

    fn break_leaf(&self, place: Place, address: u64) -> Entered {
        let level = place.level;
        let entry = self.memory.swap(place.table, place.slot, 0);
        let address = address & !(span(level) - 1);
        let mut set = FlushSet::nothing();
        set.add_removed(address, level);
        let taken = Taken::Leaf {
            address,
            entry,
            level,
        };
        Entered::Broken(OwedFlush::new(set, taken))
    }

    fn break_table(&self, place: Place, entry: u64, address: u64) -> Entered {
        self.memory.store(place.table, place.slot, 0);
        let start = address & !(span(place.level) - 1);
        let mut set = FlushSet::nothing();
        set.add_table(&(start..start + span(place.level)));
        let taken = Taken::Table {
            table: self.format.table_address(entry),
            level: place.level - 1,
        };
        Entered::Broken(OwedFlush::new(set, taken))
    }
}
