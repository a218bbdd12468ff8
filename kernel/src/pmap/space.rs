//! One address space's page table: entering, removing and narrowing translations, with the flush that each owes.

use super::tables::{DIRECT_MAP, DetachedTables, FreshTables};
use super::{Cause, cpu, kernel_space};
use crate::debug::counters;
use crate::mm::frame::{self, Frame, Need};
use crate::mm::{FrameChain, physical};
use crate::sync::{Rank, SpinLock, SpinLockGuard};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::Errno;
use dragonet_abi::counters::Counter;
use invalidation::Space;
use page_table::{
    Attributes, CacheMode, Entered, FlushSet, Interlock, NoMemory, Protection, Released, Stamp, Tables,
    X86_64, release_subtree, span,
};
use x86_64::PhysAddr;

/// First table slot of the kernel's half.
const KERNEL_SLOTS: usize = 256;

/// Ids of spaces: no two pmaps ever have the same.
static NEXT_SPACE: AtomicU64 = AtomicU64::new(1);

/// Where a translation leads.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The page, aligned to its size.
    pub physical: PhysAddr,
    /// 1 for a page of 4 KiB, 2 for one of 2 MiB.
    pub level: u8,
    /// Accesses allowed.
    pub protection: Protection,
    /// Memory type.
    pub cache: CacheMode,
}

/// Why a translation was not entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnterError {
    /// The address was invalidated after the stamp was taken: resolve again.
    Stale,
    /// No memory for a table.
    OutOfMemory,
}

/// What [`Pmap::enter`] found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// There was no translation.
    New,
    /// The page was there with fewer accesses.
    Widened,
    /// The page was there with at least these accesses.
    Present,
    /// Another translation was there and was broken.
    Replaced,
}

/// What [`Pmap::commit_copy`] did.
#[derive(Debug)]
pub enum Commit {
    /// The copy is in place and entered.
    Done,
    /// Somebody else was first, or the address was invalidated: resolve again.
    Again,
}

/// Tables that no page table and no CPU has any more. Dropping it frees them, which takes time in proportion to what was mapped,
/// so it is not done with interrupts off.
#[must_use = "to be dropped where no lock is held"]
pub struct RemovedTables<'pmap> {
    pmap: &'pmap Pmap,
    detached: DetachedTables,
}

impl Drop for RemovedTables<'_> {
    fn drop(&mut self) {
        self.pmap.release(core::mem::take(&mut self.detached));
    }
}

/// A page table with the kernel's half and the CPUs that run it.
pub struct Pmap {
    root: PhysAddr,
    /// Who uses translations, and how often some were taken away.
    space: Space<AtomicU64>,
    /// The interlock's present, for those who take a stamp without the lock.
    stamp: AtomicU64,
    /// Resident pages and table pages; changed under the lock where it is held anyway.
    resident: AtomicU64,
    tables: AtomicU64,
    interlock: SpinLock<Interlock>,
}

impl Pmap {
    /// An empty program's half and the kernel's.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new() -> Result<Self, Errno> {
        let root = frame::allocate_zeroed()?.into_address();
        // SAFETY: both are page tables; this one is not in use, and the kernel's root entries never change after boot.
        let (ours, kernel) = unsafe {
            (
                physical::words(root),
                physical::words(kernel_space::kernel_root()),
            )
        };
        for (our, kernels) in ours[KERNEL_SLOTS..].iter().zip(&kernel[KERNEL_SLOTS..]) {
            our.store(kernels.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        Ok(Pmap {
            root,
            space: Space::new(NEXT_SPACE.fetch_add(1, Ordering::Relaxed)),
            stamp: AtomicU64::new(0),
            resident: AtomicU64::new(0),
            tables: AtomicU64::new(1),
            interlock: SpinLock::new(Rank::Pmap, Interlock::new()),
        })
    }

    /// A number that no other page table ever has.
    pub fn id(&self) -> u64 {
        self.space.id()
    }

    /// Physical address of the root table.
    pub fn root(&self) -> PhysAddr {
        self.root
    }

    /// What other CPUs must know of it.
    pub(super) fn space(&self) -> &Space<AtomicU64> {
        &self.space
    }

    /// CPUs that run it now, a bit each.
    pub fn active(&self) -> u64 {
        self.space.active()
    }

    /// Pages that are mapped now.
    pub fn resident_pages(&self) -> u64 {
        self.resident.load(Ordering::Relaxed)
    }

    /// Pages that the table itself takes.
    pub fn table_pages(&self) -> u64 {
        self.tables.load(Ordering::Relaxed)
    }

    fn table(&self) -> Tables<'static, super::tables::DirectMap> {
        Tables::new(&X86_64, self.root.as_u64(), &DIRECT_MAP)
    }

    /// Frees what was taken out of the table, after the flush, and counts it.
    fn release(&self, detached: DetachedTables) {
        let removed = detached.release(&X86_64);
        self.resident.fetch_sub(removed.pages, Ordering::Relaxed);
        self.tables.fetch_sub(removed.tables, Ordering::Relaxed);
    }

    /// To be taken before anything is looked at that leads to a translation.
    pub fn stamp(&self) -> Stamp {
        Stamp(self.stamp.load(Ordering::Acquire))
    }

    /// Calls `look` while nothing can be invalidated.
    pub fn with_interlock<R>(&self, look: impl FnOnce(&Interlock) -> R) -> R {
        look(&self.interlock.lock())
    }

    fn invalidate(&self, interlock: &mut Interlock, range: &Range<u64>) {
        self.stamp.store(interlock.invalidate(range).0, Ordering::Release);
    }

    /// Enters the translation of a page of a program, to whose size `address` is aligned. Nothing is flushed if there was none or only a narrower one. Of `neighbours`,
    /// pages that share its lowest table, those are entered as well that have no translation and were not
    /// invalidated since the stamp.
    ///
    /// # Errors
    /// [`EnterError`].
    pub fn enter(
        &self,
        address: u64,
        target: Target,
        neighbours: &[(u64, Target)],
        stamp: Stamp,
    ) -> Result<Entry, EnterError> {
        let interlock = self.interlock.lock();
        if !interlock.admits_range(stamp, &(address..address + span(target.level))) {
            return Err(EnterError::Stale);
        }
        let entry = self
            .enter_locked(&interlock, address, target)
            .map_err(|NoMemory| EnterError::OutOfMemory)?;
        let mut around = 0;
        for (address, target) in neighbours {
            if interlock.admits(stamp, *address) && self.table().enter_absent(*address, leaf(target)) {
                around += 1;
            }
        }
        if around != 0 {
            self.resident.fetch_add(around, Ordering::Relaxed);
            counters::count_n(Counter::PageMappedAround, around);
        }
        Ok(entry)
    }

    fn enter_locked(
        &self,
        interlock: &SpinLockGuard<'_, Interlock>,
        address: u64,
        target: Target,
    ) -> Result<Entry, NoMemory> {
        let entry = leaf(&target);
        let mut source = FreshTables::new(Need::Program);
        let mut new = Entry::New;
        let result = loop {
            match self.table().enter(address, target.level, entry, &mut source) {
                Ok(Entered::New) => {
                    let pages = span(target.level) / page_table::PAGE_SIZE;
                    self.resident.fetch_add(pages, Ordering::Relaxed);
                    break Ok(new);
                }
                Ok(Entered::Same) => break Ok(Entry::Present),
                Ok(Entered::Widened) => break Ok(Entry::Widened),
                Ok(Entered::Broken(owed)) => {
                    new = Entry::Replaced;
                    let taken = owed.discharge(|set| self.flush(interlock, set, Cause::Replace));
                    self.release(taken.into());
                }
                Err(error) => break Err(error),
            }
        };
        if source.taken != 0 {
            self.tables.fetch_add(source.taken, Ordering::Relaxed);
        }
        result
    }

    /// Replaces what `address` leads to by a private copy: breaks the old translation everywhere, then makes the copy known
    /// with `insert`, then enters it, so that nobody writes to the copy while somebody still reads the original.
    ///
    /// # Errors
    /// ENOMEM, with the copy known but not entered.
    pub fn commit_copy(
        &self,
        address: u64,
        target: Target,
        stamp: Stamp,
        insert: impl FnOnce() -> bool,
    ) -> Result<Commit, Errno> {
        let mut interlock = self.interlock.lock();
        if !interlock.admits(stamp, address) {
            return Ok(Commit::Again);
        }
        let page = address..address + page_table::PAGE_SIZE;
        let owed = self.table().remove(&page, &(0..0), DetachedTables::default());
        let detached = owed.discharge(|set| self.flush(&interlock, set, Cause::Copy));
        self.release(detached);
        if !insert() {
            return Ok(Commit::Again);
        }
        // Whoever looked before the copy was known, and so found the original, must not enter it after. Not earlier: a stamp that is
        // taken now must see the copy.
        self.invalidate(&mut interlock, &page);
        self.enter_locked(&interlock, address, target)
            .map_err(|NoMemory| Errno::ENOMEM)?;
        Ok(Commit::Done)
    }

    /// Removes all translations of `range` from the table and from every CPU. `releasable` contains `range` and has no
    /// translations beyond it; tables that serve nothing outside of it come back, to be dropped where no lock is held.
    pub fn remove(&self, range: &Range<u64>, releasable: &Range<u64>, cause: Cause) -> RemovedTables<'_> {
        let mut interlock = self.interlock.lock();
        self.invalidate(&mut interlock, range);
        let owed = self.table().remove(range, releasable, DetachedTables::default());
        let detached = owed.discharge(|set| self.flush(&interlock, set, cause));
        RemovedTables { pmap: self, detached }
    }

    /// Takes from all translations of `range` what is not in `keep`, in the table and on every CPU.
    pub fn narrow(&self, range: &Range<u64>, keep: Protection, cause: Cause) {
        self.narrow_after(keep, cause, || (range.clone(), ()));
    }

    /// Drops `set` on every CPU that may hold it. The lock is held.
    fn flush(&self, interlock: &SpinLockGuard<'_, Interlock>, set: &FlushSet, cause: Cause) {
        counters::count(cause.counter());
        cpu::flush(interlock.irqs(), self, set);
    }

    /// Runs `change`, which makes it wrong to use what is not in `keep` in the range that it returns, and takes that from the
    /// translations there, in the table and on every CPU. Nothing is done for an empty range.
    pub fn narrow_after<R>(
        &self,
        keep: Protection,
        cause: Cause,
        change: impl FnOnce() -> (Range<u64>, R),
    ) -> R {
        let mut interlock = self.interlock.lock();
        let (range, result) = change();
        if !range.is_empty() {
            let owed = self.table().narrow(&range, keep);
            owed.discharge(|set| self.flush(&interlock, set, cause));
            // Not earlier: whoever takes a stamp from here on sees the change, and a page that it copies is written by nobody through
            // what was there before.
            self.invalidate(&mut interlock, &range);
        }
        result
    }

    /// Copies from a mapped page, from `address` to at most the end of its page, and returns how much. `None` if the page is not
    /// mapped or is device memory.
    pub fn read_bytes(&self, address: u64, buffer: &mut [u8]) -> Option<usize> {
        let _lock = self.interlock.lock();
        let (first, length) = self.bytes_at(address, Protection::READ, buffer.len())?;
        // SAFETY: `bytes_at` found `length` bytes of memory that stay mapped, and so allocated, while the lock is held. A program
        // may write them meanwhile; any mixture of old and new bytes is a valid result.
        unsafe { core::ptr::copy_nonoverlapping(first.cast_const(), buffer.as_mut_ptr(), length) };
        Some(length)
    }

    /// Copies to a mapped, writable page, from `address` to at most the end of its page, and returns how much. `None` if
    /// the page is not mapped for writing or is device memory.
    pub fn write_bytes(&self, address: u64, bytes: &[u8]) -> Option<usize> {
        let _lock = self.interlock.lock();
        let (first, length) = self.bytes_at(address, Protection::WRITE, bytes.len())?;
        // SAFETY: as in `read_bytes`; the page belongs to programs, to whom the bytes mean what they want.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), first, length) };
        Some(length)
    }

    /// Where the kernel sees what `address` is mapped to, and how much of `wanted` lies in that page. The lock is held.
    fn bytes_at(&self, address: u64, access: Protection, wanted: usize) -> Option<(*mut u8, usize)> {
        let leaf = self.table().lookup(address)?;
        let attributes = X86_64.attributes(leaf.entry, leaf.level)?;
        if !attributes.protection.contains(access) || attributes.cache != CacheMode::WriteBack {
            return None;
        }
        let first = physical::to_virtual(PhysAddr::new(leaf.physical)).as_mut_ptr();
        let length = (page_table::PAGE_SIZE - address % page_table::PAGE_SIZE) as usize;
        Some((first, length.min(wanted)))
    }

    /// Counts the pages of `range` that are translated, in at most `most` steps of at most an entry each; returns the count and
    /// where to go on. At least [`page_table::ROOT_LEVEL`] steps are needed to get on.
    pub fn count(&self, range: &Range<u64>, most: usize) -> (u64, u64) {
        let _lock = self.interlock.lock();
        self.table().count(range, most)
    }

    /// The translation of an address, for inspection: page, accesses.
    pub fn translation(&self, address: u64) -> Option<(PhysAddr, Protection)> {
        let _lock = self.interlock.lock();
        self.table()
            .lookup(address)
            .map(|leaf| (PhysAddr::new(leaf.physical), leaf.protection))
    }
}

/// The entry for a page of a program. Accessed and dirty are set, since nobody asks for them yet: it saves the CPU an update of
/// the entry.
fn leaf(target: &Target) -> u64 {
    let attributes = Attributes {
        protection: target.protection,
        user: true,
        global: false,
        cache: target.cache,
        software: 0,
    };
    let dirty = if target.protection.contains(Protection::WRITE) {
        X86_64.dirty
    } else {
        0
    };
    X86_64.leaf(target.level, target.physical.as_u64(), attributes) | X86_64.accessed | dirty
}

impl Drop for Pmap {
    fn drop(&mut self) {
        assert!(
            self.active() == 0,
            "an address space goes away while CPUs {:#b} run in it",
            self.active()
        );
        // Nobody runs it and nobody will: what a CPU still has under a tag of it is dropped before the tag is used again.
        let mut free = FrameChain::new();
        // SAFETY: the root is this pmap's and nobody uses it any more.
        let slots = unsafe { physical::words(self.root) };
        for slot in &slots[..KERNEL_SLOTS] {
            let entry = slot.load(Ordering::Relaxed);
            if X86_64.is_present(entry) {
                let table = X86_64.table_address(entry);
                release_subtree(&X86_64, &DIRECT_MAP, table, 3, &mut |released| {
                    if let Released::Table(table) = released {
                        free.push(PhysAddr::new(table));
                    }
                });
            }
        }
        free.push(self.root);
        while let Some(table) = free.pop() {
            // SAFETY: tables of this pmap, each named once, came from `FreshTables` (the root from `new`).
            drop(unsafe { Frame::from_address(table) });
        }
    }
}
