//! `madvise` and `mcontrol`.
//!
//! Advice about a long range is taken in pieces of bounded work. Between two pieces no lock is held, and the caller says whether to
//! go on: he lets others run, and stops for a thread that must end.

use super::fault::{ATTEMPTS, Access, Around, FaultError};
use super::region::DROP_BATCH;
use super::vmspace::{Vmspace, checked_range, page_rounded};
use crate::mm::{self, TakenPages};
use crate::pmap::{Cause, View};
use core::ops::Range;
use dragonet_abi::Errno;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::{Advice, Protection, Vpte};
use vm_map::Full;

/// Pages that one piece of `WillNeed` brings in.
const FETCH_BATCH: u64 = 64;

impl Vmspace {
    /// `madvise`: everything but [`Advice::SetMap`], in one go. A length of 0 does nothing.
    ///
    /// # Errors
    /// EINVAL for a range that is misaligned or not a program's, for `Invalidate` where memory is mapped without a virtual
    /// page table, and for `SetMap`; ENOMEM if memory runs out in `WillNeed`.
    pub fn advise(&self, address: u64, length: u64, advice: Advice) -> Result<(), Errno> {
        self.advise_while(address, length, advice, || true)
    }

    /// [`Self::advise`] for as long as `goes_on`, which is asked between two pieces of the work.
    ///
    /// # Errors
    /// As [`Self::advise`]; EINTR if it was told to stop.
    pub fn advise_while(
        &self,
        address: u64,
        length: u64,
        advice: Advice,
        goes_on: impl FnMut() -> bool,
    ) -> Result<(), Errno> {
        if length == 0 {
            return if advice == Advice::SetMap {
                Err(Errno::EINVAL)
            } else {
                Ok(())
            };
        }
        let range = checked_range(address, page_rounded(length)?)?;
        match advice {
            // `Free` would allow to drop pages later, when memory is short, but then those that were written meanwhile would have to be
            // told from those that were not. At once is within the promise.
            Advice::DontNeed | Advice::Free => in_pieces(&range, goes_on, |rest| Ok(self.drop_some(rest))),
            Advice::WillNeed => in_pieces(&range, goes_on, |rest| self.fetch_some(rest)),
            Advice::Invalidate => {
                // Outlives the lock, as everything that may take long.
                let _tables;
                let map = self.map.lock();
                let ordinary = map
                    .overlapping(range.clone())
                    .any(|entry| entry.payload.is_memory() && entry.payload.root.is_none());
                if ordinary {
                    return Err(Errno::EINVAL);
                }
                // Translations are a cache, so this would be right without the lock; but a fault that holds it must not be refused.
                _tables = self.pmap().remove(&range, &range, Cause::Advice);
                Ok(())
            }
            Advice::SetMap => Err(Errno::EINVAL),
        }
    }

    /// `mcontrol`: as `madvise`, and [`Advice::SetMap`] with the root entry as `value`, in one go.
    ///
    /// # Errors
    /// As [`Self::control_while`], which is told to go on.
    pub fn control(&self, address: u64, length: u64, advice: Advice, value: u64) -> Result<(), Errno> {
        self.control_while(address, length, advice, value, || true)
    }

    /// [`Self::control`] for as long as `goes_on`, which is asked between two pieces of the work.
    ///
    /// # Errors
    /// As [`Self::advise_while`]; EINVAL for `SetMap` where not all of the range has virtual page tables; ENOMEM if entries must be
    /// split and there are too many.
    pub fn control_while(
        &self,
        address: u64,
        length: u64,
        advice: Advice,
        value: u64,
        goes_on: impl FnMut() -> bool,
    ) -> Result<(), Errno> {
        if advice != Advice::SetMap {
            return self.advise_while(address, length, advice, goes_on);
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
        _tables = self.pmap().remove(&range, &range, Cause::SetMap);
        Ok(())
    }

    /// Drops the first private pages of `range` and returns where it stopped.
    fn drop_some(&self, range: &Range<u64>) -> u64 {
        // Freed at the end, when no CPU can reach the pages any more.
        let mut taken = TakenPages::new();
        self.take_some(range, &mut taken)
    }

    /// Takes the first private pages of `range` out of their object, then out of the page table, and returns where it
    /// stopped. In this order a fault in between either finds no page and makes a new one, or finds the old one
    /// and is refused by the interlock.
    fn take_some(&self, range: &Range<u64>, taken: &mut TakenPages) -> u64 {
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
            _tables = self.pmap().remove(&done, &done, Cause::DontNeed);
        }
        done.end
    }

    /// Brings in the first pages of `range` that a load could touch, and returns where it stopped. What cannot be touched is passed
    /// over: holes, guards, what a stack has not grown to, mappings without the right. So is a virtual page table, whose entries
    /// would be marked as accessed.
    fn fetch_some(&self, range: &Range<u64>) -> Result<u64, Errno> {
        let part = {
            let map = self.map.lock();
            let Some(entry) = map.overlapping(range.clone()).next() else {
                return Ok(range.end);
            };
            let part = range.start.max(entry.start)..range.end.min(entry.end);
            let region = entry.payload;
            if !region.is_memory() || region.root.is_some() || !region.protection.contains(Protection::READ) {
                return Ok(part.end);
            }
            part
        };
        let end = part.end.min(part.start + FETCH_BATCH * PAGE_SIZE);
        for page in (part.start..end).step_by(PAGE_SIZE as usize) {
            // Any other error: somebody has changed the mapping meanwhile.
            let fetched = self.resolve(page, Access::READ, Around::No, View::Regular, ATTEMPTS);
            if fetched == Err(FaultError::OutOfMemory) {
                return Err(Errno::ENOMEM);
            }
        }
        Ok(end)
    }
}

/// Does `piece` with what is left of `range` until nothing is; it returns where it stopped, above where it began.
fn in_pieces(
    range: &Range<u64>,
    mut goes_on: impl FnMut() -> bool,
    mut piece: impl FnMut(&Range<u64>) -> Result<u64, Errno>,
) -> Result<(), Errno> {
    let mut address = range.start;
    loop {
        address = piece(&(address..range.end))?;
        if address >= range.end {
            return Ok(());
        }
        if !goes_on() {
            return Err(Errno::EINTR);
        }
    }
}
