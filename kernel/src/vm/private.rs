//! Faults in private memory: pages that this vmspace owns, alone or with those it was forked from and into, and copies on write.
//!
//! Two kinds of copies are made for stores: of an object's page, for a private mapping of it, and of a page that other vmspaces
//! own, too. Both are made without a lock and take their place by [`Pmap::commit_copy`](crate::pmap::Pmap::commit_copy). Why no store is lost
//! or seen elsewhere is written down in docs/src/design/memory.md.

use super::fault::{Access, Attempt, FaultError, no_page};
use super::object::Page;
use super::region::Region;
use super::vmspace::{Vmspace, to_table};
use crate::debug::counters;
use crate::mm::{self, PageTree, frame};
use crate::pmap::{Claim, Commit, Target};
use dragonet_abi::counters::Counter;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::Protection;
use page_table::CacheMode;
use x86_64::PhysAddr;

/// Where a fault in private memory is.
pub(super) struct Place<'region> {
    /// The page's address.
    pub(super) address: u64,
    pub(super) region: &'region Region,
    /// Bytes from the start of the entry.
    pub(super) distance: u64,
    /// The vmspace's own pages, and the index of this one among them.
    pub(super) pages: &'region PageTree,
    pub(super) index: u64,
    pub(super) claim: Claim,
}

impl Place<'_> {
    /// Leads to a page of memory with the rights of the mapping but for `lost`.
    fn target(&self, physical: PhysAddr, lost: Protection) -> Target {
        Target {
            physical,
            level: 1,
            protection: to_table(self.region.protection - lost),
            cache: CacheMode::WriteBack,
        }
    }
}

impl Vmspace {
    /// One attempt to make an access possible.
    pub(super) fn attempt_own(
        &self,
        place: &Place<'_>,
        access: Access,
        neighbours: &[(u64, Target)],
    ) -> Result<Attempt, FaultError> {
        let region = place.region;
        if region.overlay.is_none() {
            let found = region.object.page(place.index).map_err(no_page)?;
            return self.enter_own(place, found, access, neighbours);
        }
        if let Some(physical) = place.pages.get(place.index) {
            return self.enter_own(place, Page::resident(physical), access, neighbours);
        }
        let index = (region.offset + place.distance) / PAGE_SIZE;
        if access.write {
            return self.copy_from_object(place, index);
        }
        let allowed = region.protection - Protection::WRITE;
        self.enter_page(place.address, region, index, allowed, neighbours, place.claim)
    }

    /// A first store to a private mapping of an object: a copy of the object's page at `index`.
    fn copy_from_object(&self, place: &Place<'_>, index: u64) -> Result<Attempt, FaultError> {
        let room = place.pages.reserve(place.index).map_err(no_page)?;
        let mut copy = frame::allocate().map_err(no_page)?;
        let copied = place.region.object.copy_page(index, &mut copy);
        copied.map_err(|_| FaultError::Protection)?;
        let physical = copy.address();
        self.commit(place, physical, || room.insert(copy).is_ok())
    }

    /// Enters a page: as it is if no other vmspace owns it, else for loads, and for a store a copy in its place.
    ///
    /// Only a fork of this vmspace makes other owners, and raises the interlock afterwards; so whoever sees here that there
    /// are none, and is admitted, enters a page that is still this vmspace's alone.
    fn enter_own(
        &self,
        place: &Place<'_>,
        page: Page,
        access: Access,
        neighbours: &[(u64, Target)],
    ) -> Result<Attempt, FaultError> {
        let mut lost = Protection::empty();
        let writable = place.region.protection.contains(Protection::WRITE);
        // A new page was shared by nobody, or by a fork since the stamp.
        if !page.fresh && mm::is_shared(page.physical) {
            if access.write {
                return self.copy_own(place);
            }
            lost = Protection::WRITE;
        } else if !page.fresh && writable && mm::note_reuse(page.physical) {
            counters::count(Counter::PageReused);
        }
        let target = place.target(page.physical, lost);
        self.enter(place.address, target, neighbours, place.claim, page.outcome())
    }

    /// Gives this vmspace a copy of a page that others own, too.
    ///
    /// The page is read without a lock and may leave the object meanwhile. Every way in which it can, and in which somebody here can begin
    /// to write to it in place, is seen when the copy is committed: by the interlock, by the slot, or by the share count.
    fn copy_own(&self, place: &Place<'_>) -> Result<Attempt, FaultError> {
        let mut copy = frame::allocate().map_err(no_page)?;
        let Some(original) = place.pages.copy_unstable(place.index, &mut copy) else {
            return Ok(Attempt::Again);
        };
        // Outlives the commit: when it is dropped, this vmspace's translations of the original are gone everywhere.
        let mut part = None;
        let physical = copy.address();
        self.commit(place, physical, || {
            part = place.pages.replace_shared(place.index, original, copy).ok();
            part.is_some()
        })
    }

    /// Puts a copy in its place with `insert`, and enters it.
    fn commit(
        &self,
        place: &Place<'_>,
        physical: PhysAddr,
        insert: impl FnOnce() -> bool,
    ) -> Result<Attempt, FaultError> {
        counters::count(Counter::PageCopied);
        let target = place.target(physical, Protection::empty());
        match self
            .pmap()
            .commit_copy(place.address, target, place.claim, insert)
        {
            Ok(Commit::Done) => Ok(Attempt::Done(Counter::FaultCopied)),
            Ok(Commit::Again) => Ok(Attempt::Again),
            Err(errno) => Err(no_page(errno)),
        }
    }
}
