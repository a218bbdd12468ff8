//! How the crate `page-table` reaches real tables: through the direct map, with pages from `mm`.

use crate::mm::FrameChain;
use crate::mm::frame::{self, Frame, Need};
use crate::mm::physical;
use core::sync::atomic::{AtomicU64, Ordering};
use page_table::{Detached, Format, ROOT_LEVEL, Released, TableMemory, TableSource, Taken};
use x86_64::PhysAddr;

/// Tables in the direct map. Only this module makes one, and only tables of a [`super::Pmap`] or the kernel's go in.
pub(super) struct DirectMap(());

/// The one value.
pub(super) static DIRECT_MAP: DirectMap = DirectMap(());

fn entry<'table>(table: u64, index: usize) -> &'table AtomicU64 {
    // SAFETY: the walker passes the root of a live table, or what a present entry of a table names, which is a table that
    // lives until it is detached and flushed. Everyone, hardware included, accesses entries atomically.
    unsafe { &physical::words(PhysAddr::new(table))[index] }
}

impl TableMemory for DirectMap {
    #[inline]
    fn load(&self, table: u64, index: usize) -> u64 {
        entry(table, index).load(Ordering::Acquire)
    }

    #[inline]
    fn store(&self, table: u64, index: usize, value: u64) {
        entry(table, index).store(value, Ordering::Release);
    }

    #[inline]
    fn swap(&self, table: u64, index: usize, value: u64) -> u64 {
        entry(table, index).swap(value, Ordering::AcqRel)
    }

    #[inline]
    fn compare_exchange(&self, table: u64, index: usize, old: u64, new: u64) -> Result<(), u64> {
        entry(table, index)
            .compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
    }
}

/// Table pages from the free frames, and how many were taken.
pub(super) struct FreshTables {
    pub(super) need: Need,
    pub(super) taken: u64,
}

impl FreshTables {
    pub(super) const fn new(need: Need) -> Self {
        FreshTables { need, taken: 0 }
    }
}

impl TableSource for FreshTables {
    fn allocate(&mut self) -> Option<u64> {
        let mut frame = frame::allocate_for(self.need).ok()?;
        frame.zero();
        self.taken += 1;
        Some(frame.into_address().as_u64())
    }
}

/// Tables that are out of the page table, by level, waiting for the flush. Only [`Self::release`] empties it.
#[must_use]
#[derive(Default)]
pub(super) struct DetachedTables {
    by_level: [FrameChain; ROOT_LEVEL as usize],
    leaves: u64,
}

impl Detached for DetachedTables {
    fn table(&mut self, table: u64, level: u8) {
        self.by_level[usize::from(level)].push(PhysAddr::new(table));
    }

    fn leaf(&mut self, _address: u64, _entry: u64, level: u8) {
        self.leaves += page_table::span(level) / page_table::PAGE_SIZE;
    }
}

impl From<Taken> for DetachedTables {
    fn from(taken: Taken) -> Self {
        let mut detached = DetachedTables::default();
        taken.hand_to(&mut detached);
        detached
    }
}

/// What a removal took out of a page table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Removed {
    /// Translations of 4 KiB pages.
    pub(super) pages: u64,
    /// Table pages.
    pub(super) tables: u64,
}

impl DetachedTables {
    /// Frees the tables. To be called after the flush, and without the lock of the page table, since there may be many.
    pub(super) fn release(mut self, format: &Format) -> Removed {
        let mut removed = Removed {
            pages: self.leaves,
            tables: 0,
        };
        for level in 1..ROOT_LEVEL {
            while let Some(table) = self.by_level[usize::from(level)].pop() {
                let mut free = |released| {
                    if let Released::Table(table) = released {
                        removed.tables += 1;
                        // SAFETY: the table came from `FreshTables` and is in no page table and no CPU any more.
                        drop(unsafe { Frame::from_address(PhysAddr::new(table)) });
                    }
                };
                removed.pages +=
                    page_table::release_subtree(format, &DIRECT_MAP, table.as_u64(), level, &mut free);
            }
        }
        removed
    }
}
