//! Copies of address spaces: what is inherited, and how pages of private memory come to be shared until somebody writes.
//!
//! A [`Fork`] is made in short steps, since locks keep interrupts off: one entry, or some pages of one, at a time. The copy is
//! built beside the target and put into it as a whole at the end, so nobody sees or runs half of it, and an error leaves
//! nothing. The source goes on meanwhile; what it changes between two steps is in the copy or not.

use super::object::MemoryObject;
use super::region::{Overlay, Region, Role, charged};
use super::vmspace::{MAX_ENTRIES, Vmspace, checked_range, page_rounded};
use crate::debug::counters;
use crate::mm::{self, Charge, Shared};
use crate::pmap::Cause;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use dragonet_abi::Errno;
use dragonet_abi::counters::Counter;
use dragonet_abi::layout::{PAGE_SIZE, USER_END, USER_START};
use dragonet_abi::memory::Inheritance;
use page_table::Protection;
use vm_map::{Full, Map, Payload};

impl Vmspace {
    /// Says what a fork makes of a range.
    ///
    /// # Errors
    /// EINVAL for a bad range, or if one of its mappings is not of a kind with which that can be done; ENOMEM if there is a hole, or too
    /// many entries.
    pub fn set_inheritance(&self, address: u64, length: u64, inheritance: Inheritance) -> Result<(), Errno> {
        let range = checked_range(address, page_rounded(length)?)?;
        mm::check_headroom()?;
        let mut map = self.map.lock();
        if !map.covers(range.clone()) {
            return Err(Errno::ENOMEM);
        }
        let possible = map
            .overlapping(range.clone())
            .all(|entry| entry.payload.can_inherit(inheritance));
        if !possible {
            return Err(Errno::EINVAL);
        }
        map.update(range, |region| region.inheritance = inheritance)
            .map_err(|Full| Errno::ENOMEM)
    }
}

/// A copy of a vmspace that is being made.
pub struct Fork<'spaces> {
    source: &'spaces Vmspace,
    target: &'spaces Vmspace,
    /// The copy so far. Its addresses are charged to the target's account.
    copy: Map<Region>,
    /// Where the next step goes on.
    address: u64,
    /// The entry whose pages are being shared.
    open: Option<Part>,
}

/// An entry with private memory on both sides.
struct Part {
    start: u64,
    end: u64,
    /// The source's as it was when the part was begun.
    original: Region,
    copy: Region,
}

/// Fills the empty `target` with a copy of `source`, for as long as `goes_on`, which is asked between two steps.
///
/// # Errors
/// As [`Fork::new`], [`Fork::step`] and [`Fork::finish`]; EINTR if it was told to stop. `target` is as it was then.
pub fn fork_while(
    source: &Vmspace,
    target: &Vmspace,
    mut goes_on: impl FnMut() -> bool,
) -> Result<(), Errno> {
    let mut fork = Fork::new(source, target)?;
    while fork.step()? {
        if !goes_on() {
            return Err(Errno::EINTR);
        }
    }
    fork.finish()
}

impl<'spaces> Fork<'spaces> {
    /// Begins a copy of `source` for `target`.
    ///
    /// # Errors
    /// EINVAL if both are one; EBUSY if the target is not empty.
    pub fn new(source: &'spaces Vmspace, target: &'spaces Vmspace) -> Result<Self, Errno> {
        if core::ptr::eq(source, target) {
            return Err(Errno::EINVAL);
        }
        if !target.map.lock().is_empty() {
            return Err(Errno::EBUSY);
        }
        Ok(Fork {
            source,
            target,
            copy: Map::new(USER_START..USER_END, MAX_ENTRIES),
            address: USER_START,
            open: None,
        })
    }

    /// Goes on for a bounded time. False when there is nothing more to copy.
    ///
    /// # Errors
    /// ENOMEM, also above a limit of the target's account; EBADF if the source was closed.
    pub fn step(&mut self) -> Result<bool, Errno> {
        mm::check_headroom()?;
        match self.open.take() {
            Some(part) => self.share_some(part).map(|()| true),
            None => self.next_entry(),
        }
    }

    /// Puts the finished copy into the target.
    ///
    /// # Errors
    /// EBUSY if somebody has mapped something there meanwhile, EBADF if it was closed; it stays as it is.
    pub fn finish(mut self) -> Result<(), Errno> {
        let mut map = self.target.map.lock();
        if self.target.closed.load(Ordering::Relaxed) {
            return Err(Errno::EBADF);
        }
        if !map.is_empty() {
            return Err(Errno::EBUSY);
        }
        // The empty map goes with `self`, after the lock.
        core::mem::swap(&mut *map, &mut self.copy);
        Ok(())
    }

    /// Copies the next entry, or begins to.
    fn next_entry(&mut self) -> Result<bool, Errno> {
        let (start, end, region) = {
            let map = self.source.map.lock();
            let Some(entry) = map.overlapping(self.address..USER_END).next() else {
                // Emptied on the way, it has given less than there was.
                let closed = self.source.closed.load(Ordering::Relaxed);
                return if closed { Err(Errno::EBADF) } else { Ok(false) };
            };
            let start = entry.start.max(self.address);
            let mut region = entry.payload.clone();
            region.advance(start - entry.start);
            (start, entry.end, region)
        };
        self.address = end;
        match region.inheritance {
            Inheritance::None => {}
            _ if !region.is_memory() => self.add(start, end, region)?,
            Inheritance::Share => self.add(start, end, region)?,
            Inheritance::Zero => {
                let (object, offset) = self.new_pages(&region, end - start)?;
                let zero = Region {
                    object,
                    offset,
                    overlay: None,
                    ..region
                };
                self.add(start, end, zero)?;
            }
            Inheritance::Copy => {
                let (object, offset) = self.new_pages(&region, end - start)?;
                let mut copy = region.clone();
                match &mut copy.overlay {
                    Some(overlay) => *overlay = Overlay { object, offset },
                    None => (copy.object, copy.offset) = (object, offset),
                }
                self.address = start;
                self.open = Some(Part {
                    start,
                    end,
                    original: region,
                    copy,
                });
            }
        }
        Ok(true)
    }

    /// Private memory for the copy of an entry of `length` bytes, and the byte in it that the entry's start corresponds to. A stack has
    /// room below for what it will grow to.
    fn new_pages(&self, region: &Region, length: u64) -> Result<(Arc<MemoryObject>, u64), Errno> {
        let (size, offset) = match region.role {
            Role::Stack => (region.object.size(), region.offset),
            _ => (length, 0),
        };
        Ok((MemoryObject::private(size, self.target.account())?, offset))
    }

    /// Shares the next pages of a part, or ends it where the source is no longer what it was.
    fn share_some(&mut self, part: Part) -> Result<(), Errno> {
        let distance = self.address - part.start;
        let shared = {
            let map = self.source.map.lock();
            // The entry may have been split or clipped meanwhile.
            let entry = map.find(self.address).filter(|entry| {
                let original = &part.original;
                original.agrees_with(distance, entry.payload, self.address - entry.start)
            });
            entry.and_then(|entry| self.share_pages(&part, distance, entry.end.min(part.end)))
        };
        let Some((stopped, shared)) = shared else {
            return self.close(part);
        };
        self.address = stopped;
        counters::count_n(Counter::PageShared, shared.count);
        shared.outcome?;
        if self.address == part.end {
            self.close(part)
        } else {
            self.open = Some(part);
            Ok(())
        }
    }

    /// Shares pages of a part from `distance` on, up to the address `until` at most, and says at which address it stopped. The source's map
    /// is locked, so no page is dropped meanwhile.
    fn share_pages(&self, part: &Part, distance: u64, until: u64) -> Option<(u64, Shared)> {
        let (from, offset) = part.original.own_pages()?;
        let (to, to_offset) = part.copy.own_pages()?;
        let index = |address: u64| (offset + (address - part.start)) / PAGE_SIZE;
        let address = |index: u64| part.start + (index * PAGE_SIZE - offset);
        let pages = index(part.start + distance)..index(until);
        // Who finds a page with one owner before this is refused by the interlock after it; who looks later finds two.
        let keep = Protection::READ | Protection::EXECUTE;
        let shared = self.source.pmap().narrow_after(keep, Cause::Fork, || {
            let shared = from.share(pages, to, (to_offset + distance) / PAGE_SIZE);
            (address(shared.pages.start)..address(shared.pages.end), shared)
        });
        Some((address(shared.stopped), shared))
    }

    /// Adds a part as far as it was copied.
    fn close(&mut self, part: Part) -> Result<(), Errno> {
        if self.address == part.start {
            return Ok(());
        }
        self.add(part.start, self.address, part.copy)
    }

    /// Adds an entry to the copy.
    fn add(&mut self, start: u64, end: u64, region: Region) -> Result<(), Errno> {
        let charge = Charge::new(
            Some(&self.target.account().addresses),
            region.charged(end - start),
        )?;
        self.copy
            .insert(start..end, region)
            .map_err(|_full| Errno::ENOMEM)?;
        charge.keep();
        Ok(())
    }
}

impl Drop for Fork<'_> {
    fn drop(&mut self) {
        // After `finish` the copy is empty; what was charged is the target's business.
        let addresses = &self.target.account().addresses;
        addresses.release(charged(self.copy.overlapping(USER_START..USER_END)));
    }
}
