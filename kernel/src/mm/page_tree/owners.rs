//! Pages that leave a tree before its end, and pages that several trees own.
//!
//! A fork makes the copy's tree an owner of the pages in the original's ([`PageTree::share`]). How many owners a page has is
//! counted at its frame; a tree gives its part back when the page leaves it, and the last part frees the frame. While pages leave
//! a tree, and while they are being shared, the tree's lock is held: a page cannot be freed between the look at its slot
//! and the count of one more owner. The owners have nothing but the count in common.

use super::PageTree;
use crate::mm::frame::{self, Frame, OwnedFrames};
use crate::mm::{frame_table, physical};
use arrayvec::ArrayVec;
use core::ops::Range;
use core::sync::atomic::Ordering;
use dragonet_abi::Errno;
use x86_64::PhysAddr;

/// Slots, or missing nodes, that one [`PageTree::take`] looks at.
const STEPS_PER_TAKE: usize = 2048;
/// Parts in shared pages that are held at once. Such pages cannot be chained: each owner would need a link.
const MOST_TAKEN_SHARES: usize = 64;
/// Slots, or missing nodes, that one [`PageTree::share`] looks at.
const STEPS_PER_SHARE: usize = 96;
/// Pages that one [`PageTree::share`] shares.
const MOST_SHARED: usize = 48;

/// True if other trees own the page, too. See [`frame_share::ShareCount::is_shared`] for how long that holds. A page that has left its
/// tree meanwhile gives any answer.
pub fn is_shared(page: PhysAddr) -> bool {
    frame_table::shares(page).is_shared()
}

/// Notes that a page is made writable for its only owner. True the first time since it was shared.
pub fn note_reuse(page: PhysAddr) -> bool {
    frame_table::shares(page).reuse()
}

/// An owner's part in a page that has left its tree. Dropping it gives it back; the last one frees the frame.
#[must_use]
#[derive(Debug)]
pub struct PageShare(PhysAddr);

impl PageShare {
    /// The part that a tree had in a page.
    ///
    /// # Safety
    /// 1. The address was in a slot for pages of a tree and is there no more, or the tree will never look there again.
    /// 2. This is the only call for that.
    pub(super) unsafe fn from_slot(address: u64) -> Self {
        PageShare(PhysAddr::new(address))
    }

    /// The frame, if nobody else owns it.
    #[inline]
    pub(super) fn into_frame(self) -> Result<Frame, Self> {
        if is_shared(self.0) {
            return Err(self);
        }
        let address = self.0;
        core::mem::forget(self);
        let last = frame_table::shares(address).release();
        debug_assert!(
            last,
            "a frame without other owners gets one from its only owner alone"
        );
        // SAFETY: the tree that the frame came from owned it alone and has given it up.
        Ok(unsafe { Frame::from_address(address) })
    }
}

impl Drop for PageShare {
    fn drop(&mut self) {
        if frame_table::shares(self.0).release() {
            // SAFETY: every tree that owned the frame has given it up, this one as the last.
            drop(unsafe { Frame::from_address(self.0) });
        }
    }
}

/// Pages that have left a tree. Dropping it gives them back.
#[must_use]
#[derive(Debug, Default)]
pub struct TakenPages {
    frames: OwnedFrames,
    shares: ArrayVec<PageShare, MOST_TAKEN_SHARES>,
}

impl TakenPages {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Count of pages.
    pub fn len(&self) -> usize {
        self.frames.len() + self.shares.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.shares.is_empty()
    }
}

/// What one [`PageTree::share`] did.
#[must_use]
#[derive(Debug)]
pub struct Shared {
    /// Where it stopped: everything below is done.
    pub stopped: u64,
    /// From the first page that is now shared to behind the last; few more than are shared.
    pub pages: Range<u64>,
    /// Count of pages that are now shared.
    pub count: u64,
    /// ENOMEM if it stopped for that, also above the limit of the other tree's account.
    pub outcome: Result<(), Errno>,
}

impl PageTree {
    /// Takes up to `most` pages of `range` out, in ascending order, into `pages`, and returns where it stopped. The caller
    /// drops them when nothing reaches them any more through what this tree stands for.
    ///
    /// # Panics
    /// If the tree does not allow it.
    pub fn take(&self, range: Range<u64>, most: usize, pages: &mut TakenPages) -> u64 {
        self.assert_discard();
        let end = range.end.min(self.pages());
        let mut index = range.start;
        let full = pages.len() + most;
        let before = pages.len();
        let leaving = self.leaving.lock();
        for _ in 0..STEPS_PER_TAKE {
            if index >= end || pages.len() >= full || pages.shares.is_full() {
                break;
            }
            let (slots, below) = match self.lowest_node(index) {
                Ok(node) => node,
                Err(skip) => {
                    index = skip;
                    continue;
                }
            };
            let page = slots[below].swap(0, Ordering::AcqRel);
            if page != 0 {
                // SAFETY: the swap took it out of its slot.
                match unsafe { PageShare::from_slot(page) }.into_frame() {
                    Ok(frame) => pages.frames.push(frame),
                    Err(share) => pages.shares.push(share),
                }
            }
            index += 1;
        }
        drop(leaving);
        let taken = (pages.len() - before) as u64;
        self.resident.fetch_sub(taken, Ordering::Relaxed);
        self.uncharge(taken);
        index
    }

    /// Copies the page that is at `index` now and returns which it was. It may be written meanwhile, or leave the tree and become
    /// anybody's, so the copy may be any mixture: it may be used only if [`Self::replace_shared`] then finds the page still
    /// there, and it can be known by other means that it was there all the time.
    ///
    /// # Panics
    /// If pages do not leave the tree.
    pub fn copy_unstable(&self, index: u64, copy: &mut Frame) -> Option<PhysAddr> {
        self.assert_discard();
        let page = self.get(index)?;
        copy_contents(page, copy);
        Some(page)
    }

    /// Puts `copy` in place of `original` at `index` if that is still there and still has other owners, and returns the tree's part in
    /// the original, which the caller drops when nothing reaches it any more through what this tree stands for. The copy takes over the
    /// charge.
    ///
    /// # Errors
    /// The copy.
    ///
    /// # Panics
    /// If pages do not leave the tree.
    pub fn replace_shared(&self, index: u64, original: PhysAddr, copy: Frame) -> Result<PageShare, Frame> {
        self.assert_discard();
        let _leaving = self.leaving.lock();
        let Some(slot) = self.find(index) else {
            return Err(copy);
        };
        // With the last other owner gone, somebody here may already be writing to the original.
        if !is_shared(original) {
            return Err(copy);
        }
        let (old, new) = (original.as_u64(), copy.address().as_u64());
        match slot.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => {
                let _in_tree = copy.into_address();
                // SAFETY: the exchange took it out of its slot.
                Ok(unsafe { PageShare::from_slot(old) })
            }
            Err(_) => Err(copy),
        }
    }

    /// Makes `other` an owner of pages of `range`, too, as far as one call goes: page `range.start` becomes page `to` there. A
    /// page with as many owners as can be counted is copied instead. The caller sees to it that from here on nobody writes to the
    /// pages in place.
    ///
    /// # Panics
    /// If pages do not leave the trees.
    pub fn share(&self, range: Range<u64>, other: &PageTree, to: u64) -> Shared {
        self.assert_discard();
        other.assert_discard();
        let end = range.end.min(self.pages());
        let mut shared = Shared {
            stopped: range.start,
            pages: range.start..range.start,
            count: 0,
            outcome: Ok(()),
        };
        let _leaving = self.leaving.lock();
        for _ in 0..STEPS_PER_SHARE {
            let index = shared.stopped;
            if index >= end || shared.count >= MOST_SHARED as u64 {
                break;
            }
            let (slots, below) = match self.lowest_node(index) {
                Ok(node) => node,
                // What is shared is kept close together.
                Err(_) if shared.count > 0 => break,
                Err(skip) => {
                    shared.stopped = skip.min(end);
                    continue;
                }
            };
            let page = slots[below].load(Ordering::Acquire);
            if page != 0 {
                shared.outcome = self.share_one(PhysAddr::new(page), other, to + (index - range.start));
                if shared.outcome.is_err() {
                    break;
                }
                if shared.count == 0 {
                    shared.pages.start = index;
                }
                shared.pages.end = index + 1;
                shared.count += 1;
            }
            shared.stopped += 1;
        }
        shared
    }

    /// Makes `other` an owner of a page of this tree, whose lock is held.
    fn share_one(&self, page: PhysAddr, other: &PageTree, index: u64) -> Result<(), Errno> {
        let slot = other.slot(index)?;
        let charge = other.charge(1)?;
        let new = if frame_table::shares(page).share().is_ok() {
            page.as_u64()
        } else {
            let mut copy = frame::allocate()?;
            copy_contents(page, &mut copy);
            copy.into_address().as_u64()
        };
        match slot.compare_exchange(0, new, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => {
                other.resident.fetch_add(1, Ordering::Relaxed);
                charge.keep();
                Ok(())
            }
            Err(_) => {
                // SAFETY: the part in the page that was just made, or the new frame, did not go into a slot.
                drop(unsafe { PageShare::from_slot(new) });
                Err(Errno::EEXIST)
            }
        }
    }

    fn assert_discard(&self) {
        assert!(
            self.discard == super::Discard::Allowed,
            "pages of a shared object stay"
        );
    }
}

/// Copies a page of a tree.
pub(super) fn copy_contents(page: PhysAddr, copy: &mut Frame) {
    let from: *const u8 = physical::to_virtual(page).as_ptr();
    // SAFETY: what is in a slot is a frame of the machine's memory, which is always in the direct map. Whoever writes to it
    // meanwhile, any mixture of old and new bytes is a valid result.
    unsafe { core::ptr::copy_nonoverlapping(from, copy.bytes().as_mut_ptr(), frame::SIZE as usize) };
}
