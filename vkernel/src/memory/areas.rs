//! The areas of one address space, in order of address and never overlapping.

use crate::linux::Errno;
use crate::memory::area::{Area, Protection};
use alloc::collections::BTreeMap;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Areas of one address space at most, as on Linux.
pub const MAX_AREAS: usize = 65_530;

/// Areas of all address spaces together at most: they live in the vkernel's heap, which is the host's memory.
const MAX_ALL_AREAS: usize = 1 << 18;

/// Areas of all address spaces.
static ALL: AtomicUsize = AtomicUsize::new(0);

/// The map from addresses to areas.
#[derive(Default)]
pub struct Areas {
    by_start: BTreeMap<u64, Area>,
    /// How many of them are counted in `ALL`.
    counted: usize,
}

impl Areas {
    /// No areas.
    pub const fn new() -> Self {
        Areas {
            by_start: BTreeMap::new(),
            counted: 0,
        }
    }

    /// The area that holds `address`.
    pub fn find(&self, address: u64) -> Option<&Area> {
        let (_, area) = self.by_start.range(..=address).next_back()?;
        (address < area.end).then_some(area)
    }

    /// Every area, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &Area> {
        self.by_start.values()
    }

    /// The areas that overlap `range`, ascending.
    pub fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = &Area> {
        let first = self.find(range.start).map_or(range.start, |area| area.start);
        self.by_start
            .range(first..range.end.max(first))
            .map(|(_, area)| area)
    }

    /// True if every page of `range` is in some area.
    pub fn covers(&self, range: Range<u64>) -> bool {
        let mut reached = range.start;
        for area in self.overlapping(range.clone()) {
            if area.start > reached {
                return false;
            }
            reached = area.end;
        }
        reached >= range.end
    }

    /// Adds an area where there is none, joining it with its neighbours where they are alike.
    ///
    /// # Errors
    /// `ENOMEM` beyond [`MAX_AREAS`].
    pub fn insert(&mut self, area: Area) -> Result<(), Errno> {
        if self.by_start.len() >= MAX_AREAS || ALL.load(Ordering::Relaxed) >= MAX_ALL_AREAS {
            return Err(Errno::ENOMEM);
        }
        self.put(area);
        Ok(())
    }

    /// [`Self::insert`], whatever the limits say: of what was there a moment ago.
    fn put(&mut self, mut area: Area) {
        debug_assert!(self.overlapping(area.start..area.end).next().is_none());
        if let Some((&start, previous)) = self.by_start.range(..area.start).next_back()
            && previous.joins(&area)
        {
            let mut joined = previous.clone();
            joined.end = area.end;
            self.by_start.remove(&start);
            area = joined;
        }
        if let Some(next) = self.by_start.get(&area.end)
            && area.joins(next)
        {
            let end = next.end;
            self.by_start.remove(&area.end);
            area.end = end;
        }
        self.by_start.insert(area.start, area);
        self.count();
    }

    /// Removes every page of `range`. Areas that reach beyond it keep their other parts.
    ///
    /// # Errors
    /// `ENOMEM` if cutting a hole would exceed [`MAX_AREAS`]; nothing has changed then.
    pub fn remove(&mut self, range: Range<u64>) -> Result<(), Errno> {
        let cuts_a_hole = self
            .find(range.start)
            .is_some_and(|area| area.start < range.start && area.end > range.end);
        if cuts_a_hole && self.by_start.len() >= MAX_AREAS {
            return Err(Errno::ENOMEM);
        }
        if range.is_empty() {
            return Ok(());
        }
        loop {
            let first = self.overlapping(range.clone()).next().cloned();
            let Some(area) = first else { break };
            self.by_start.remove(&area.start);
            if area.start < range.start {
                self.by_start
                    .insert(area.start, area.part(area.start, range.start));
            }
            if area.end > range.end {
                self.by_start.insert(range.end, area.part(range.end, area.end));
            }
        }
        self.count();
        Ok(())
    }

    /// Gives every page of `range`, all of which are in areas, another protection.
    ///
    /// # Errors
    /// `ENOMEM` if there is a hole or the split would exceed [`MAX_AREAS`]; nothing has changed then.
    pub fn protect(&mut self, range: Range<u64>, protection: Protection) -> Result<(), Errno> {
        if !self.covers(range.clone()) {
            return Err(Errno::ENOMEM);
        }
        if self.by_start.len() + 2 > MAX_AREAS {
            return Err(Errno::ENOMEM);
        }
        let parts: alloc::vec::Vec<Area> = self
            .overlapping(range.clone())
            .map(|area| area.part(range.start, range.end))
            .collect();
        self.remove(range)?;
        for mut part in parts {
            part.protection = protection;
            self.put(part);
        }
        Ok(())
    }

    /// True if there are so many areas in all that there must not be a copy of these.
    pub fn is_at_limit(&self) -> bool {
        ALL.load(Ordering::Relaxed) + self.by_start.len() > MAX_ALL_AREAS
    }

    /// Brings the count of all areas up to date.
    fn count(&mut self) {
        ALL.fetch_add(self.by_start.len(), Ordering::Relaxed);
        ALL.fetch_sub(self.counted, Ordering::Relaxed);
        self.counted = self.by_start.len();
    }

    /// The highest free run of `length` bytes (a multiple of the page size, above 0) inside `bounds`.
    pub fn find_gap(&self, length: u64, bounds: Range<u64>) -> Option<u64> {
        let mut top = bounds.end;
        for area in self.by_start.range(..bounds.end).rev().map(|(_, area)| area) {
            if area.end <= bounds.start {
                break;
            }
            if top.saturating_sub(area.end) >= length {
                return Some(top - length);
            }
            top = top.min(area.start);
        }
        (top.checked_sub(length)? >= bounds.start).then(|| top - length)
    }
}

impl Clone for Areas {
    fn clone(&self) -> Self {
        let mut copy = Areas {
            by_start: self.by_start.clone(),
            counted: 0,
        };
        copy.count();
        copy
    }
}

impl Drop for Areas {
    fn drop(&mut self) {
        ALL.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const PAGE: u64 = 4096;
    const RW: Protection = Protection::READ.union(Protection::WRITE);

    fn shape(areas: &Areas) -> Vec<(u64, u64, Protection)> {
        areas
            .iter()
            .map(|area| (area.start / PAGE, area.end / PAGE, area.protection))
            .collect()
    }

    fn add(areas: &mut Areas, start: u64, end: u64, protection: Protection) {
        areas
            .insert(Area::anonymous(start * PAGE, end * PAGE, protection))
            .unwrap();
    }

    #[test]
    fn like_neighbours_become_one() {
        let mut areas = Areas::new();
        add(&mut areas, 10, 12, RW);
        add(&mut areas, 14, 16, RW);
        add(&mut areas, 12, 14, RW);
        add(&mut areas, 16, 17, Protection::READ);
        assert_eq!(shape(&areas), [(10, 16, RW), (16, 17, Protection::READ)]);
    }

    #[test]
    fn removal_cuts() {
        let mut areas = Areas::new();
        add(&mut areas, 10, 20, RW);
        areas.remove(12 * PAGE..13 * PAGE).unwrap();
        assert_eq!(shape(&areas), [(10, 12, RW), (13, 20, RW)]);
        areas.remove(11 * PAGE..14 * PAGE).unwrap();
        assert_eq!(shape(&areas), [(10, 11, RW), (14, 20, RW)]);
        assert!(areas.find(11 * PAGE).is_none());
        assert!(areas.find(14 * PAGE).is_some());
        areas.remove(0..100 * PAGE).unwrap();
        assert_eq!(shape(&areas), []);
    }

    #[test]
    fn protection_needs_every_page() {
        let mut areas = Areas::new();
        add(&mut areas, 10, 12, RW);
        add(&mut areas, 13, 15, RW);
        assert_eq!(
            areas.protect(11 * PAGE..14 * PAGE, Protection::READ),
            Err(Errno::ENOMEM)
        );
        assert_eq!(shape(&areas), [(10, 12, RW), (13, 15, RW)]);
        areas.protect(13 * PAGE..14 * PAGE, Protection::empty()).unwrap();
        assert_eq!(
            shape(&areas),
            [(10, 12, RW), (13, 14, Protection::empty()), (14, 15, RW)]
        );
        areas.protect(13 * PAGE..14 * PAGE, RW).unwrap();
        assert_eq!(shape(&areas), [(10, 12, RW), (13, 15, RW)]);
    }

    #[test]
    fn gaps_are_found_from_the_top() {
        let mut areas = Areas::new();
        add(&mut areas, 90, 95, RW);
        add(&mut areas, 50, 80, RW);
        let bounds = 40 * PAGE..100 * PAGE;
        assert_eq!(areas.find_gap(5 * PAGE, bounds.clone()), Some(95 * PAGE));
        assert_eq!(areas.find_gap(6 * PAGE, bounds.clone()), Some(84 * PAGE));
        assert_eq!(areas.find_gap(10 * PAGE, bounds.clone()), Some(80 * PAGE));
        assert_eq!(areas.find_gap(11 * PAGE, bounds.clone()), None);
        add(&mut areas, 98, 120, RW);
        assert_eq!(areas.find_gap(3 * PAGE, bounds.clone()), Some(95 * PAGE));
        assert_eq!(areas.find_gap(!4095, bounds), None);
    }

    /// The map against the simplest model: an array of pages.
    #[test]
    fn random_operations_agree_with_a_page_array() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |bound: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % bound
        };
        let mut areas = Areas::new();
        let mut model: [Option<Protection>; 64] = [None; 64];
        for _ in 0..20_000 {
            let start = random(64);
            let end = start + 1 + random(64 - start);
            let range = start * PAGE..end * PAGE;
            let slots = start as usize..end as usize;
            let protection = Protection::from_bits_truncate(random(8) as u8);
            match random(3) {
                0 => {
                    areas.remove(range.clone()).unwrap();
                    areas
                        .insert(Area::anonymous(range.start, range.end, protection))
                        .unwrap();
                    model[slots].fill(Some(protection));
                }
                1 => {
                    areas.remove(range).unwrap();
                    model[slots].fill(None);
                }
                _ => {
                    let whole = model[slots.clone()].iter().all(Option::is_some);
                    assert_eq!(areas.covers(range.clone()), whole);
                    assert_eq!(areas.protect(range, protection).is_ok(), whole);
                    if whole {
                        model[slots].fill(Some(protection));
                    }
                }
            }
            for (index, expected) in model.iter().enumerate() {
                let found = areas.find(index as u64 * PAGE).map(|area| area.protection);
                assert_eq!(found, *expected);
            }
        }
    }
}
