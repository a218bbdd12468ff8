//! Faults: from an address and an access to a translation, or to the reason why there is none.
//!
//! A fault takes a stamp, looks at the map under its lock for a moment, finds the page without a lock, and enters it under the
//! pmap's lock if nothing was invalidated there since the stamp. It shares no lock with faults in other address
//! spaces, and no memory is allocated for bookkeeping. One that is refused again and again goes on in `alone`.

use super::around::{Neighbours, neighbours};
use super::large;
use super::private::Place;
use super::region::{Region, Role};
use super::vmspace::{Vmspace, to_table};
use super::vpage;
use crate::debug::counters;
use crate::pmap::{Claim, EnterError, Entry, Target, View};
use core::ops::Range;
use dragonet_abi::Errno;
use dragonet_abi::counters::Counter;
use dragonet_abi::layout::{PAGE_SIZE, USER_END};
use dragonet_abi::memory::Protection;

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
    pub(super) const fn counter(self) -> Counter {
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

/// Attempts that one fault makes before it keeps others from invalidating anything.
pub(super) const ATTEMPTS: u32 = 64;

/// Result of one attempt.
pub(super) enum Attempt {
    /// The access is possible; what it is counted as.
    Done(Counter),
    /// Something changed meanwhile.
    Again,
}

impl Vmspace {
    /// Makes the access possible, or says why it is not. On success the access is tried again; it may fault again if something
    /// changed meanwhile.
    ///
    /// # Errors
    /// [`FaultError`].
    pub fn handle_fault(&self, address: u64, access: Access) -> Result<(), FaultError> {
        self.resolve(address, access, Around::Yes, View::Regular, ATTEMPTS)
    }

    /// [`Self::handle_fault`] for the nested table: of a guest, at a guest-physical address.
    ///
    /// # Errors
    /// [`FaultError`].
    pub fn handle_nested_fault(&self, address: u64, access: Access) -> Result<(), FaultError> {
        if address >= USER_END {
            return Err(FaultError::NotMapped);
        }
        self.resolve(address, access, Around::Yes, View::Nested, ATTEMPTS)
    }

    /// [`Self::handle_fault`], for either table, with or without the neighbours, with so many attempts before the last one.
    pub(super) fn resolve(
        &self,
        address: u64,
        access: Access,
        around: Around,
        view: View,
        attempts: u32,
    ) -> Result<(), FaultError> {
        counters::count(access.counter());
        let page = address & !(PAGE_SIZE - 1);
        let mut outcome = Ok(());
        for _ in 0..attempts {
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
        match outcome {
            // Somebody invalidates this page all the time.
            Ok(()) => self.resolve_alone(page, access, view, || Some(())).map(|_| ()),
            Err(error) => {
                counters::count(Counter::FaultUnresolved);
                Err(error)
            }
        }
    }

    fn attempt(&self, page: u64, access: Access, around: Around, view: View) -> Result<Attempt, FaultError> {
        let claim = self.pmap().claim(view);
        let (region, entry) = {
            let map = self.map.lock();
            let entry = map.find(page).ok_or(FaultError::NotMapped)?;
            (entry.payload.clone(), entry.range())
        };
        if region.role == Role::Ungrown {
            self.grow_stack(page, access)?;
            return Ok(Attempt::Again);
        }
        self.attempt_in(page, access, around, (&region, &entry), claim)
    }

    /// An attempt of a fault that found this entry since it had `claim`.
    #[inline]
    pub(super) fn attempt_in(
        &self,
        page: u64,
        access: Access,
        around: Around,
        (region, entry): (&Region, &Range<u64>),
        claim: Claim,
    ) -> Result<Attempt, FaultError> {
        match region.role {
            Role::Memory | Role::Stack => {}
            Role::Guard => return Err(FaultError::Guard),
            Role::Ungrown => return Ok(Attempt::Again),
        }
        let distance = page - entry.start;
        let protection = region.protection;
        if !access.allowed_by(protection) {
            return Err(FaultError::Protection);
        }
        let neighbours = if around == Around::Yes && !access.write {
            neighbours(region, entry, page)
        } else {
            Neighbours::new()
        };
        if let Some(root) = region.root {
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
            return self.enter_page(page, region, found.page, allowed, &neighbours, claim);
        }
        if let Some((pages, offset)) = region.own_pages() {
            let place = Place {
                address: page,
                region,
                distance,
                pages,
                index: (offset + distance) / PAGE_SIZE,
                claim,
            };
            return self.attempt_own(&place, access, &neighbours);
        }
        let large = large::page(region, entry, page);
        match large.filter(|(_, target)| target.level <= self.pmap().largest_page(claim.view())) {
            Some((start, target)) => self.enter(start, target, &[], claim, Counter::FaultResident),
            None => {
                let index = (region.offset + distance) / PAGE_SIZE;
                self.enter_page(page, region, index, protection, &neighbours, claim)
            }
        }
    }

    /// Enters a page of the region's object.
    pub(super) fn enter_page(
        &self,
        page: u64,
        region: &Region,
        index: u64,
        protection: Protection,
        neighbours: &[(u64, Target)],
        claim: Claim,
    ) -> Result<Attempt, FaultError> {
        let found = region.object.page(index).map_err(no_page)?;
        let target = Target {
            physical: found.physical,
            level: 1,
            protection: to_table(protection),
            cache: found.cache,
        };
        self.enter(page, target, neighbours, claim, found.outcome())
    }

    /// Enters a translation and those beside it; `new` is what it is counted as if there was none.
    pub(super) fn enter(
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

/// Why a page is not there, for a fault.
pub(super) fn no_page(errno: Errno) -> FaultError {
    match errno {
        Errno::ENOMEM => FaultError::OutOfMemory,
        _ => FaultError::NotMapped,
    }
}
