//! Address spaces of programs: areas, a page table in RAM, and the host vmspace that translates through it.
//!
//! Lazy: a page comes at the first fault. Whatever takes a page away, or takes a right away, tells the host to forget its
//! translation before the page can be freed, while the space is still locked.

use crate::host;
use crate::linux::Errno;
use crate::memory::area::{Area, Protection, Source};
use crate::memory::areas::Areas;
use crate::memory::frames::{Page, PhysicalMemory};
use crate::memory::page_table::PageTable;
use crate::memory::{page_ceiling, page_floor};
use crate::sync::{Guard, Lock};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::layout::{PAGE_SIZE, USER_END, USER_START};
use dragonet_abi::memory::Vpte;
use dragonet_abi::vmspace::RunState;

/// Bytes of the first thread's stack, all of it reserved and lazily filled.
pub const STACK_SIZE: u64 = 8 << 20;
/// First address above the first thread's stack.
pub const STACK_TOP: u64 = USER_END - PAGE_SIZE;
/// Addresses for mappings that ask for none end here; below the stack and a gap that catches its overflow.
const PLACEMENT_END: u64 = STACK_TOP - STACK_SIZE - (1 << 20);
/// Mappings without an address are not put below.
const PLACEMENT_START: u64 = 0x10_0000;
/// How far the heap may grow.
const BREAK_LIMIT: u64 = 1 << 40;

/// Where a mapping goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Anywhere, at this address if it is free; 0 for no wish.
    Hint(u64),
    /// Here, replacing what is there.
    Replace(u64),
    /// Here, or `EEXIST`.
    Exclusive(u64),
}

/// One address space. Shared by the threads of a process, and by a `vfork` child until it executes a program.
pub struct AddressSpace {
    // Dropped first: the host lets go of the table before its frames are freed.
    pub(super) vmspace: host::Vmspace,
    pub(super) id: u64,
    pub(super) memory: &'static PhysicalMemory,
    pub(super) inner: Lock<Inner>,
}

pub(super) struct Inner {
    pub(super) areas: Areas,
    pub(super) table: PageTable,
    pub(super) heap: Range<u64>,
}

impl AddressSpace {
    /// An empty space.
    ///
    /// # Errors
    /// `ENOMEM`, or what the host says to a new vmspace.
    pub fn new(memory: &'static PhysicalMemory) -> Result<Self, Errno> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let table = PageTable::new(memory)?;
        let vmspace = host::Vmspace::new(table.root_entry())?;
        let inner = Inner {
            areas: Areas::new(),
            table,
            heap: 0..0,
        };
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(AddressSpace {
            vmspace,
            id,
            memory,
            inner: Lock::new(inner),
        })
    }

    /// Runs the calling host thread in this space until something happens.
    ///
    /// # Errors
    /// `EINVAL`: the registers are not ones that a program can have.
    pub fn run(&self, state: &mut RunState) -> Result<(), Errno> {
        let timeout = state.timeout;
        loop {
            // The outcome of the last run has none.
            state.timeout = timeout;
            self.vmspace.run(state)?;
            if self.recognize_syscall(state).is_ok() {
                return Ok(());
            }
        }
    }

    /// Makes the host forget the page of `address`, although its entry was only widened.
    pub fn forget(&self, address: u64) {
        let page = page_floor(address);
        self.vmspace.invalidate(page..page + PAGE_SIZE);
    }

    /// Adds an area of `length` bytes (rounded up to pages).
    ///
    /// # Errors
    /// `EINVAL` for a length of 0 or an unaligned exact address; `ENOMEM` where it does not fit; `EEXIST` for
    /// [`Placement::Exclusive`].
    pub fn map(
        &self,
        placement: Placement,
        length: u64,
        protection: Protection,
        shared: bool,
        source: Source,
    ) -> Result<u64, Errno> {
        if length == 0 {
            return Err(Errno::EINVAL);
        }
        let length = page_ceiling(length).ok_or(Errno::ENOMEM)?;
        let mut inner = self.inner.lock();
        let start = match placement {
            Placement::Hint(address) => {
                let wished = page_floor(address);
                match user_range(wished, length) {
                    Ok(range) if wished != 0 && inner.areas.overlapping(range.clone()).next().is_none() => {
                        wished
                    }
                    _ => {
                        let bounds = PLACEMENT_START..PLACEMENT_END;
                        inner.areas.find_gap(length, bounds).ok_or(Errno::ENOMEM)?
                    }
                }
            }
            Placement::Replace(address) => {
                let range = exact_range(address, length)?;
                self.unmap_locked(&mut inner, range)?;
                address
            }
            Placement::Exclusive(address) => {
                let range = exact_range(address, length)?;
                if inner.areas.overlapping(range).next().is_some() {
                    return Err(Errno::EEXIST);
                }
                address
            }
        };
        inner.areas.insert(Area {
            start,
            end: start + length,
            protection,
            shared,
            source,
        })?;
        Ok(start)
    }

    /// Removes every page of the range; holes are allowed.
    ///
    /// # Errors
    /// `EINVAL` for an unaligned address, a length of 0 or a range outside user space; `ENOMEM` as for [`Areas::remove`].
    pub fn unmap(&self, address: u64, length: u64) -> Result<(), Errno> {
        let range = checked_range(address, length)?;
        if range.is_empty() {
            return Err(Errno::EINVAL);
        }
        self.unmap_locked(&mut self.inner.lock(), range)
    }

    fn unmap_locked(&self, inner: &mut Guard<'_, Inner>, range: Range<u64>) -> Result<(), Errno> {
        inner.areas.remove(range.clone())?;
        self.drop_pages(inner, range);
        Ok(())
    }

    /// Changes what the program may do with the range, every page of which is mapped.
    ///
    /// # Errors
    /// `EINVAL` for an unaligned address or a range outside user space; `ENOMEM` for a hole.
    pub fn protect(&self, address: u64, length: u64, protection: Protection) -> Result<(), Errno> {
        let range = match checked_range(address, length) {
            Err(Errno::EINVAL) if address.is_multiple_of(PAGE_SIZE) => return Err(Errno::ENOMEM),
            other => other?,
        };
        if range.is_empty() {
            return Ok(());
        }
        let mut inner = self.inner.lock();
        inner.areas.protect(range.clone(), protection)?;
        // Rights are taken away now and given later, by the next fault.
        let clear = if protection.is_empty() {
            Vpte::VALID
        } else if protection.contains(Protection::WRITE) {
            0
        } else {
            Vpte::WRITE
        };
        let set = if protection.contains(Protection::EXECUTE) {
            0
        } else {
            Vpte::NO_EXECUTE
        };
        let mut used = false;
        let mut next = range.start;
        while let Some((page, _)) = inner.table.next_held(next..range.end) {
            if let Some(old) = inner.table.change(page, set, clear) {
                used |= old.was_used();
            }
            next = page + PAGE_SIZE;
        }
        if used {
            self.vmspace.invalidate(range);
        }
        Ok(())
    }

    /// Forgets the contents of the range: anonymous pages read as zeroes again, others as their object has them.
    ///
    /// # Errors
    /// `EINVAL` as for [`Self::unmap`]; `ENOMEM` for a hole.
    pub fn discard(&self, address: u64, length: u64) -> Result<(), Errno> {
        let range = checked_range(address, length)?;
        let mut inner = self.inner.lock();
        let whole = inner.areas.covers(range.clone());
        self.drop_pages(&mut inner, range);
        if whole { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// True if every page of the range is mapped.
    pub fn covers(&self, address: u64, length: u64) -> bool {
        checked_range(address, length).is_ok_and(|range| self.inner.lock().areas.covers(range))
    }

    /// Its areas at this moment.
    pub fn areas(&self) -> Areas {
        self.inner.lock().areas.clone()
    }

    /// Sets where the heap begins, when a program is loaded.
    pub fn set_heap_start(&self, address: u64) {
        self.inner.lock().heap = address..address;
    }

    /// `brk`: moves the end of the heap and returns where it is then; unchanged if the wish cannot be met.
    pub fn set_break(&self, wish: u64) -> u64 {
        let mut inner = self.inner.lock();
        let heap = inner.heap.clone();
        if wish < heap.start || wish - heap.start > BREAK_LIMIT {
            return heap.end;
        }
        let (Some(old_end), Some(new_end)) = (page_ceiling(heap.end), page_ceiling(wish)) else {
            return heap.end;
        };
        if new_end > old_end {
            let Ok(range) = user_range(old_end, new_end - old_end) else {
                return heap.end;
            };
            let taken = inner.areas.overlapping(range).next().is_some();
            let area = Area::anonymous(old_end, new_end, Protection::READ | Protection::WRITE);
            if taken || inner.areas.insert(area).is_err() {
                return heap.end;
            }
        } else if new_end < old_end && self.unmap_locked(&mut inner, new_end..old_end).is_err() {
            return heap.end;
        }
        inner.heap.end = wish;
        wish
    }

    /// Takes every page of `range` out of the table and frees it once the host has forgotten it.
    pub(super) fn drop_pages(&self, inner: &mut Inner, range: Range<u64>) {
        let mut pages: Vec<Page> = Vec::new();
        let mut used = false;
        let mut next = range.start;
        while let Some((address, _)) = inner.table.next_held(next..range.end) {
            if let Some((page, leaf)) = inner.table.remove(address) {
                used |= leaf.was_used();
                pages.push(page);
            }
            next = address + PAGE_SIZE;
        }
        if used {
            self.vmspace.invalidate(range);
        }
        drop(pages);
    }
}

/// `address..address + length` if it lies in user space.
fn user_range(address: u64, length: u64) -> Result<Range<u64>, Errno> {
    let end = address.checked_add(length).ok_or(Errno::ENOMEM)?;
    if address < USER_START || end > USER_END {
        return Err(Errno::ENOMEM);
    }
    Ok(address..end)
}

fn exact_range(address: u64, length: u64) -> Result<Range<u64>, Errno> {
    if !address.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    user_range(address, length)
}

/// The pages of a range that a program names in an operation on existing mappings.
fn checked_range(address: u64, length: u64) -> Result<Range<u64>, Errno> {
    if !address.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let end = page_ceiling(length)
        .and_then(|length| address.checked_add(length))
        .ok_or(Errno::EINVAL)?;
    if end > USER_END {
        return Err(Errno::EINVAL);
    }
    Ok(address..end)
}
