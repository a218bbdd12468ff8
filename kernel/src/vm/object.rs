//! Memory objects: pages by index, from anonymous memory, a boot module or a device.

use super::OBJECTS;
use crate::debug::counters;
use crate::mm::frame::{self, Frame};
use crate::mm::physical::{self, ModuleMemory};
use crate::mm::{Account, Discard, PageTree};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::Errno;
use dragonet_abi::counters::Counter;
use dragonet_abi::layout::{MAX_OBJECT_SIZE, PAGE_SIZE};
use page_table::CacheMode;
use x86_64::PhysAddr;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Where the pages are.
#[derive(Debug)]
pub(super) enum Backing {
    /// Owned, zero-filled when first touched, never taken away while the object lives.
    Anonymous(PageTree),
    /// The same, private to one vmspace, which can drop pages of it. Its pages, but not itself, can be shared with the
    /// private objects of other vmspaces until somebody writes to them.
    Private(PageTree),
    /// A boot module: memory that was there from the start, never written, never freed.
    Module(ModuleMemory),
    /// Registers or a frame buffer.
    Device(PhysAddr, CacheMode),
    /// No pages at all: what reserved addresses lead to.
    Nothing,
}

/// A page of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    /// Where it is.
    pub(super) physical: PhysAddr,
    /// Its memory type.
    pub(super) cache: CacheMode,
    /// It was made just now.
    pub(super) fresh: bool,
}

impl Page {
    /// A page of memory that was there.
    pub(super) const fn resident(physical: PhysAddr) -> Self {
        Page {
            physical,
            cache: CacheMode::WriteBack,
            fresh: false,
        }
    }

    /// What a fault that maps it is counted as.
    pub(super) const fn outcome(&self) -> Counter {
        if self.fresh {
            Counter::FaultZeroFilled
        } else {
            Counter::FaultResident
        }
    }
}

/// A memory object. Shared by reference counting; its pages go when the last mapping and the last handle are gone.
#[derive(Debug)]
pub struct MemoryObject {
    id: u64,
    size: u64,
    backing: Backing,
}

impl MemoryObject {
    fn create(size: u64, backing: Backing) -> Arc<Self> {
        OBJECTS.fetch_add(1, Ordering::Relaxed);
        Arc::new(MemoryObject {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            size,
            backing,
        })
    }

    /// Zeroes of `size` bytes, rounded up to pages; they take memory when they are touched, and nobody is charged for it.
    ///
    /// # Errors
    /// EINVAL for 0; ENOMEM above [`MAX_OBJECT_SIZE`] or when memory is low.
    pub fn anonymous(size: u64) -> Result<Arc<Self>, Errno> {
        Self::of_zeroes(size, None)
    }

    /// The same, charged to whoever creates it, whoever touches it.
    ///
    /// # Errors
    /// As [`Self::anonymous`].
    pub fn anonymous_for(size: u64, account: &Arc<Account>) -> Result<Arc<Self>, Errno> {
        Self::of_zeroes(size, Some(account.clone()))
    }

    fn of_zeroes(size: u64, account: Option<Arc<Account>>) -> Result<Arc<Self>, Errno> {
        let size = rounded(size)?;
        let pages = PageTree::new(size / PAGE_SIZE, Discard::Never, account)?;
        Ok(Self::create(size, Backing::Anonymous(pages)))
    }

    /// The same for the private memory of one vmspace.
    pub(super) fn private(size: u64, account: &Arc<Account>) -> Result<Arc<Self>, Errno> {
        let size = rounded(size)?;
        let pages = PageTree::new(size / PAGE_SIZE, Discard::Allowed, Some(account.clone()))?;
        Ok(Self::create(size, Backing::Private(pages)))
    }

    /// The object without pages, one for all, with the id 0.
    pub(super) fn nothing() -> Arc<Self> {
        static NOTHING: spin::Once<Arc<MemoryObject>> = spin::Once::new();
        let make = || {
            Arc::new(MemoryObject {
                id: 0,
                size: 0,
                backing: Backing::Nothing,
            })
        };
        NOTHING.call_once(make).clone()
    }

    /// A boot module's memory, page-aligned, as a read-only object; private mappings of it copy on write.
    ///
    /// # Errors
    /// EINVAL if the range is misaligned, empty, or not inside a boot module.
    pub fn module(physical: PhysAddr, size: u64) -> Result<Arc<Self>, Errno> {
        Ok(Self::create(
            size,
            Backing::Module(ModuleMemory::new(physical, size)?),
        ))
    }

    /// Device memory, uncached.
    ///
    /// # Errors
    /// EINVAL if the range is misaligned, empty or wraps; EACCES if it has memory of the kernel in it.
    pub fn device(physical: PhysAddr, size: u64) -> Result<Arc<Self>, Errno> {
        check_physical(physical, size)?;
        if physical::overlaps_ram(physical, size) {
            return Err(Errno::EACCES);
        }
        Ok(Self::create(size, Backing::Device(physical, CacheMode::Uncached)))
    }

    /// Bytes. What lies between the end and the end of its page can be mapped with it.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Unique over the life of the system.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Pages of memory that the object owns now.
    pub fn resident_pages(&self) -> u64 {
        match &self.backing {
            Backing::Anonymous(pages) | Backing::Private(pages) => pages.resident(),
            Backing::Module(_) | Backing::Device(..) | Backing::Nothing => 0,
        }
    }

    /// True if stores may reach the object.
    pub(super) fn is_writable(&self) -> bool {
        !matches!(self.backing, Backing::Module(_))
    }

    /// True if the object can hold a virtual page table.
    pub(super) fn is_anonymous(&self) -> bool {
        matches!(self.backing, Backing::Anonymous(_))
    }

    /// True if it can be mapped privately.
    pub(super) fn can_be_copied(&self) -> bool {
        matches!(self.backing, Backing::Anonymous(_) | Backing::Module(_))
    }

    /// True if a program can wait on its words.
    pub(super) fn is_memory(&self) -> bool {
        !matches!(self.backing, Backing::Device(..) | Backing::Nothing)
    }

    /// Pages that can be mapped.
    pub(super) fn pages(&self) -> u64 {
        self.size.div_ceil(PAGE_SIZE)
    }

    /// The pages of anonymous memory that cannot go away, for the walker of virtual page tables.
    pub(super) fn stable_pages(&self) -> Option<&PageTree> {
        match &self.backing {
            Backing::Anonymous(pages) => Some(pages),
            _ => None,
        }
    }

    /// The page at `index`, zero-filled now if it was never touched.
    ///
    /// # Errors
    /// ERANGE beyond the end; ENOMEM.
    pub(super) fn page(&self, index: u64) -> Result<Page, Errno> {
        if index >= self.pages() {
            return Err(Errno::ERANGE);
        }
        let (physical, cache, fresh) = match &self.backing {
            Backing::Anonymous(pages) | Backing::Private(pages) => {
                let (page, fresh) = pages.get_or_insert(index, || {
                    counters::count(Counter::PageZeroed);
                    frame::allocate_zeroed()
                })?;
                (page, CacheMode::WriteBack, fresh)
            }
            Backing::Module(module) => {
                let page = module.page(index).ok_or(Errno::ERANGE)?;
                (page, CacheMode::WriteBack, false)
            }
            Backing::Device(base, cache) => (*base + index * PAGE_SIZE, *cache, false),
            Backing::Nothing => return Err(Errno::ERANGE),
        };
        Ok(Page {
            physical,
            cache,
            fresh,
        })
    }

    /// Start and memory type of the `count` pages from `index` on, if they lie in one piece of physical memory and always will.
    pub(super) fn contiguous(&self, index: u64, count: u64) -> Option<(PhysAddr, CacheMode)> {
        index.checked_add(count).filter(|&end| end <= self.pages())?;
        match &self.backing {
            Backing::Module(_) | Backing::Device(..) => {
                let page = self.page(index).ok()?;
                Some((page.physical, page.cache))
            }
            _ => None,
        }
    }

    /// The page at `index` if it is there, of memory that is not private.
    pub(super) fn resident_page(&self, index: u64) -> Option<PhysAddr> {
        match &self.backing {
            Backing::Anonymous(pages) => pages.get(index),
            Backing::Module(module) => module.page(index),
            Backing::Private(_) | Backing::Device(..) | Backing::Nothing => None,
        }
    }

    /// Copies the page at `index` into `frame`.
    ///
    /// # Errors
    /// ERANGE beyond the end; EACCES for devices and private memory.
    pub(super) fn copy_page(&self, index: u64, frame: &mut Frame) -> Result<(), Errno> {
        if index >= self.pages() {
            return Err(Errno::ERANGE);
        }
        match &self.backing {
            Backing::Anonymous(pages) => pages.copy_page(index, frame),
            Backing::Module(module) if module.copy_page(index, frame) => {}
            Backing::Module(_) => return Err(Errno::ERANGE),
            Backing::Private(_) | Backing::Device(..) | Backing::Nothing => return Err(Errno::EACCES),
        }
        Ok(())
    }

    /// The pages of an object that belongs to one vmspace, which can drop, share and replace them.
    pub(super) fn private_pages(&self) -> Option<&PageTree> {
        match &self.backing {
            Backing::Private(pages) => Some(pages),
            _ => None,
        }
    }
}

impl Drop for MemoryObject {
    fn drop(&mut self) {
        OBJECTS.fetch_sub(1, Ordering::Relaxed);
    }
}

fn rounded(size: u64) -> Result<u64, Errno> {
    match size {
        0 => Err(Errno::EINVAL),
        _ if size > MAX_OBJECT_SIZE => Err(Errno::ENOMEM),
        _ => Ok(size.next_multiple_of(PAGE_SIZE)),
    }
}

fn check_physical(physical: PhysAddr, size: u64) -> Result<(), Errno> {
    let end = physical.as_u64().checked_add(size).ok_or(Errno::EINVAL)?;
    let aligned = physical.is_aligned(PAGE_SIZE);
    if size == 0 || !aligned || end > physical::address_limit() {
        Err(Errno::EINVAL)
    } else {
        Ok(())
    }
}
