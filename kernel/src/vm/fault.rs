//! Faults: from an address and an access to a translation, or to the reason why there is none.
//!
//! A fault takes a stamp, looks at the map under its lock for a moment, finds the page without a lock, and enters it under the
//! pmap's lock if nothing was invalidated there since the stamp. It shares no lock with faults in other address
//! spaces, and no memory is allocated for bookkeeping.

use super::around::{Neighbours, neighbours};
use super::large;
use super::region::{Region, Role};
use super::vmspace::{Vmspace, to_table};
use super::vpage;
use crate::debug::counters;
use crate::mm::{self, PageTree, frame};
use crate::pmap::{Claim, Commit, EnterError, Entry, Target, View};
use dragonet_abi::Errno;
use dragonet_abi::counters::Counter;
use dragonet_abi::layout::{PAGE_SIZE, USER_END};
use dragonet_abi::memory::Protection;
use page_table::CacheMode;
use x86_64::PhysAddr;

/// What an access wants. It is a load if neither a store nor a fetch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// A store.
    pub write: bool,
    /// An instruction fetch.
    pub execute: bool,
    /// From user mode, or on behalf of it: always so.
    pub user: bool,
}

impl Access {
    /// A load by or for a program.
    pub const READ: Access = Access {
        write: false,
        execute: false,
        user: true,
    };
    /// A store by or for a program.
    pub const WRITE: Access = Access {
        write: true,
        execute: false,
        user: true,
    };

    /// What the error code of a page fault says (SDM volume 3, 4.7).
    pub const fn from_error_code(code: u64) -> Self {
        Access {
            write: code & 2 != 0,
            execute: code & 0x10 != 0,
            user: code & 4 != 0,
        }
    }

    /// True if a mapping with these rights allows it.
    pub(super) const fn allowed_by(self, protection: Protection) -> bool {
        protection.contains(Protection::READ)
            && (!self.write || protection.contains(Protection::WRITE))
            && (!self.execute || protection.contains(Protection::EXECUTE))
    }

    /// What a fault for it is counted as.
    const fn counter(self) -> Counter {
        if self.execute {
            Counter::FaultFetch
        } else if self.write {
            Counter::FaultWrite
        } else {
            Counter::FaultRead
        }
    }
}

/// Whether a fault also maps what is there beside its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Around {
    /// The page alone.
    No,
    /// Its neighbours too, if the access is no store.
    Yes,
}

/// Why a fault cannot be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultError {
    /// Nothing is mapped there.
    NotMapped,
    /// A guard: addresses that are reserved so that nothing is there.
    Guard,
    /// The mapping does not allow the access.
    Protection,
    /// The mapping's virtual page table has no valid entry.
    Vpagetable,
    /// The virtual page table does not allow the access.
    VpagetableDenied,
    /// The virtual page table has reserved bits set, or names a page outside of the object.
    VpagetableReserved,
    /// No memory for the page.
    OutOfMemory,
}

impl FaultError {
    /// The error code that hardware would give if the tables that forbid the access were its own: P and RSV by the cause, W, U and
    /// I by the access.
    pub const fn error_code(self, access: Access) -> u64 {
        let cause = match self {
            FaultError::Protection | FaultError::VpagetableDenied => 1,
            FaultError::VpagetableReserved => 1 | 8,
            FaultError::NotMapped | FaultError::Guard | FaultError::Vpagetable | FaultError::OutOfMemory => 0,
        };
        cause | (access.write as u64) << 1 | (access.user as u64) << 2 | (access.execute as u64) << 4
    }
}

/// Attempts that one fault makes.
const ATTEMPTS: u32 = 64;

/// Result of one attempt.
enum Attempt {
    /// The access is possible; what it is counted as.
    Done(Counter),
    /// Something changed meanwhile.
    Again,
}

/// A page of private memory.
struct Own<'region> {
    pages: &'region PageTree,
    index: u64,
    physical: PhysAddr,
    /// It was made just now.
    fresh: bool,
}

impl Vmspace {
    /// Makes the access possible, or says why it is not. On success the access is tried again; it may fault again if something
    /// changed meanwhile.
    ///
    /// # Errors
    /// [`FaultError`].
    pub fn handle_fault(&self, address: u64, access: Access) -> Result<(), FaultError> {
        self.resolve(address, access, Around::Yes, View::Regular)
    }

    /// [`Self::handle_fault`] for the nested table: of a guest, at a guest-physical address.
    ///
    /// # Errors
    /// [`FaultError`].
    pub fn handle_nested_fault(&self, address: u64, access: Access) -> Result<(), FaultError> {
        if address >= USER_END {
            return Err(FaultError::NotMapped);
        }
        self.resolve(address, access, Around::Yes, View::Nested)
    }

    /// [`Self::handle_fault`], with or without the neighbours.
    pub(super) fn resolve(
        &self,
        address: u64,
        access: Access,
        around: Around,
        view: View,
    ) -> Result<(), FaultError> {
        counters::count(access.counter());
        let page = address & !(PAGE_SIZE - 1);
        let mut outcome = Ok(());
        for _ in 0..ATTEMPTS {
            outcome = match self.attempt(page, access, around, view) {
                Ok(Attempt::Done(outcome)) => {
                    counters::count(outcome);
                    return Ok(());
                }
                Ok(Attempt::Again) => Ok(()),
                // Maybe another CPU took the last page for this very address, and it will be here in a moment.
                Err(FaultError::OutOfMemory) => Err(FaultError::OutOfMemory),
                Err(error) => {
                    counters::count(Counter::FaultUnresolved);
                    return Err(error);
                }
            };
            counters::count(Counter::FaultRetry);
            core::hint::spin_loop();
        }
        // Somebody invalidates this page all the time: let the access fault again, after a chance to be preempted or killed.
        counters::count(match outcome {
            Ok(()) => Counter::FaultAbandoned,
            Err(_) => Counter::FaultUnresolved,
        });
        outcome
    }

    fn attempt(&self, page: u64, access: Access, around: Around, view: View) -> Result<Attempt, FaultError> {
        let claim = self.pmap().claim(view);
        let (region, entry) = {
            let map = self.map.lock();
            let entry = map.find(page).ok_or(FaultError::NotMapped)?;
            (entry.payload.clone(), entry.range())
        };
        match region.role {
            Role::Memory | Role::Stack => {}
            Role::Guard => return Err(FaultError::Guard),
            Role::Ungrown => {
                self.grow_stack(page, access)?;
                return Ok(Attempt::Again);
            }
        }
        let distance = page - entry.start;
        let protection = region.protection;
        if !access.allowed_by(protection) {
            return Err(FaultError::Protection);
        }
        let neighbours = if around == Around::Yes && !access.write {
            neighbours(&region, &entry, page)
        } else {
            Neighbours::new()
        };
        match (region.root, &region.overlay) {
            (Some(root), _) => {
                let index = region.offset + distance;
                let fault = (page, claim.stamp);
                let Some(found) = vpage::translate(self.pmap(), fault, &region.object, root, index, access)?
                else {
                    return Ok(Attempt::Again);
                };
                let mut allowed = protection;
                allowed.set(
                    Protection::WRITE,
                    protection.contains(Protection::WRITE) && found.writable,
                );
                allowed.set(
                    Protection::EXECUTE,
                    protection.contains(Protection::EXECUTE) && found.executable,
                );
                self.enter_page(page, &region, found.page, allowed, &neighbours, claim)
            }
            (None, Some(overlay)) => {
                let copies = overlay.object.private_pages().ok_or(FaultError::NotMapped)?;
                let index = (overlay.offset + distance) / PAGE_SIZE;
                match copies.get(index) {
                    Some(physical) => {
                        let own = Own {
                            pages: copies,
                            index,
                            physical,
                            fresh: false,
                        };
                        self.enter_own(page, access, own, protection, &neighbours, claim)
                    }
                    None if access.write => self.make_copy(page, &region, distance, (copies, index), claim),
                    None => {
                        let index = (region.offset + distance) / PAGE_SIZE;
                        let allowed = protection - Protection::WRITE;
                        self.enter_page(page, &region, index, allowed, &neighbours, claim)
                    }
                }
            }
            (None, None) => {
                if let Some((start, target)) = large::page(&region, &entry, page) {
                    return self.enter(start, target, &[], claim, Counter::FaultResident);
                }
                let index = (region.offset + distance) / PAGE_SIZE;
                let Some(pages) = region.object.private_pages() else {
                    return self.enter_page(page, &region, index, protection, &neighbours, claim);
                };
                let found = found(region.object.page(index))?;
                let own = Own {
                    pages,
                    index,
                    physical: found.physical,
                    fresh: found.fresh,
                };
                self.enter_own(page, access, own, protection, &neighbours, claim)
            }
        }
    }

    /// A first store to a private mapping of an object: a copy of the object's page goes to `place`.
    fn make_copy(
        &self,
        page: u64,
        region: &Region,
        distance: u64,
        (copies, copy_index): (&PageTree, u64),
        claim: Claim,
    ) -> Result<Attempt, FaultError> {
        let place = found(copies.reserve(copy_index))?;
        let mut copy = frame::allocate().map_err(|_| FaultError::OutOfMemory)?;
        region
            .object
            .copy_page((region.offset + distance) / PAGE_SIZE, &mut copy)
            .map_err(|_| FaultError::Protection)?;
        counters::count(Counter::PageCopied);
        let target = Target {
            physical: copy.address(),
            level: 1,
            protection: to_table(region.protection),
            cache: CacheMode::WriteBack,
        };
        let insert = || place.insert(copy).is_ok();
        committed(self.pmap().commit_copy(page, target, claim, insert))
    }

    /// Enters a page of private memory: as it is if no other vmspace owns it, else for loads, and for a store a copy in its place.
    ///
    /// Only a fork of this vmspace makes other owners, and raises the interlock afterwards; so whoever sees here that there
    /// are none, and is admitted, enters a page that is still this vmspace's alone.
    fn enter_own(
        &self,
        page: u64,
        access: Access,
        own: Own<'_>,
        protection: Protection,
        neighbours: &[(u64, Target)],
        claim: Claim,
    ) -> Result<Attempt, FaultError> {
        let mut allowed = protection;
        if mm::is_shared(own.physical) {
            if access.write {
                return self.copy_own(page, own, protection, claim);
            }
            allowed -= Protection::WRITE;
        } else if allowed.contains(Protection::WRITE) && mm::note_reuse(own.physical) {
            counters::count(Counter::PageReused);
        }
        let target = Target {
            physical: own.physical,
            level: 1,
            protection: to_table(allowed),
            cache: CacheMode::WriteBack,
        };
        self.enter(page, target, neighbours, claim, outcome_of(own.fresh))
    }

    /// Gives this vmspace a copy of a page that others own, too.
    ///
    /// The page is read without a lock and may leave the object meanwhile. Every way in which it can, and in which somebody here can begin
    /// to write to it in place, is seen when the copy is committed: by the interlock, by the slot, or by the share count.
    fn copy_own(
        &self,
        page: u64,
        own: Own<'_>,
        protection: Protection,
        claim: Claim,
    ) -> Result<Attempt, FaultError> {
        let mut copy = frame::allocate().map_err(|_| FaultError::OutOfMemory)?;
        let Some(original) = own.pages.copy_unstable(own.index, &mut copy) else {
            return Ok(Attempt::Again);
        };
        counters::count(Counter::PageCopied);
        let target = Target {
            physical: copy.address(),
            level: 1,
            protection: to_table(protection),
            cache: CacheMode::WriteBack,
        };
        // Outlives the commit: when it is dropped, this vmspace's translations of the original are gone everywhere.
        let mut part = None;
        let replace = || {
            part = own.pages.replace_shared(own.index, original, copy).ok();
            part.is_some()
        };
        committed(self.pmap().commit_copy(page, target, claim, replace))
    }

    /// Enters a page of the region's object.
    fn enter_page(
        &self,
        page: u64,
        region: &Region,
        index: u64,
        protection: Protection,
        neighbours: &[(u64, Target)],
        claim: Claim,
    ) -> Result<Attempt, FaultError> {
        let found = found(region.object.page(index))?;
        let target = Target {
            physical: found.physical,
            level: 1,
            protection: to_table(protection),
            cache: found.cache,
        };
        self.enter(page, target, neighbours, claim, outcome_of(found.fresh))
    }

    /// Enters a translation and those beside it; `new` is what it is counted as if there was none.
    fn enter(
        &self,
        page: u64,
        target: Target,
        neighbours: &[(u64, Target)],
        claim: Claim,
        new: Counter,
    ) -> Result<Attempt, FaultError> {
        match self.pmap().enter(page, target, neighbours, claim) {
            Ok(Entry::New) => Ok(Attempt::Done(new)),
            Ok(Entry::Widened) => Ok(Attempt::Done(Counter::FaultWidened)),
            Ok(Entry::Present) => Ok(Attempt::Done(Counter::FaultSpurious)),
            Ok(Entry::Replaced) => Ok(Attempt::Done(Counter::FaultReplaced)),
            Err(EnterError::Stale) => Ok(Attempt::Again),
            Err(EnterError::OutOfMemory) => Err(FaultError::OutOfMemory),
        }
    }
}

/// The outcome of a look for a page, for a fault.
fn found<T>(page: Result<T, Errno>) -> Result<T, FaultError> {
    page.map_err(|error| match error {
        Errno::ENOMEM => FaultError::OutOfMemory,
        _ => FaultError::NotMapped,
    })
}

/// What a fault is counted as that found a page, new or not.
const fn outcome_of(fresh: bool) -> Counter {
    if fresh {
        Counter::FaultZeroFilled
    } else {
        Counter::FaultResident
    }
}

/// The outcome of a commit, for a fault.
fn committed(outcome: Result<Commit, Errno>) -> Result<Attempt, FaultError> {
    match outcome {
        Ok(Commit::Done) => Ok(Attempt::Done(Counter::FaultCopied)),
        Ok(Commit::Again) => Ok(Attempt::Again),
        Err(_) => Err(FaultError::OutOfMemory),
    }
}
