//! A memory object as the RAM of a small vkernel.

use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::Protection;
use dragonet_abi::{Errno, Handle};
use dragonet_rt::memory::Mapping;
use dragonet_rt::{OwnedHandle, syscall};

/// A memory object, mapped as a whole as it is, and pages of it to hand out. Its "physical" addresses are offsets in it, or, for guest mode, the
/// addresses of the mapping.
#[derive(Debug)]
pub struct Ram {
    object: OwnedHandle,
    memory: Mapping,
    /// The physical address of the first byte.
    base: u64,
    free: AtomicU64,
}

impl Ram {
    /// A new object of `size` bytes. It is sparse: memory is taken for what is touched.
    ///
    /// # Errors
    /// Those of `object_create` and `mmap`.
    pub fn new(size: u64) -> Result<Self, Errno> {
        let object = syscall::object_create(size)?;
        let memory = Mapping::of_object(object.get(), 0, size, Protection::READ | Protection::WRITE)?;
        Ok(Ram {
            object,
            memory,
            base: 0,
            free: AtomicU64::new(0),
        })
    }

    /// As [`Ram::new`], but physical addresses are those of the mapping, as in guest mode.
    ///
    /// # Errors
    /// Those of `object_create` and `mmap`.
    pub fn for_guest_mode(size: u64) -> Result<Self, Errno> {
        let mut ram = Self::new(size)?;
        ram.base = ram.memory.address();
        Ok(ram)
    }

    /// The physical address of the first byte.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Where the program has the first byte.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.memory.address()
    }

    /// The object.
    #[must_use]
    pub const fn object(&self) -> Handle {
        self.object.get()
    }

    /// Bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.memory.length()
    }

    /// The next page that was never handed out, zeroed.
    ///
    /// # Errors
    /// `ENOMEM` at the end.
    pub fn page(&self) -> Result<u64, Errno> {
        let page = self.free.fetch_add(PAGE_SIZE, Ordering::Relaxed);
        if page < self.size() {
            Ok(self.base + page)
        } else {
            Err(Errno::ENOMEM)
        }
    }

    /// Pages that were never handed out.
    #[must_use]
    pub fn pages_left(&self) -> u64 {
        self.size().saturating_sub(self.free.load(Ordering::Relaxed)) / PAGE_SIZE
    }

    /// Pages are handed out from this physical address on.
    pub fn allocate_from(&self, address: u64) {
        self.free.store(address - self.base, Ordering::Relaxed);
    }

    /// A word.
    ///
    /// # Errors
    /// `ERANGE` beyond the end, `EINVAL` if `offset` is not a multiple of 8.
    pub fn word(&self, offset: u64) -> Result<&AtomicU64, Errno> {
        self.memory.word(offset.wrapping_sub(self.base))
    }

    /// Loads a word.
    ///
    /// # Errors
    /// As for [`Ram::word`].
    pub fn load(&self, offset: u64) -> Result<u64, Errno> {
        Ok(self.word(offset)?.load(Ordering::SeqCst))
    }

    /// Stores a word.
    ///
    /// # Errors
    /// As for [`Ram::word`].
    pub fn store(&self, offset: u64, value: u64) -> Result<(), Errno> {
        self.word(offset)?.store(value, Ordering::SeqCst);
        Ok(())
    }

    /// Stores bytes.
    ///
    /// # Errors
    /// `ERANGE` beyond the end.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.memory.write(offset.wrapping_sub(self.base), bytes)
    }

    /// Loads bytes.
    ///
    /// # Errors
    /// `ERANGE` beyond the end.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        self.memory.read(offset.wrapping_sub(self.base), bytes)
    }
}
