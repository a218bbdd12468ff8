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
    Attributes, CacheMode, Entered, FlushSet, Format, Interlock, NoMemory, Protection, Released, Stamp,
    Tables, Usage, WalkMemory, X86_64, ept_format, ept_pointer, release_subtree, span,
};
use spin::Once;
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
    regular: (&'pmap Table, DetachedTables),
    nested: Option<(&'pmap Table, DetachedTables)>,
}

impl Drop for RemovedTables<'_> {
    fn drop(&mut self) {
        let parts = core::iter::once(&mut self.regular).chain(&mut self.nested);
        for (table, detached) in parts {
            table.release(core::mem::take(detached));
        }
    }
}

/// One of the page tables of an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The CPU's own, for programs and for the kernel's copies.
    Regular,
    /// The nested one, for guests.
    Nested,
}

/// What the CPU can do with a nested table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NestedKind {
    /// It sets accessed and dirty bits.
    pub accessed_dirty: bool,
    /// It takes pages of 2 MiB.
    pub large_pages: bool,
}

/// The right to enter what is found from now on, unless it is invalidated meanwhile: a point in time, and the table to enter it in.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    pub(crate) stamp: Stamp,
    view: View,
}

impl Claim {
    /// The table.
    pub const fn view(&self) -> View {
        self.view
    }
}

/// A page table and the CPUs that use it.
pub struct Table {
    format: &'static Format,
    root: PhysAddr,
    /// Root slots that are its own; the rest is the kernel's half.
    slots: usize,
    /// Level of the largest pages that the CPU takes in it.
    largest_page: u8,
    /// Who uses translations, and how often some were taken away.
    space: Space<AtomicU64>,
    /// Resident pages and table pages; changed under the pmap's lock where it is held anyway.
    resident: AtomicU64,
    tables: AtomicU64,
}

impl Table {
    fn new(format: &'static Format, slots: usize, largest_page: u8) -> Result<Self, Errno> {
        Ok(Table {
            format,
            root: frame::allocate_zeroed()?.into_address(),
            slots,
            largest_page,
            space: Space::new(NEXT_SPACE.fetch_add(1, Ordering::Relaxed)),
            resident: AtomicU64::new(0),
            tables: AtomicU64::new(1),
        })
    }

    /// What other CPUs must know of it.
    pub fn space(&self) -> &Space<AtomicU64> {
        &self.space
    }

    /// The root pointer of a nested table, as INVEPT and the VMCS take it.
    pub fn ept_pointer(&self) -> u64 {
        let accessed_dirty = core::ptr::eq(self.format, ept_format(true));
        ept_pointer(self.root.as_u64(), WalkMemory::WriteBack, accessed_dirty)
    }

    fn tables(&self) -> Tables<'static, super::tables::DirectMap> {
        Tables::new(self.format, self.root.as_u64(), &DIRECT_MAP)
    }

    /// Frees what was taken out of the table, after the flush, and counts it.
    fn release(&self, detached: DetachedTables) {
        let removed = detached.release(self.format);
        self.resident.fetch_sub(removed.pages, Ordering::Relaxed);
        self.tables.fetch_sub(removed.tables, Ordering::Relaxed);
    }

    /// Drops `set` on every CPU that may hold it. The pmap's lock is held.
    fn flush(&self, interlock: &SpinLockGuard<'_, Interlock>, set: &FlushSet, cause: Cause) {
        counters::count(cause.counter());
        cpu::flush(interlock.irqs(), &self.space, set);
    }

    /// The entry for a page of a program. Accessed and dirty are set, since nobody asks for them yet: it saves the CPU an update of
    /// the entry.
    fn leaf(&self, target: &Target) -> u64 {
        let attributes = Attributes {
            protection: target.protection,
            user: true,
            global: false,
            cache: target.cache,
            software: 0,
        };
        let usage = if target.protection.contains(Protection::WRITE) {
            Usage::all()
        } else {
            Usage::ACCESSED
        };
        self.format
            .leaf(target.level, target.physical.as_u64(), attributes)
            | self.format.usage_bits(usage)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let active = self.space.active();
        assert!(
            active == 0,
            "an address space goes away while CPUs {active:#b} run in it"
        );
        // Nobody runs it and nobody will: what a CPU still has under a tag of it is dropped before the tag is used again.
        let mut free = FrameChain::new();
        // SAFETY: the root is this table's and nobody uses it any more.
        let slots = unsafe { physical::words(self.root) };
        for slot in &slots[..self.slots] {
            let entry = slot.load(Ordering::Relaxed);
            if self.format.is_present(entry) {
                let table = self.format.table_address(entry);
                release_subtree(self.format, &DIRECT_MAP, table, 3, &mut |released| {
                    if let Released::Table(table) = released {
                        free.push(PhysAddr::new(table));
                    }
                });
            }
        }
        free.push(self.root);
        while let Some(table) = free.pop() {
            // SAFETY: tables of this page table, each named once, came from `FreshTables` (the root from `new`).
            drop(unsafe { Frame::from_address(table) });
        }
    }
}

/// What an address space is to the hardware: a page table with the kernel's half, and once it has guests a nested one beside it. Both are caches of
/// what `vm` knows, filled by the same faults; what is removed or narrowed is so in both.
pub struct Pmap {
    regular: Table,
    nested: Once<Table>,
    /// The interlock's present, for those who take a stamp without the lock.
    stamp: AtomicU64,
    interlock: SpinLock<Interlock>,
}

impl Pmap {
    /// An empty program's half and the kernel's.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new() -> Result<Self, Errno> {
        let regular = Table::new(&X86_64, KERNEL_SLOTS, 2)?;
        // SAFETY: both are page tables; this one is not in use, and the kernel's root entries never change after boot.
        let (ours, kernel) = unsafe {
            (
                physical::words(regular.root),
                physical::words(kernel_space::kernel_root()),
            )
        };
        for (our, kernels) in ours[KERNEL_SLOTS..].iter().zip(&kernel[KERNEL_SLOTS..]) {
            our.store(kernels.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        Ok(Pmap {
            regular,
            nested: Once::new(),
            stamp: AtomicU64::new(0),
            interlock: SpinLock::new(Rank::Pmap, Interlock::new()),
        })
    }

    /// Adds an empty nested table, if there is none. It stays until the end.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn make_nested(&self, kind: NestedKind) -> Result<&Table, Errno> {
        let largest_page = if kind.large_pages { 2 } else { 1 };
        let format = ept_format(kind.accessed_dirty);
        self.nested
            .try_call_once(|| Table::new(format, page_table::ENTRIES, largest_page))
    }

    /// Level of the largest pages that can be entered.
    pub fn largest_page(&self, view: View) -> u8 {
        self.of(view).largest_page
    }

    /// The nested table, if there is one.
    pub fn nested(&self) -> Option<&Table> {
        self.nested.get()
    }

    /// A number that no other page table ever has.
    pub fn id(&self) -> u64 {
        self.regular.space.id()
    }

    /// Physical address of the root table.
    pub fn root(&self) -> PhysAddr {
        self.regular.root
    }

    /// What other CPUs must know of it.
    pub(super) fn space(&self) -> &Space<AtomicU64> {
        &self.regular.space
    }

    /// The table of a view; the regular one if there is no nested one, which nobody can have a claim to then.
    fn of(&self, view: View) -> &Table {
        match view {
            View::Regular => &self.regular,
            View::Nested => self.nested().unwrap_or(&self.regular),
        }
    }

    /// The tables that there are.
    fn all(&self) -> impl Iterator<Item = &Table> {
        core::iter::once(&self.regular).chain(self.nested())
    }

    /// CPUs that run it now, a bit each.
    pub fn active(&self) -> u64 {
        self.regular.space.active()
    }

    /// Pages that are mapped now for programs.
    pub fn resident_pages(&self) -> u64 {
        self.regular.resident.load(Ordering::Relaxed)
    }

    /// Pages that the tables themselves take.
    pub fn table_pages(&self) -> u64 {
        self.all().map(|table| table.tables.load(Ordering::Relaxed)).sum()
    }

    /// To be taken before anything is looked at that leads to a translation.
    pub fn stamp(&self) -> Claim {
        self.claim(View::Regular)
    }

    /// [`Self::stamp`] for either table.
    pub fn claim(&self, view: View) -> Claim {
        let stamp = Stamp(self.stamp.load(Ordering::Acquire));
        Claim { stamp, view }
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
        claim: Claim,
    ) -> Result<Entry, EnterError> {
        let interlock = self.interlock.lock();
        if !interlock.admits_range(claim.stamp, &(address..address + span(target.level))) {
            return Err(EnterError::Stale);
        }
        let table = self.of(claim.view);
        let entry = self
            .enter_locked(&interlock, table, address, target)
            .map_err(|NoMemory| EnterError::OutOfMemory)?;
        let mut around = 0;
        for (address, target) in neighbours {
            if interlock.admits(claim.stamp, *address)
                && table.tables().enter_absent(*address, table.leaf(target))
            {
                around += 1;
            }
        }
        if around != 0 {
            table.resident.fetch_add(around, Ordering::Relaxed);
            counters::count_n(Counter::PageMappedAround, around);
        }
        Ok(entry)
    }

    fn enter_locked(
        &self,
        interlock: &SpinLockGuard<'_, Interlock>,
        table: &Table,
        address: u64,
        target: Target,
    ) -> Result<Entry, NoMemory> {
        let entry = table.leaf(&target);
        let mut source = FreshTables::new(Need::Program);
        let mut new = Entry::New;
        let result = loop {
            match table.tables().enter(address, target.level, entry, &mut source) {
                Ok(Entered::New) => {
                    let pages = span(target.level) / page_table::PAGE_SIZE;
                    table.resident.fetch_add(pages, Ordering::Relaxed);
                    break Ok(new);
                }
                Ok(Entered::Same) => break Ok(Entry::Present),
                Ok(Entered::Widened) => break Ok(Entry::Widened),
                Ok(Entered::Broken(owed)) => {
                    new = Entry::Replaced;
                    let taken = owed.discharge(|set| table.flush(interlock, set, Cause::Replace));
                    table.release(taken.into());
                }
                Err(error) => break Err(error),
            }
        };
        if source.taken != 0 {
            table.tables.fetch_add(source.taken, Ordering::Relaxed);
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
        claim: Claim,
        insert: impl FnOnce() -> bool,
    ) -> Result<Commit, Errno> {
        let mut interlock = self.interlock.lock();
        if !interlock.admits(claim.stamp, address) {
            return Ok(Commit::Again);
        }
        let page = address..address + page_table::PAGE_SIZE;
        for table in self.all() {
            let owed = table.tables().remove(&page, &(0..0), DetachedTables::default());
            let detached = owed.discharge(|set| table.flush(&interlock, set, Cause::Copy));
            table.release(detached);
        }
        if !insert() {
            return Ok(Commit::Again);
        }
        // Whoever looked before the copy was known, and so found the original, must not enter it after. Not earlier: a stamp that is
        // taken now must see the copy.
        self.invalidate(&mut interlock, &page);
        self.enter_locked(&interlock, self.of(claim.view), address, target)
            .map_err(|NoMemory| Errno::ENOMEM)?;
        Ok(Commit::Done)
    }

    /// Removes all translations of `range` from the table and from every CPU. `releasable` contains `range` and has no
    /// translations beyond it; tables that serve nothing outside of it come back, to be dropped where no lock is held.
    pub fn remove(&self, range: &Range<u64>, releasable: &Range<u64>, cause: Cause) -> RemovedTables<'_> {
        let mut interlock = self.interlock.lock();
        self.invalidate(&mut interlock, range);
        let remove = |table: &'_ Table| {
            let owed = table
                .tables()
                .remove(range, releasable, DetachedTables::default());
            owed.discharge(|set| table.flush(&interlock, set, cause))
        };
        RemovedTables {
            regular: (&self.regular, remove(&self.regular)),
            nested: self.nested().map(|table| (table, remove(table))),
        }
    }

    /// Takes from all translations of `range` what is not in `keep`, in the table and on every CPU.
    pub fn narrow(&self, range: &Range<u64>, keep: Protection, cause: Cause) {
        self.narrow_after(keep, cause, || (range.clone(), ()));
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
            for table in self.all() {
                let owed = table.tables().narrow(&range, keep);
                owed.discharge(|set| table.flush(&interlock, set, cause));
            }
            // Not earlier: whoever takes a stamp from here on sees the change, and a page that it copies is written by nobody through
            // what was there before.
            self.invalidate(&mut interlock, &range);
        }
        result
    }

    /// Writes `new` to the word at `address` of a mapped, writable page, and returns what was there. `None` if it is not mapped so.
    pub fn exchange_word(&self, address: u64, new: u64) -> Option<u64> {
        let _lock = self.interlock.lock();
        let (first, length) = self.bytes_at(address, Protection::WRITE, size_of::<u64>())?;
        if length < size_of::<u64>() || !address.is_multiple_of(size_of::<u64>() as u64) {
            return None;
        }
        // SAFETY: as in `read_bytes`: an aligned word of memory that stays allocated while the lock is held, and that programs use by
        // atomic accesses or any others, which are theirs to order.
        let word = unsafe { AtomicU64::from_ptr(first.cast()) };
        Some(word.swap(new, Ordering::AcqRel))
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
        let leaf = self.regular.tables().lookup(address)?;
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
        self.regular.tables().count(range, most)
    }

    /// The translation of an address, for inspection: page, accesses.
    pub fn translation(&self, address: u64) -> Option<(PhysAddr, Protection)> {
        let _lock = self.interlock.lock();
        self.regular
            .tables()
            .lookup(address)
            .map(|leaf| (PhysAddr::new(leaf.physical), leaf.protection))
    }
}
