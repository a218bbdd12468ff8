//! `madvise` and `mcontrol`.

use super::fault::Access;
use super::region::DROP_BATCH;
use super::vmspace::{Vmspace, checked_range, page_rounded};
use crate::mm::{self, TakenPages};
use core::ops::Range;
use dragonet_abi::Errno;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::{Advice, Vpte};
use vm_map::Full;

/// Pages that one `WillNeed` brings in at most.
const MOST_PREFAULTED: u64 = 4096;

impl Vmspace {
    /// `madvise`: everything but [`Advice::SetMap`]. A length of 0 does nothing.
    ///
    /// # Errors
    /// EINVAL for a range that is misaligned or not a program's, for `Invalidate` where something is mapped without a virtual
    /// page table, and for `SetMap`.
    pub fn advise(&self, address: u64, length: u64, advice: Advice) -> Result<(), Errno> {
        if length == 0 {
            return if advice == Advice::SetMap {
                Err(Errno::EINVAL)
            } else {
                Ok(())
            };
        }
        let range = checked_range(address, page_rounded(length)?)?;
        match advice {
            Advice::DontNeed => self.drop_pages(&range),
            Advice::WillNeed => self.prefault(&range),
            Advice::Invalidate => {
                let ordinary = self
                    .map
                    .lock()
                    .overlapping(range.clone())
                    .any(|entry| entry.payload.root.is_none());
                if ordinary {
                    return Err(Errno::EINVAL);
                }
                // Without the map's lock: translations are a cache, so this is right whatever happens to the entries.
                drop(self.pmap().remove(&range, &range));
            }
            Advice::SetMap => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// `mcontrol`: as `madvise`, and [`Advice::SetMap`] with the root entry as `value`.
    ///
    /// # Errors
    /// As [`Self::advise`]; EINVAL for `SetMap` where not all of the range has virtual page tables; ENOMEM if entries must be
    /// split and there are too many.
    pub fn control(&self, address: u64, length: u64, advice: Advice, value: u64) -> Result<(), Errno> {
        if advice != Advice::SetMap {
            return self.advise(address, length, advice);
        }
        mm::check_headroom()?;
        let range = checked_range(address, page_rounded(length)?)?;
        // Outlives the lock, as everything that may take long.
        let _tables;
        let mut map = self.map.lock();
        let all = map.covers(range.clone())
            && map
                .overlapping(range.clone())
                .all(|entry| entry.payload.root.is_some());
        if !all {
            return Err(Errno::EINVAL);
        }
        map.update(range.clone(), |region| region.root = Some(Vpte(value)))
            .map_err(|Full| Errno::ENOMEM)?;
        _tables = self.pmap().remove(&range, &range);
        Ok(())
    }

    /// Drops private pages of a range, some at a time.
    fn drop_pages(&self, range: &Range<u64>) {
        let mut address = range.start;
        while address < range.end {
            // Freed at the end of each round, when no CPU can reach the pages any more.
            let mut taken = TakenPages::new();
            address = self.drop_some(&(address..range.end), &mut taken);
        }
    }

    /// Takes the first private pages of `range` out of their object, then out of the page table, and returns where it
    /// stopped. In this order a fault in between either finds no page and makes a new one, or finds the old one
    /// and is refused by the interlock.
    fn drop_some(&self, range: &Range<u64>, taken: &mut TakenPages) -> u64 {
        let _tables;
        let map = self.map.lock();
        let Some(entry) = map.overlapping(range.clone()).next() else {
            return range.end;
        };
        let part = range.start.max(entry.start)..range.end.min(entry.end);
        let Some((pages, offset)) = entry.payload.own_pages() else {
            return part.end;
        };
        let index = |address: u64| (offset + (address - entry.start)) / PAGE_SIZE;
        let stopped = pages.take(index(part.start)..index(part.end), DROP_BATCH, taken);
        let end = part.start + (stopped - index(part.start)) * PAGE_SIZE;
        let done = part.start..end.min(part.end);
        if !taken.is_empty() {
            _tables = self.pmap().remove(&done, &done);
        }
        done.end
    }

    /// Brings pages in, as far as that is possible and reasonable.
    fn prefault(&self, range: &Range<u64>) {
        let end = range.end.min(range.start + MOST_PREFAULTED * PAGE_SIZE);
        for page in (range.start..end).step_by(PAGE_SIZE as usize) {
            if self.handle_fault(page, Access::READ).is_err() {
                return;
            }
        }
    }
}
