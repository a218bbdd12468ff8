//! A vmspace: its map, and the operations on ranges of it.
//!
//! Order of every operation: check the arguments; under the map's lock change the entries and then bring the page table into
//! line (which waits for the flush); let go of the lock; only then drop what the old entries held. So when an operation
//! returns no CPU can use what it took away, and no page is freed before.

use super::large;
use super::object::MemoryObject;
use super::region::{Overlay, Region, Role, charged, charged_within};
use super::reserve::{self, MOST_PARTS};
use super::{VMSPACES, fault::FaultError};
use crate::mm::{self, Account, Charge};
use crate::pmap::{Cause, NestedKind, Pmap, RemovedTables, Table};
use crate::sync::{Rank, SpinLock};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use dragonet_abi::Errno;
use dragonet_abi::layout::{PAGE_SIZE, PLACEMENT_END, PLACEMENT_START, USER_END, USER_START};
use dragonet_abi::memory::{Inheritance, MapFlags, Protection, Vpte};
use vm_map::{Full, InsertError, Map, Removed};

/// Entries of one vmspace at most.
pub(super) const MAX_ENTRIES: usize = 65_536;
/// Everything that tables of the program's half can span.
const TABLE_SPAN: Range<u64> = 0..1 << 47;
/// Above this, narrowing drops translations instead of editing them: the work is then bounded by the number of tables.
const NARROW_IN_PLACE: u64 = 4 << 20;

/// What to map, where and how. See `dragonet_abi::memory`.
#[derive(Clone, Debug)]
pub struct MapArguments {
    /// Page-aligned address, a hint unless `FIXED`; 0 for none.
    pub address: u64,
    /// Bytes, above 0; rounded up to pages.
    pub length: u64,
    /// Accesses.
    pub protection: Protection,
    /// How.
    pub flags: MapFlags,
    /// The object, unless `ANONYMOUS`.
    pub object: Option<Arc<MemoryObject>>,
    /// Accesses that the rights on the object allow. Means nothing with `ANONYMOUS`.
    pub maximum: Protection,
    /// Page-aligned byte in the object. With `VPAGETABLE`: index at which the mapping's start is looked up.
    pub offset: u64,
}

/// Identity of a word of memory, the same through every shared mapping of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WordKey {
    /// Id of the memory object.
    pub object: u64,
    /// Byte in it.
    pub offset: u64,
}

/// What an operation took out: dropped where no lock is held, since that may take long.
#[must_use]
#[derive(Default)]
struct Replaced<'vmspace> {
    tables: Option<RemovedTables<'vmspace>>,
    entries: Removed<Region>,
}

impl Drop for Replaced<'_> {
    /// Gives back the pages of what was part of a private mapping; those of a whole one go with it.
    fn drop(&mut self) {
        for entry in self.entries.iter() {
            entry.payload.discard(entry.end - entry.start);
        }
    }
}

/// An address space of a program.
pub struct Vmspace {
    pub(super) map: SpinLock<Map<Region>>,
    /// Nothing is mapped any more. Written and, where it matters, read under the map's lock.
    pub(super) closed: AtomicBool,
    /// In a box, so that it stays where CPUs that run it know it.
    pmap: Box<Pmap>,
    /// Who pays for private memory and addresses.
    account: Arc<Account>,
}

impl Vmspace {
    /// An empty address space with an account of its own.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new() -> Result<Arc<Self>, Errno> {
        Self::charged_to(Arc::new(Account::new()))
    }

    /// An empty address space.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn charged_to(account: Arc<Account>) -> Result<Arc<Self>, Errno> {
        mm::check_headroom()?;
        let pmap = Box::new(Pmap::new()?);
        VMSPACES.fetch_add(1, Ordering::Relaxed);
        let map = Map::new(USER_START..USER_END, MAX_ENTRIES);
        Ok(Arc::new(Vmspace {
            map: SpinLock::new(Rank::VmspaceMap, map),
            closed: AtomicBool::new(false),
            pmap,
            account,
        }))
    }

    /// Who pays for private memory and addresses.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Gives it a nested page table for guests, if it has none.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn make_nested(&self, kind: NestedKind) -> Result<(), Errno> {
        self.pmap.make_nested(kind).map(|_| ())
    }

    /// The nested page table, if it has one.
    pub fn nested(&self) -> Option<&Table> {
        self.pmap.nested()
    }

    /// The page table.
    pub(crate) fn pmap(&self) -> &Pmap {
        &self.pmap
    }

    /// Maps memory and returns its address.
    ///
    /// # Errors
    /// EINVAL for arguments that contradict themselves or the manual; EACCES for more than the rights on the object allow; ERANGE
    /// for a range outside of the object; EEXIST with `EXCLUSIVE`; ENOMEM if there is no room; EBADF once it is closed.
    pub fn map(&self, arguments: &MapArguments) -> Result<u64, Errno> {
        mm::check_headroom()?;
        let length = page_rounded(arguments.length)?;
        let region = region_for(arguments, length, &self.account)?;
        let (address, _replaced) = self.place(arguments, length, region)?;
        Ok(address)
    }

    /// Finds the address and inserts the entry. What it replaces is dropped by the caller, without the lock.
    fn place(
        &self,
        arguments: &MapArguments,
        length: u64,
        region: Region,
    ) -> Result<(u64, Replaced<'_>), Errno> {
        let fixed = arguments.flags.contains(MapFlags::FIXED);
        let exclusive = arguments.flags.contains(MapFlags::EXCLUSIVE);
        let mut replaced = Replaced::default();
        let mut map = self.map.lock();
        if self.closed.load(Ordering::Relaxed) {
            return Err(Errno::EBADF);
        }
        // What is replaced makes room for its successor, not for several; cutting it out of an entry may take one more.
        if region.role == Role::Stack && map.room() <= MOST_PARTS {
            return Err(Errno::ENOMEM);
        }
        let start = if fixed {
            checked_range(arguments.address, length)?.start
        } else {
            // A hint that cannot be taken is no error.
            let hint = checked_range(arguments.address, length).ok();
            match hint.filter(|range| map.is_free(range.clone())) {
                Some(range) => range.start,
                None => large::place(&mut map, &region, length)
                    .or_else(|| map.find_gap(length, PLACEMENT_START..PLACEMENT_END))
                    .ok_or(Errno::ENOMEM)?,
            }
        };
        let range = start..start + length;
        let occupied = fixed && !map.is_free(range.clone());
        if occupied && exclusive {
            return Err(Errno::EEXIST);
        }
        // Only what the mapping adds to what it replaces must be within the limit.
        let (before, after) = (charged_within(&map, &range), region.charged(length));
        let growth = Charge::new(Some(&self.account.addresses), after.saturating_sub(before))?;
        if occupied {
            replaced.entries = map.remove(range.clone()).map_err(|Full| Errno::ENOMEM)?;
            replaced.tables = Some(self.forget(&map, &range, Cause::Replace));
            self.account.addresses.release(before.saturating_sub(after));
        }
        let parts = reserve::parts(&range, region);
        match map.insert_all(range, parts.into_iter()) {
            Ok(()) => {
                growth.keep();
                Ok((start, replaced))
            }
            Err(error) => {
                // Of what was replaced nothing is left.
                self.account.addresses.release(before.min(after));
                Err(match error {
                    InsertError::Full => Errno::ENOMEM,
                    InsertError::Overlap => Errno::EEXIST,
                })
            }
        }
    }

    /// Removes translations of a range whose entries are gone, with the tables that served only them.
    fn forget(&self, map: &Map<Region>, range: &Range<u64>, cause: Cause) -> RemovedTables<'_> {
        let gap = map.gap_around(range.clone());
        let limits = map.limits();
        // Where the gap reaches a limit of the map nothing can be beyond, so tables that stick out can go too.
        let start = if gap.start == limits.start {
            TABLE_SPAN.start
        } else {
            gap.start
        };
        let end = if gap.end == limits.end {
            TABLE_SPAN.end
        } else {
            gap.end
        };
        self.pmap.remove(range, &(start..end), cause)
    }

    /// Unmaps a range; holes are allowed. When it returns no CPU can reach what was there.
    ///
    /// # Errors
    /// EINVAL if the range is misaligned, empty or not a program's; ENOMEM if entries must be split and there are too many.
    pub fn unmap(&self, address: u64, length: u64) -> Result<(), Errno> {
        let range = checked_range(address, page_rounded(length)?)?;
        let removed = self.unmap_range(&range)?;
        drop(removed);
        Ok(())
    }

    fn unmap_range(&self, range: &Range<u64>) -> Result<Replaced<'_>, Errno> {
        let removed = {
            let mut map = self.map.lock();
            if map.must_split(range.clone()) {
                mm::check_headroom()?;
            }
            let entries = map.remove(range.clone()).map_err(|Full| Errno::ENOMEM)?;
            let tables = (!entries.is_empty()).then(|| self.forget(&map, range, Cause::Unmap));
            Replaced { tables, entries }
        };
        self.account.addresses.release(charged(removed.entries.iter()));
        Ok(removed)
    }

    /// Unmaps everything, and lets nothing be mapped from now on.
    pub fn close(&self) {
        {
            let _map = self.map.lock();
            self.closed.store(true, Ordering::Relaxed);
        }
        // Whoever was before that under the lock has mapped something that goes now; whoever comes after it maps nothing.
        self.clear();
    }

    /// Unmaps everything.
    pub fn clear(&self) {
        // No entry sticks out of the whole, so nothing is split and it cannot fail.
        let removed = self.unmap_range(&(USER_START..USER_END));
        drop(removed);
    }

    /// Changes what accesses are allowed.
    ///
    /// # Errors
    /// EINVAL for a bad range or combination; ENOMEM if there is a hole, or too many entries; EACCES for more than the rights allow,
    /// for guards, and for what a stack has not grown to.
    pub fn protect(&self, address: u64, length: u64, protection: Protection) -> Result<(), Errno> {
        let range = checked_range(address, page_rounded(length)?)?;
        mm::check_headroom()?;
        // Outlives the lock, as everything that may take long.
        let _tables;
        let mut map = self.map.lock();
        if !map.covers(range.clone()) {
            return Err(Errno::ENOMEM);
        }
        let mut lost = Protection::empty();
        for entry in map.overlapping(range.clone()) {
            check_protection(protection, entry.payload.root.is_some())?;
            if !entry.payload.is_memory() || !entry.payload.maximum.contains(protection) {
                return Err(Errno::EACCES);
            }
            lost |= entry.payload.protection - entry.payload.effective(protection);
        }
        map.update(range.clone(), |region| {
            region.protection = region.effective(protection)
        })
        .map_err(|Full| Errno::ENOMEM)?;
        if lost.is_empty() {
            // More is allowed: translations are widened by the faults that need it.
        } else if protection.contains(Protection::READ) && range.end - range.start <= NARROW_IN_PLACE {
            self.pmap.narrow(&range, to_table(protection), Cause::Protect);
        } else {
            _tables = self.pmap.remove(&range, &range, Cause::Protect);
        }
        Ok(())
    }

    /// Identity of the 32-bit word at `address`, for waiting on it.
    ///
    /// # Errors
    /// EINVAL if the address is misaligned or lies in device memory or a virtual page table's mapping; EFAULT if nothing
    /// readable is mapped there.
    pub fn word_key(&self, address: u64) -> Result<WordKey, Errno> {
        if !address.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let map = self.map.lock();
        let entry = map.find(address).ok_or(Errno::EFAULT)?;
        let region = entry.payload;
        if !region.protection.contains(Protection::READ) {
            return Err(Errno::EFAULT);
        }
        if region.root.is_some() || !region.object.is_memory() {
            return Err(Errno::EINVAL);
        }
        let distance = address - entry.start;
        Ok(match &region.overlay {
            // Private: nobody else has this word, whether it is copied already or not.
            Some(overlay) => WordKey {
                object: overlay.object.id(),
                offset: overlay.offset + distance,
            },
            None => WordKey {
                object: region.object.id(),
                offset: region.offset + distance,
            },
        })
    }
}

impl Drop for Vmspace {
    fn drop(&mut self) {
        self.clear();
        VMSPACES.fetch_sub(1, Ordering::Relaxed);
    }
}

impl From<FaultError> for Errno {
    fn from(error: FaultError) -> Self {
        match error {
            FaultError::OutOfMemory => Errno::ENOMEM,
            _ => Errno::EFAULT,
        }
    }
}

/// Rights as page tables know them.
pub(super) fn to_table(protection: Protection) -> page_table::Protection {
    page_table::Protection::from_bits_truncate(protection.bits() as u8)
}

/// Bytes rounded up to pages.
pub(super) fn page_rounded(length: u64) -> Result<u64, Errno> {
    match length {
        0 => Err(Errno::EINVAL),
        _ => length.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::EINVAL),
    }
}

/// A page-aligned range of a program's addresses.
pub(super) fn checked_range(address: u64, length: u64) -> Result<Range<u64>, Errno> {
    let end = address.checked_add(length).ok_or(Errno::EINVAL)?;
    if !address.is_multiple_of(PAGE_SIZE) || address < USER_START || end > USER_END {
        return Err(Errno::EINVAL);
    }
    Ok(address..end)
}

/// Combinations that no mapping has. Pages of a virtual page table may be anything: their owner decides page by page.
fn check_protection(protection: Protection, vpagetable: bool) -> Result<(), Errno> {
    let known = Protection::all().contains(protection);
    let write = protection.contains(Protection::WRITE);
    let read = protection.contains(Protection::READ);
    let execute = protection.contains(Protection::EXECUTE);
    if !known || !read && (write || execute) || write && execute && !vpagetable {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// Checks what can be checked without the map, and makes the entry.
fn region_for(arguments: &MapArguments, length: u64, account: &Arc<Account>) -> Result<Region, Errno> {
    let flags = arguments.flags;
    let shared = flags.contains(MapFlags::SHARED);
    let vpagetable = flags.contains(MapFlags::VPAGETABLE);
    if !MapFlags::all().contains(flags)
        || shared == flags.contains(MapFlags::PRIVATE)
        || flags.contains(MapFlags::EXCLUSIVE) && !flags.contains(MapFlags::FIXED)
        || flags.contains(MapFlags::ANONYMOUS) == arguments.object.is_some()
        || !arguments.offset.is_multiple_of(PAGE_SIZE)
        || !arguments.address.is_multiple_of(PAGE_SIZE)
        || flags.contains(MapFlags::GUEST_MEMORY) && (!shared || vpagetable || arguments.object.is_none())
        || length > USER_END - USER_START
    {
        return Err(Errno::EINVAL);
    }
    check_protection(arguments.protection, vpagetable)?;
    if let Some(region) = reserve::region(arguments, length, account)? {
        return Ok(region);
    }
    if vpagetable {
        return vpagetable_region(arguments, length);
    }
    let Some(object) = arguments.object.clone() else {
        let object = if shared {
            MemoryObject::anonymous_for(length, account)?
        } else {
            MemoryObject::private(length, account)?
        };
        let (protection, maximum) = (arguments.protection, Protection::all());
        return Ok(Region {
            role: Role::Memory,
            object,
            offset: 0,
            protection,
            maximum,
            overlay: None,
            root: None,
            guest_memory: false,
            inheritance: default_inheritance(shared),
        });
    };
    let end = arguments.offset.checked_add(length).ok_or(Errno::ERANGE)?;
    if end > object.pages() * PAGE_SIZE {
        return Err(Errno::ERANGE);
    }
    let mut maximum = arguments.maximum;
    if !maximum.contains(Protection::READ) {
        return Err(Errno::EACCES);
    }
    if shared && !object.is_writable() {
        maximum -= Protection::WRITE;
    } else if !shared {
        if !object.can_be_copied() {
            return Err(Errno::EINVAL);
        }
        // Who may read may write to a copy.
        maximum |= Protection::WRITE;
    }
    if !maximum.contains(arguments.protection) {
        return Err(Errno::EACCES);
    }
    let overlay = match shared {
        true => None,
        false => Some(Overlay {
            object: MemoryObject::private(length, account)?,
            offset: 0,
        }),
    };
    let (offset, protection) = (arguments.offset, arguments.protection);
    Ok(Region {
        role: Role::Memory,
        object,
        offset,
        protection,
        maximum,
        overlay,
        root: None,
        guest_memory: flags.contains(MapFlags::GUEST_MEMORY),
        inheritance: default_inheritance(shared),
    })
}

/// What a fork makes of a mapping unless told otherwise.
fn default_inheritance(shared: bool) -> Inheritance {
    if shared {
        Inheritance::Share
    } else {
        Inheritance::Copy
    }
}

/// The entry of a mapping with a virtual page table. The offset is the index base of the table and has no bound but the
/// table's own; until a root is set every access faults.
fn vpagetable_region(arguments: &MapArguments, length: u64) -> Result<Region, Errno> {
    let needed = Protection::READ | Protection::WRITE;
    let object = arguments
        .object
        .clone()
        .filter(|object| object.is_anonymous())
        .ok_or(Errno::EINVAL)?;
    if !arguments.flags.contains(MapFlags::SHARED) || !arguments.protection.contains(needed) {
        return Err(Errno::EINVAL);
    }
    if !arguments.maximum.contains(needed) || !arguments.maximum.contains(arguments.protection) {
        return Err(Errno::EACCES);
    }
    let end = arguments.offset.checked_add(length).ok_or(Errno::ERANGE)?;
    if end > page_table::ADDRESS_END {
        return Err(Errno::ERANGE);
    }
    let mut region = Region {
        role: Role::Memory,
        object,
        offset: arguments.offset,
        protection: arguments.protection,
        maximum: arguments.maximum,
        overlay: None,
        root: Some(Vpte(0)),
        guest_memory: false,
        inheritance: default_inheritance(true),
    };
    region.protection = region.effective(arguments.protection);
    Ok(region)
}
