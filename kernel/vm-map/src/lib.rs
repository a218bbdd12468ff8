//! The map of an address space: which ranges exist and what backs each. Pure bookkeeping: no page tables, no locks.
//!
//! A [`Map`] holds entries that do not overlap, each with a payload of the caller's. Operations on a range first *clip*: an
//! entry that sticks out is split at the border, and the payload of the upper part is told how far it moved
//! ([`Payload::advance`]), which is what keeps object offsets, and the index base of virtual page tables, right.
//!
//! All ranges are page-aligned, not empty and inside the map's limits: the caller has checked. Used by the kernel's `vm`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::collections::BTreeMap;
use core::ops::Range;

#[cfg(test)]
mod tests;

/// What an entry carries.
pub trait Payload: Clone {
    /// The entry's start moves up by `bytes`.
    fn advance(&mut self, bytes: u64);
    /// The entry's start moves down by `bytes`. False, and nothing is changed, if there is not so much below it.
    fn retreat(&mut self, bytes: u64) -> bool;
}

/// One entry as it is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<P> {
    /// First address.
    pub start: u64,
    /// First address above.
    pub end: u64,
    /// The caller's.
    pub payload: P,
}

impl<P> Entry<P> {
    /// Addresses of the entry.
    pub const fn range(&self) -> Range<u64> {
        self.start..self.end
    }
}

/// The operation needs more entries than the map may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Why an entry cannot be inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// Something is mapped there.
    Overlap,
    /// The map has its most entries.
    Full,
}

/// Two entries do not meet where [`Map::lower_border`] was told, or the upper one cannot be so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoBorder;

/// What [`Map::remove`] took out. It is given away whole, so that payloads can be dropped where no lock is held.
#[must_use]
#[derive(Debug)]
pub struct Removed<P> {
    // A tree like the map: no large piece of memory is needed, however many entries there are.
    entries: BTreeMap<u64, (u64, P)>,
}

impl<P> Default for Removed<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> Removed<P> {
    /// Nothing.
    pub const fn new() -> Self {
        Removed {
            entries: BTreeMap::new(),
        }
    }

    /// True if nothing was there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Entry<&P>> {
        self.entries.iter().map(|(&start, (end, payload))| Entry {
            start,
            end: *end,
            payload,
        })
    }
}

/// The map.
#[derive(Debug)]
pub struct Map<P> {
    limits: Range<u64>,
    most: usize,
    entries: BTreeMap<u64, (u64, P)>,
    /// Addresses without a gap, where a search for one began before.
    packed: Range<u64>,
}

impl<P: Payload> Map<P> {
    /// An empty map of the addresses in `limits` with at most `most` entries.
    #[must_use]
    pub const fn new(limits: Range<u64>, most: usize) -> Self {
        Map {
            limits,
            most,
            entries: BTreeMap::new(),
            packed: 0..0,
        }
    }

    /// Addresses that can be mapped.
    #[must_use]
    pub fn limits(&self) -> Range<u64> {
        self.limits.clone()
    }

    /// Count of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if nothing is mapped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries that can be added.
    #[must_use]
    pub fn room(&self) -> usize {
        self.most.saturating_sub(self.entries.len())
    }

    /// The entry that contains `address`.
    pub fn find(&self, address: u64) -> Option<Entry<&P>> {
        let (&start, (end, payload)) = self.entries.range(..=address).next_back()?;
        (address < *end).then_some(Entry {
            start,
            end: *end,
            payload,
        })
    }

    /// Entries that overlap `range`, ascending, unclipped.
    pub fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = Entry<&P>> {
        let first = self.find(range.start);
        let rest = first.as_ref().map_or(range.start, |entry| entry.end);
        // Mostly there is no rest, and then the tree is searched once.
        let others = (rest < range.end).then(|| self.entries.range(rest..range.end));
        let others = others
            .into_iter()
            .flatten()
            .map(|(&start, (end, payload))| Entry {
                start,
                end: *end,
                payload,
            });
        first.into_iter().chain(others)
    }

    /// True if every address of `range` is mapped.
    #[must_use]
    pub fn covers(&self, range: Range<u64>) -> bool {
        let mut reached = range.start;
        for entry in self.overlapping(range.clone()) {
            if entry.start > reached {
                return false;
            }
            reached = entry.end;
        }
        reached >= range.end
    }

    /// True if no address of `range` is mapped.
    #[must_use]
    pub fn is_free(&self, range: Range<u64>) -> bool {
        let below_end = self.entries.range(..range.end).next_back();
        below_end.is_none_or(|(_, (end, _))| *end <= range.start)
    }

    /// `range` widened to the neighbouring entries, or to the limits: where nothing is mapped once `range` is not.
    #[must_use]
    pub fn gap_around(&self, range: Range<u64>) -> Range<u64> {
        let below = self.entries.range(..range.start).next_back();
        let start = below.map_or(self.limits.start, |(_, (end, _))| (*end).min(range.start));
        let end = match self.find(range.end) {
            Some(_) => range.end,
            None => self
                .entries
                .range(range.end..)
                .next()
                .map_or(self.limits.end, |(&start, _)| start),
        };
        start..end.max(range.end)
    }

    /// The lowest free `length` bytes in `window`. What is packed from the window's start on is remembered, so that mapping one thing
    /// after the other does not go through all that came before.
    #[must_use]
    pub fn find_gap(&mut self, length: u64, window: Range<u64>) -> Option<u64> {
        let window = window.start.max(self.limits.start)..window.end.min(self.limits.end);
        let mut start = window.start;
        if self.packed.contains(&start) {
            start = self.packed.end;
        }
        let mut packed = start;
        for entry in self.overlapping(start..window.end.max(start)) {
            if entry.start.saturating_sub(start) >= length {
                break;
            }
            if entry.start <= packed {
                packed = packed.max(entry.end);
            }
            start = start.max(entry.end);
        }
        self.packed = window.start..packed;
        let end = start.checked_add(length)?;
        (end <= window.end).then_some(start)
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// [`InsertError`]; the map is unchanged.
    pub fn insert(&mut self, range: Range<u64>, payload: P) -> Result<(), InsertError> {
        let end = range.end;
        self.insert_all(range, core::iter::once((end, payload)))
    }

    /// Adds entries that fill `range` without a gap, ascending, each given by its end: all or none.
    ///
    /// # Errors
    /// [`InsertError`]; the map is unchanged.
    pub fn insert_all(
        &mut self,
        range: Range<u64>,
        parts: impl ExactSizeIterator<Item = (u64, P)>,
    ) -> Result<(), InsertError> {
        debug_assert!(range.start < range.end);
        debug_assert!(self.limits.start <= range.start && range.end <= self.limits.end);
        if !self.is_free(range.clone()) {
            return Err(InsertError::Overlap);
        }
        if self.room() < parts.len() {
            return Err(InsertError::Full);
        }
        let mut start = range.start;
        for (end, payload) in parts {
            debug_assert!(start < end && end <= range.end);
            self.entries.insert(start, (end, payload));
            start = end;
        }
        debug_assert!(start == range.end);
        Ok(())
    }

    /// Moves the border between two entries that meet at `border` down to `to`, which lies in the lower one: the upper one takes
    /// the addresses in between over. Returns the lower one's payload if nothing is left of it. The count of entries does
    /// not grow.
    ///
    /// # Errors
    /// [`NoBorder`]; the map is unchanged.
    pub fn lower_border(&mut self, border: u64, to: u64) -> Result<Option<P>, NoBorder> {
        let lower = self.find(to).filter(|lower| lower.end == border);
        let lower_start = lower.ok_or(NoBorder)?.start;
        let (_, upper) = self.entries.get_mut(&border).ok_or(NoBorder)?;
        if !upper.retreat(border - to) {
            return Err(NoBorder);
        }
        let gone = if lower_start == to {
            self.entries.remove(&to).map(|(_, payload)| payload)
        } else {
            if let Some((end, _)) = self.entries.get_mut(&lower_start) {
                *end = to;
            }
            None
        };
        if let Some(upper) = self.entries.remove(&border) {
            self.entries.insert(to, upper);
        }
        Ok(gone)
    }

    /// Removes what is mapped in `range` and returns it, clipped. However many entries that are, it takes little memory: a program
    /// that has used up all of it can still be torn down.
    ///
    /// # Errors
    /// [`Full`] if clipping needs an entry too many; the map is unchanged.
    pub fn remove(&mut self, range: Range<u64>) -> Result<Removed<P>, Full> {
        self.clip(range.clone())?;
        if self.packed.start < range.end {
            self.packed.end = self.packed.end.min(range.start);
        }
        let mut removed = Removed::new();
        let mut inside = self.entries.range(range.clone()).map(|(&start, _)| start);
        let mut next = inside.next();
        let many = inside.nth(Self::MOVED_SINGLY - 1).is_some();
        if many {
            // Splitting and joining hands nodes over instead of building the second tree beside the first.
            removed.entries = self.entries.split_off(&range.start);
            let mut above = removed.entries.split_off(&range.end);
            self.entries.append(&mut above);
            return Ok(removed);
        }
        while let Some(start) = next {
            let Some(entry) = self.entries.remove(&start) else {
                break;
            };
            let rest = entry.0..range.end;
            removed.entries.insert(start, entry);
            next = None;
            if rest.start < rest.end {
                next = self.entries.range(rest).map(|(&start, _)| start).next();
            }
        }
        Ok(removed)
    }

    /// Entries that a removal moves one by one: up to here the memory for them is less than the kernel always has left.
    const MOVED_SINGLY: usize = 256;

    /// True if an entry sticks out of `range`, so that changing the range needs further entries.
    #[must_use]
    pub fn must_split(&self, range: Range<u64>) -> bool {
        [range.start, range.end]
            .into_iter()
            .any(|border| self.find(border).is_some_and(|entry| entry.start < border))
    }

    /// Changes the payload of what is mapped in `range`, clipped to it.
    ///
    /// # Errors
    /// [`Full`] if clipping needs an entry too many; nothing is changed.
    pub fn update(&mut self, range: Range<u64>, mut change: impl FnMut(&mut P)) -> Result<(), Full> {
        self.clip(range.clone())?;
        for (_, (_, payload)) in self.entries.range_mut(range) {
            change(payload);
        }
        Ok(())
    }

    /// Splits the entries that `range`'s borders fall into.
    fn clip(&mut self, range: Range<u64>) -> Result<(), Full> {
        let inside = |address| self.find(address).is_some_and(|entry| entry.start < address);
        let (at_start, at_end) = (inside(range.start), inside(range.end));
        if self.entries.len() + usize::from(at_start) + usize::from(at_end) > self.most {
            return Err(Full);
        }
        if at_start {
            self.split(range.start);
        }
        if at_end {
            self.split(range.end);
        }
        Ok(())
    }

    fn split(&mut self, address: u64) {
        let Some((&start, (end, payload))) = self.entries.range_mut(..address).next_back() else {
            return;
        };
        if *end <= address {
            return;
        }
        let mut upper = payload.clone();
        upper.advance(address - start);
        let upper_end = core::mem::replace(end, address);
        self.entries.insert(address, (upper_end, upper));
    }
}
