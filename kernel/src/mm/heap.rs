//! The kernel heap: size classes in pages of one class each, and whole blocks of frames above.
//!
//! A page of a class (a *slab*) begins with a header; a free object holds the address of the next. A slab whose objects are
//! all free goes back to the frames unless it is the last of its class with free objects, so after the work is done
//! the heap is as small as before.
//!
//! There are two heaps: what the buddy allocator needs for its sets while it is locked comes from one of its own, whose size
//! depends on how fragmented the free memory is and counts as free.

use super::frame::{self, Frame, Need};
use super::{buddy, physical, scattered};
use crate::sync::{Rank, SpinLock};
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicUsize, Ordering};
use x86_64::VirtAddr;

/// Object sizes. Powers of two are aligned to themselves, the others to 16.
const CLASSES: [usize; 14] = [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 672, 1008, 1344, 2016];
/// Room for the header; where objects of classes up to 64 and of the classes that are no power of two begin.
const FIRST_OBJECT: usize = 64;

struct Slab {
    next: *mut Slab,
    previous: *mut Slab,
    free: *mut FreeObject,
    used: usize,
}

struct FreeObject {
    next: *mut FreeObject,
}

/// Per class, the slabs that have free objects.
struct Heap {
    partial: [*mut Slab; CLASSES.len()],
    slabs: &'static AtomicUsize,
    spare: &'static AtomicUsize,
}

// SAFETY: the slabs are reached through the lock around the heap only.
unsafe impl Send for Heap {}

static HEAP: SpinLock<Heap> = SpinLock::new(Rank::Heap, Heap::new(&SLABS, &SPARE));
static BOOKKEEPING: SpinLock<Heap> =
    SpinLock::new(Rank::Heap, Heap::new(&BOOKKEEPING_SLABS, &BOOKKEEPING_SPARE));

static SLABS: AtomicUsize = AtomicUsize::new(0);
/// Slabs kept though all their objects are free.
static SPARE: AtomicUsize = AtomicUsize::new(0);
static BOOKKEEPING_SLABS: AtomicUsize = AtomicUsize::new(0);
static BOOKKEEPING_SPARE: AtomicUsize = AtomicUsize::new(0);

/// The heap for whoever runs on this CPU now. The sets of the buddy allocator are used below its lock alone, so what comes from
/// one heap goes back to it.
fn heap() -> &'static SpinLock<Heap> {
    if buddy::in_buddy() { &BOOKKEEPING } else { &HEAP }
}

/// Frames that the heap keeps but does not need, and those in which the free frames are written down.
pub(super) fn spare_frames() -> usize {
    SPARE.load(Ordering::Relaxed) + BOOKKEEPING_SLABS.load(Ordering::Relaxed) + scattered::pooled_frames()
}

/// Sizes are multiples of this.
const UNIT: usize = 16;
/// The smallest class for each count of units.
const CLASS_BY_UNITS: [u8; CLASSES[CLASSES.len() - 1] / UNIT + 1] = {
    let mut classes = [0; CLASSES[CLASSES.len() - 1] / UNIT + 1];
    let (mut units, mut class) = (0, 0);
    while units < classes.len() {
        if units * UNIT > CLASSES[class] {
            class += 1;
        }
        classes[units] = class as u8;
        units += 1;
    }
    classes
};

/// The class for a layout, or `None` if it gets frames of its own.
fn class_of(layout: Layout) -> Option<usize> {
    let class_for = |size: usize| CLASS_BY_UNITS.get(size.div_ceil(UNIT)).copied().map(usize::from);
    if layout.align() <= UNIT {
        return class_for(layout.size());
    }
    // Only classes that are powers of two are aligned to more.
    let size = layout.size().max(layout.align()).next_power_of_two();
    class_for(size).filter(|&class| CLASSES[class] == size)
}

/// Frames for a layout too large for a class: a power of two, which also aligns it.
fn frames_of(layout: Layout) -> usize {
    layout
        .size()
        .max(layout.align())
        .div_ceil(frame::SIZE as usize)
        .next_power_of_two()
}

impl Heap {
    const fn new(slabs: &'static AtomicUsize, spare: &'static AtomicUsize) -> Self {
        Heap {
            partial: [null_mut(); CLASSES.len()],
            slabs,
            spare,
        }
    }

    fn allocate(&mut self, class: usize) -> Option<NonNull<u8>> {
        let slab = self.partial[class];
        if slab.is_null() {
            return None;
        }
        // SAFETY: a slab in the list is a live page with a header, and has a free object; the lock is held.
        unsafe {
            let object = (*slab).free;
            if (*slab).used == 0 {
                self.spare.fetch_sub(1, Ordering::Relaxed);
            }
            (*slab).used += 1;
            (*slab).free = (*object).next;
            if (*slab).free.is_null() {
                self.unlink(class, slab);
            }
            NonNull::new(object.cast())
        }
    }

    /// Makes a frame a slab with free objects.
    fn add(&mut self, class: usize, frame: Frame) {
        let page = physical::to_virtual(frame.into_address()).as_u64() as usize;
        let size = CLASSES[class];
        let first = if size.is_power_of_two() {
            size.max(FIRST_OBJECT)
        } else {
            FIRST_OBJECT
        };
        let slab = page as *mut Slab;
        let mut free: *mut FreeObject = null_mut();
        let mut object = page + first + (frame::SIZE as usize - first) / size * size;
        // SAFETY: the frame is ours and mapped; objects lie behind the header and inside the page.
        unsafe {
            while object > page + first {
                object -= size;
                let this = object as *mut FreeObject;
                this.write(FreeObject { next: free });
                free = this;
            }
            slab.write(Slab {
                next: null_mut(),
                previous: null_mut(),
                free,
                used: 0,
            });
        }
        self.slabs.fetch_add(1, Ordering::Relaxed);
        self.spare.fetch_add(1, Ordering::Relaxed);
        self.link(class, slab);
    }

    /// Frees an object; gives its page back if that is now all free and not needed.
    ///
    /// # Safety
    /// The object was allocated with this class and is used no more.
    unsafe fn free(&mut self, class: usize, object: *mut u8) -> Option<Frame> {
        let page = object as usize & !(frame::SIZE as usize - 1);
        let slab = page as *mut Slab;
        let object: *mut FreeObject = object.cast();
        // SAFETY: by the caller's promise the object lies in a slab of this class, whose header is at the page's start.
        unsafe {
            let was_full = (*slab).free.is_null();
            object.write(FreeObject { next: (*slab).free });
            (*slab).free = object;
            (*slab).used -= 1;
            if was_full {
                self.link(class, slab);
            }
            if (*slab).used > 0 {
                return None;
            }
            let only = self.partial[class] == slab && (*slab).next.is_null();
            if only {
                self.spare.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            self.unlink(class, slab);
            self.slabs.fetch_sub(1, Ordering::Relaxed);
            Some(Frame::from_address(physical::from_direct_map(
                VirtAddr::from_ptr(slab),
            )))
        }
    }

    fn link(&mut self, class: usize, slab: *mut Slab) {
        let next = self.partial[class];
        // SAFETY: both are live slabs; the lock is held.
        unsafe {
            (*slab).previous = null_mut();
            (*slab).next = next;
            if !next.is_null() {
                (*next).previous = slab;
            }
        }
        self.partial[class] = slab;
    }

    fn unlink(&mut self, class: usize, slab: *mut Slab) {
        // SAFETY: the slab is in the list, so it and its neighbours are live; the lock is held.
        unsafe {
            let (next, previous) = ((*slab).next, (*slab).previous);
            if previous.is_null() {
                self.partial[class] = next;
            } else {
                (*previous).next = next;
            }
            if !next.is_null() {
                (*next).previous = previous;
            }
        }
    }
}

/// The `alloc` crate's door to the heap.
struct KernelHeap;

#[global_allocator]
static KERNEL_HEAP: KernelHeap = KernelHeap;

// SAFETY: memory handed out is exclusive (an object off a free list, or frames off the allocator), large enough and
// aligned (see `class_of` and `frames_of`), and stays so until freed with the same layout, which leads to the same class.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout) else {
            return allocate_frames(frames_of(layout));
        };
        loop {
            if let Some(object) = heap().lock().allocate(class) {
                return object.as_ptr();
            }
            // Grown without the lock: frames may come from the buddy allocator, whose sets live in this heap.
            let Ok(frame) = frame::allocate_for(Need::Kernel) else {
                return null_mut();
            };
            heap().lock().add(class, frame);
        }
    }

    unsafe fn dealloc(&self, object: *mut u8, layout: Layout) {
        let Some(class) = class_of(layout) else {
            // SAFETY: the same layout took frames for this.
            unsafe { free_frames(object, frames_of(layout)) };
            return;
        };
        // SAFETY: the caller's promise.
        let page = unsafe { heap().lock().free(class, object) };
        // Goes back to the frames here, without the lock.
        drop(page);
    }
}

fn allocate_frames(count: usize) -> *mut u8 {
    if count == 1 {
        let frame = frame::allocate_for(Need::Kernel).ok();
        return frame.map_or(null_mut(), |frame| {
            physical::to_virtual(frame.into_address()).as_mut_ptr()
        });
    }
    match buddy::take_block(count) {
        Some(block) => physical::to_virtual(block).as_mut_ptr(),
        None => scattered::allocate(count).map_or(null_mut(), |start| start.as_mut_ptr()),
    }
}

/// # Safety
/// `allocate_frames(count)` returned `object`, and it is used no more.
unsafe fn free_frames(object: *mut u8, count: usize) {
    let start = VirtAddr::from_ptr(object);
    if count == 1 {
        // SAFETY: the frame's ownership was given up by `allocate_frames`.
        drop(unsafe { Frame::from_address(physical::from_direct_map(start)) });
    } else if scattered::contains(start) {
        // SAFETY: the caller's promise.
        unsafe { scattered::free(start, count) };
    } else {
        buddy::give_back_block(physical::from_direct_map(start), count);
    }
}
