//! Physical memory: pages that are free, tables or frames, each with entries, and who got it when.

use std::collections::BTreeMap;

pub const PAGE: u64 = 4096;

/// What a page is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Free,
    /// A table of the space with this id.
    Table(u64),
    /// Memory of programs; so many address spaces share it.
    Frame(u32),
}

#[derive(Debug)]
pub struct Page {
    pub state: Use,
    /// Number of the allocation that it belongs to: tells the page from its successor at the same address.
    pub allocation: u64,
    /// Words that are not zero, by index.
    pub words: BTreeMap<usize, u64>,
    /// Stores of programs so far.
    pub stores: u64,
}

/// All pages. The page that was freed last is given away first, so that whoever still reaches it meets its new owner.
#[derive(Debug, Default)]
pub struct Memory {
    pages: Vec<Page>,
    free: Vec<u64>,
    allocations: u64,
}

impl Memory {
    /// A zeroed page. Memory is as large as it needs to be.
    pub fn allocate(&mut self, state: Use) -> u64 {
        let address = self.free.pop().unwrap_or_else(|| {
            self.pages.push(Page {
                state: Use::Free,
                allocation: 0,
                words: BTreeMap::new(),
                stores: 0,
            });
            self.pages.len() as u64 * PAGE
        });
        self.allocations += 1;
        let allocation = self.allocations;
        let page = self.page_mut(address);
        assert_eq!(page.state, Use::Free);
        page.state = state;
        page.allocation = allocation;
        page.stores = 0;
        address
    }

    /// Frames of one allocation, side by side, the first aligned to the size of a large page.
    pub fn allocate_block(&mut self, pages: u64) -> u64 {
        self.allocations += 1;
        let large = page_table::span(2) / PAGE;
        let first = (self.pages.len() as u64 + 1).next_multiple_of(large);
        for number in self.pages.len() as u64 + 1..first + pages {
            let inside = number >= first;
            self.pages.push(Page {
                state: if inside { Use::Frame(1) } else { Use::Free },
                allocation: if inside { self.allocations } else { 0 },
                words: BTreeMap::new(),
                stores: 0,
            });
            if !inside {
                self.free.push(number * PAGE);
            }
        }
        first * PAGE
    }

    pub fn free(&mut self, address: u64) {
        let page = self.page_mut(address);
        assert_ne!(page.state, Use::Free, "page {address:#x} is freed twice");
        page.state = Use::Free;
        page.words.clear();
        self.free.push(address);
    }

    pub fn page(&self, address: u64) -> &Page {
        &self.pages[(address / PAGE - 1) as usize]
    }

    pub fn page_mut(&mut self, address: u64) -> &mut Page {
        &mut self.pages[(address / PAGE - 1) as usize]
    }

    pub fn word(&self, page: u64, index: usize) -> u64 {
        self.page(page).words.get(&index).copied().unwrap_or(0)
    }

    pub fn set_word(&mut self, page: u64, index: usize, value: u64) {
        let words = &mut self.page_mut(page).words;
        if value == 0 {
            words.remove(&index);
        } else {
            words.insert(index, value);
        }
    }

    /// Pages in use.
    pub fn used(&self) -> usize {
        self.pages.len() - self.free.len()
    }

    /// Address spaces that share a frame.
    pub fn shares(&self, frame: u64) -> u32 {
        match self.page(frame).state {
            Use::Frame(shares) => shares,
            other => panic!("{frame:#x} is no frame but {other:?}"),
        }
    }
}
