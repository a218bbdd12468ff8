//! Memory objects of level 2: pages of level 1's RAM by number, taken when they are touched.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use core::cell::RefCell;
use core::sync::atomic::Ordering;
use dragonet_abi::Errno;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_programs::vm::Ram;
use page_table::vpagetable::VpteMemory;

/// A memory object of level 2.
pub struct Object {
    ram: Rc<Ram>,
    size: u64,
    /// Where pages are in the RAM.
    places: RefCell<BTreeMap<u64, u64>>,
}

impl Object {
    /// Zeroes of `size` bytes, a multiple of the page size.
    pub fn new(ram: &Rc<Ram>, size: u64) -> Rc<Self> {
        Rc::new(Object {
            ram: Rc::clone(ram),
            size,
            places: RefCell::default(),
        })
    }

    /// Bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Where the page with this number is in the RAM; it is taken now if it was never touched.
    pub fn place(&self, page: u64) -> Result<u64, Errno> {
        if page >= self.size / PAGE_SIZE {
            return Err(Errno::ERANGE);
        }
        if let Some(place) = self.places.borrow().get(&page) {
            return Ok(*place);
        }
        let place = self.ram.page()?;
        self.places.borrow_mut().insert(page, place);
        Ok(place)
    }

    /// Writes bytes from an offset on.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let end = bytes.len().min(done + (PAGE_SIZE - at % PAGE_SIZE) as usize);
            let place = self.place(at / PAGE_SIZE)? + at % PAGE_SIZE;
            self.ram.write(place, &bytes[done..end])?;
            done = end;
        }
        Ok(())
    }

    /// Where an entry of a table in the object is in the RAM, if its page was ever touched.
    fn entry(&self, page: u64, index: usize) -> Option<u64> {
        let place = *self.places.borrow().get(&page)?;
        Some(place + 8 * index as u64)
    }
}

/// Level 2's tables, as the walker reads them: every entry by way of the RAM.
impl VpteMemory for Object {
    fn pages(&self) -> u64 {
        self.size / PAGE_SIZE
    }

    fn load(&self, page: u64, index: usize) -> u64 {
        let entry = self.entry(page, index);
        entry.and_then(|at| self.ram.load(at).ok()).unwrap_or(0)
    }

    fn compare_exchange(&self, page: u64, index: usize, old: u64, new: u64) -> Result<(), u64> {
        let word = self.entry(page, index).ok_or(0u64)?;
        let word = self.ram.word(word).map_err(|_| 0u64)?;
        word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
            .map(drop)
    }
}
