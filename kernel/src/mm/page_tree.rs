//! A sparse array of pages that owns them: a radix tree of frames, read and filled without a lock.
//!
//! A slot goes from empty to full by compare-and-swap, so that of two CPUs that fill it the first wins and the other frees
//! its page. Nodes never go away before the tree does. Pages do only in trees made for it ([`Discard::Allowed`]), by
//! [`PageTree::take`]; such a tree hands out addresses alone, and who uses one must know by other means (the interlock of
//! the address space that maps it) that the page is still there.

use super::frame::{self, Frame, OwnedFrames};
use super::physical;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use dragonet_abi::Errno;
use x86_64::PhysAddr;

/// Slots, or missing nodes, that one [`PageTree::take`] looks at.
const STEPS_PER_TAKE: usize = 2048;
/// Slots of a node; the root may have fewer.
const SLOTS: u64 = 512;

/// Whether pages can leave the tree before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// [`PageTree::take`] works; words of pages cannot be accessed here.
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
    resident: AtomicUsize,
    discard: Discard,
}

impl PageTree {
    /// An empty array of `pages` pages.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(pages: u64, discard: Discard) -> Result<Self, Errno> {
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
            resident: AtomicUsize::new(0),
            discard,
        })
    }

    /// Length of the array.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Pages that are there.
    pub fn resident(&self) -> usize {
        self.resident.load(Ordering::Relaxed)
    }

    /// The page at `index`, if it is there.
    pub fn get(&self, index: u64) -> Option<PhysAddr> {
        let value = self.find(index)?.load(Ordering::Acquire);
        (value != 0).then(|| PhysAddr::new(value))
    }

    /// The page at `index`; if there is none, the one that `make` gives. True in the result if it is new.
    ///
    /// # Errors
    /// ERANGE beyond the end; ENOMEM; those of `make`.
    pub fn get_or_insert(
        &self,
        index: u64,
        make: impl FnOnce() -> Result<Frame, Errno>,
    ) -> Result<(PhysAddr, bool), Errno> {
        if let Some(page) = self.get(index) {
            return Ok((page, false));
        }
        self.prepare(index)?;
        let mut page = make()?;
        loop {
            match self.insert(index, page) {
                Ok(page) => return Ok((page, true)),
                Err(loser) => page = loser,
            }
            // Somebody was first; but his page may have been taken out again already, and then ours goes in.
            if let Some(page) = self.get(index) {
                return Ok((page, false));
            }
        }
    }

    /// Builds the way to `index`, so that [`Self::insert`] needs no memory.
    ///
    /// # Errors
    /// ERANGE beyond the end; ENOMEM.
    pub fn prepare(&self, index: u64) -> Result<(), Errno> {
        self.slot(index).map(|_| ())
    }

    /// Puts a page at `index`, to which the way was prepared.
    ///
    /// # Errors
    /// The page, if there is one already (or no way).
    pub fn insert(&self, index: u64, page: Frame) -> Result<PhysAddr, Frame> {
        let Some(slot) = self.find(index) else {
            return Err(page);
        };
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

    /// Takes up to `most` pages of `range` out, in ascending order, into `pages`, and returns where it stopped. The caller
    /// drops them when nothing reaches them any more.
    ///
    /// # Panics
    /// If the tree does not allow it.
    pub fn take(&self, range: Range<u64>, most: usize, pages: &mut OwnedFrames) -> u64 {
        assert!(self.discard == Discard::Allowed, "pages of a shared object stay");
        let end = range.end.min(self.pages);
        let mut index = range.start;
        let full = pages.len() + most;
        for _ in 0..STEPS_PER_TAKE {
            if index >= end || pages.len() >= full {
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
                // SAFETY: the tree owned it, and the swap took it out.
                pages.push(unsafe { Frame::from_address(PhysAddr::new(page)) });
                self.resident.fetch_sub(1, Ordering::Relaxed);
            }
            index += 1;
        }
        index
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
            // SAFETY: the page is in the tree and stays; a program may write it meanwhile, which is its own affair: any mixture of
            // old and new bytes is a valid result.
            Some(page) => unsafe {
                let from: *const u8 = physical::to_virtual(page).as_ptr();
                core::ptr::copy_nonoverlapping(from, frame.bytes().as_mut_ptr(), frame::SIZE as usize);
            },
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

/// Frees what the slots of a node hold: pages at level 0, else nodes and everything below them.
fn release(slots: &[AtomicU64], level: u32) {
    for slot in slots {
        let address = slot.load(Ordering::Relaxed);
        if address == 0 {
            continue;
        }
        if level > 0 {
            // SAFETY: a node; the tree is being dropped, nobody else uses it.
            release(unsafe { physical::words(PhysAddr::new(address)) }, level - 1);
        }
        // SAFETY: the tree owns what its slots name, and each is named once.
        drop(unsafe { Frame::from_address(PhysAddr::new(address)) });
    }
}

impl Drop for PageTree {
    fn drop(&mut self) {
        release(&self.root, self.height);
    }
}
