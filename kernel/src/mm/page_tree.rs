//! A sparse array of pages that owns them: a radix tree of frames, read and filled without a lock.
//!
//! A slot goes from empty to full by compare-and-swap, so that of two CPUs that fill it the first wins and the other frees
//! its page. Nodes never go away before the tree does. Pages do only in trees made for it ([`Discard::Allowed`]), and only such
//! trees share pages with others: see `owners`. Such a tree hands out addresses alone, and who uses one must know by other
//! means (the interlock of the address space that maps it) that the page is still there.

mod owners;

use owners::PageShare;
pub use owners::{Shared, TakenPages, is_shared, note_reuse};

use super::account::{Account, Charge};
use super::frame::{self, Frame, OwnedFrames};
use super::physical;
use crate::sync::{Rank, SpinLock};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::Errno;
use x86_64::PhysAddr;

/// Slots of a node; the root may have fewer.
const SLOTS: u64 = 512;

/// Whether pages can leave the tree before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// [`PageTree::take`] and its like work; words of pages cannot be accessed here.
    Allowed,
    /// A page stays until the tree is dropped.
    Never,
}

/// The array.
#[derive(Debug)]
pub struct PageTree {
    /// Each the address of a node, or at height 0 of a page; 0 if empty.
    root: Box<[AtomicU64]>,
    /// Levels of nodes between root and pages.
    height: u32,
    pages: u64,
    resident: AtomicU64,
    discard: Discard,
    /// Held while pages leave the tree, and while others get to share them.
    leaving: SpinLock<()>,
    /// Who pays for the pages.
    account: Option<Arc<Account>>,
}

/// A built way to a slot, and the charge for the page that will go there. Putting it there needs no memory.
#[must_use]
#[derive(Debug)]
pub struct Reservation<'tree> {
    tree: &'tree PageTree,
    slot: &'tree AtomicU64,
    charge: Charge<'tree>,
}

impl Reservation<'_> {
    /// Puts the page into the slot.
    ///
    /// # Errors
    /// The page, if there is one already.
    pub fn insert(self, page: Frame) -> Result<PhysAddr, Frame> {
        let address = self.tree.fill(self.slot, page)?;
        self.charge.keep();
        Ok(address)
    }
}

impl PageTree {
    /// An empty array of `pages` pages, which are charged to `account` while they are in it.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(pages: u64, discard: Discard, account: Option<Arc<Account>>) -> Result<Self, Errno> {
        super::check_headroom()?;
        let mut height = 0;
        let mut slots = pages;
        while slots > SLOTS {
            slots = slots.div_ceil(SLOTS);
            height += 1;
        }
        let mut root = Vec::new();
        root.try_reserve_exact(slots as usize)
            .map_err(|_| Errno::ENOMEM)?;
        root.resize_with(slots as usize, || AtomicU64::new(0));
        Ok(PageTree {
            root: root.into_boxed_slice(),
            height,
            pages,
            resident: AtomicU64::new(0),
            discard,
            leaving: SpinLock::new(Rank::PageTree, ()),
            account,
        })
    }

    /// Length of the array.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Pages that are there.
    pub fn resident(&self) -> u64 {
        self.resident.load(Ordering::Relaxed)
    }

    /// The page at `index`, if it is there.
    pub fn get(&self, index: u64) -> Option<PhysAddr> {
        page_in(self.find(index)?)
    }

    /// The page at `index`; if there is none, the one that `make` gives. True in the result if it is new.
    ///
    /// # Errors
    /// ERANGE beyond the end; ENOMEM, also above the account's limit; those of `make`.
    pub fn get_or_insert(
        &self,
        index: u64,
        make: impl FnOnce() -> Result<Frame, Errno>,
    ) -> Result<(PhysAddr, bool), Errno> {
        let slot = self.slot(index)?;
        if let Some(page) = page_in(slot) {
            return Ok((page, false));
        }
        let mut page = make()?;
        let charge = self.charge(1)?;
        loop {
            match self.fill(slot, page) {
                Ok(page) => {
                    charge.keep();
                    return Ok((page, true));
                }
                Err(loser) => page = loser,
            }
            // Somebody was first; but his page may have been taken out again already, and then ours goes in.
            if let Some(page) = page_in(slot) {
                return Ok((page, false));
            }
        }
    }

    /// Builds the way to `index` and charges for a page, so that [`Reservation::insert`] needs nothing more.
    ///
    /// # Errors
    /// ERANGE beyond the end; ENOMEM, also above the account's limit.
    pub fn reserve(&self, index: u64) -> Result<Reservation<'_>, Errno> {
        Ok(Reservation {
            tree: self,
            slot: self.slot(index)?,
            charge: self.charge(1)?,
        })
    }

    /// Charges for pages that are about to be put in.
    fn charge(&self, pages: u64) -> Result<Charge<'_>, Errno> {
        Charge::new(self.account.as_ref().map(|account| &account.pages), pages)
    }

    /// Gives back the charge for pages that have left.
    fn uncharge(&self, pages: u64) {
        if let Some(account) = &self.account {
            account.pages.release(pages);
        }
    }

    /// Puts a page that is charged for into an empty slot of the tree.
    fn fill(&self, slot: &AtomicU64, page: Frame) -> Result<PhysAddr, Frame> {
        let address = page.address();
        // Release: whoever finds the page also finds what is in it.
        match slot.compare_exchange(0, address.as_u64(), Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => {
                let _in_tree = page.into_address();
                self.resident.fetch_add(1, Ordering::Relaxed);
                Ok(address)
            }
            Err(_) => Err(page),
        }
    }

    /// A word of a page; zero if the page is not there.
    ///
    /// # Panics
    /// If pages can leave the tree, or `word` is not below 512.
    pub fn load_word(&self, index: u64, word: usize) -> u64 {
        assert!(self.discard == Discard::Never, "words of pages that can go");
        self.get(index).map_or(0, |page| {
            // SAFETY: the page is in the tree, so it is memory and stays until the tree goes; words are atomic everywhere.
            let words = unsafe { physical::words(page) };
            words[word].load(Ordering::Acquire)
        })
    }

    /// Writes `new` to a word of a page if it is `old`.
    ///
    /// # Errors
    /// The word as it is (zero if the page is not there).
    ///
    /// # Panics
    /// As [`Self::load_word`].
    pub fn compare_exchange_word(&self, index: u64, word: usize, old: u64, new: u64) -> Result<(), u64> {
        assert!(self.discard == Discard::Never, "words of pages that can go");
        let page = self.get(index).ok_or(0u64)?;
        // SAFETY: as in `load_word`.
        let words = unsafe { physical::words(page) };
        words[word]
            .compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
    }

    /// Copies the page at `index`, zeroes if it is not there, to `frame`.
    ///
    /// # Panics
    /// If pages can leave the tree.
    pub fn copy_page(&self, index: u64, frame: &mut Frame) {
        assert!(self.discard == Discard::Never, "words of pages that can go");
        match self.get(index) {
            Some(page) => owners::copy_contents(page, frame),
            None => frame.zero(),
        }
    }

    /// Index of `index` among the slots of a node that has `level` levels of nodes below.
    fn position(&self, index: u64, level: u32) -> usize {
        let position = index >> (9 * level);
        (if level == self.height {
            position
        } else {
            position % SLOTS
        }) as usize
    }

    /// The slot for `index`, if the way to it is built.
    fn find(&self, index: u64) -> Option<&AtomicU64> {
        let (slots, position) = self.lowest_node(index).ok()?;
        Some(&slots[position])
    }

    /// The node whose slots hold pages, and the position in it; or, without one, the next index that may have one.
    fn lowest_node(&self, index: u64) -> Result<(&[AtomicU64], usize), u64> {
        if index >= self.pages {
            return Err(self.pages);
        }
        let mut slots: &[AtomicU64] = &self.root;
        for level in (1..=self.height).rev() {
            let node = slots[self.position(index, level)].load(Ordering::Acquire);
            if node == 0 {
                return Err(((index >> (9 * level)) + 1) << (9 * level));
            }
            // SAFETY: nodes are frames of atomic words that stay until the tree goes.
            slots = unsafe { physical::words(PhysAddr::new(node)) };
        }
        Ok((slots, self.position(index, 0)))
    }

    /// The slot for `index`, building the way to it.
    fn slot(&self, index: u64) -> Result<&AtomicU64, Errno> {
        if index >= self.pages {
            return Err(Errno::ERANGE);
        }
        let mut slots: &[AtomicU64] = &self.root;
        for level in (1..=self.height).rev() {
            let slot = &slots[self.position(index, level)];
            let mut node = slot.load(Ordering::Acquire);
            if node == 0 {
                let fresh = frame::allocate_zeroed()?;
                let address = fresh.address().as_u64();
                match slot.compare_exchange(0, address, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => node = fresh.into_address().as_u64(),
                    Err(other) => node = other,
                }
            }
            // SAFETY: as in `lowest_node`.
            slots = unsafe { physical::words(PhysAddr::new(node)) };
        }
        Ok(&slots[self.position(index, 0)])
    }
}

/// The page that a slot of the lowest level holds.
fn page_in(slot: &AtomicU64) -> Option<PhysAddr> {
    let value = slot.load(Ordering::Acquire);
    (value != 0).then(|| PhysAddr::new(value))
}

/// Gives up what the slots of a node hold: pages at level 0, else nodes and everything below them.
fn release(slots: &[AtomicU64], level: u32) {
    // Those of a node go back together.
    let mut free = OwnedFrames::new();
    for slot in slots {
        let address = slot.load(Ordering::Relaxed);
        if address == 0 {
            continue;
        }
        if level == 0 {
            // SAFETY: the tree is being dropped, and each page is named once.
            let share = unsafe { PageShare::from_slot(address) };
            if let Ok(frame) = share.into_frame() {
                free.push(frame);
            }
            continue;
        }
        // SAFETY: a node; the tree is being dropped, nobody else uses it.
        release(unsafe { physical::words(PhysAddr::new(address)) }, level - 1);
        // SAFETY: the tree owns its nodes, and each is named once.
        free.push(unsafe { Frame::from_address(PhysAddr::new(address)) });
    }
}

impl Drop for PageTree {
    fn drop(&mut self) {
        release(&self.root, self.height);
        self.uncharge(self.resident());
    }
}
