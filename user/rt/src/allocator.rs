//! The heap: small blocks from a buddy allocator that grows by mapping chunks, large ones mapped singly.

use crate::memory::Mapping;
use crate::sync::RawMutex;
use buddy_system_allocator::Heap;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::mem;
use core::ptr::{self, NonNull};

/// Orders of the buddy allocator: blocks up to 2^(ORDERS - 1) bytes.
const ORDERS: usize = 24;
/// Bytes by which the buddy allocator grows. Pages are only taken from the machine when they are touched.
const CHUNK: u64 = 1 << 20;
/// Blocks of this many bytes and more are mapped singly, so that they go back to the system when freed. A chunk at any page
/// address holds an aligned block just below this size.
const LARGE: usize = 1 << 18;

struct ProgramHeap {
    lock: RawMutex,
    heap: UnsafeCell<Heap<ORDERS>>,
}

// SAFETY: the heap is only touched with the lock held.
unsafe impl Sync for ProgramHeap {}

#[cfg_attr(target_os = "none", global_allocator)]
#[cfg_attr(
    not(target_os = "none"),
    expect(dead_code, reason = "host tests have the host's allocator")
)]
static HEAP: ProgramHeap = ProgramHeap {
    lock: RawMutex::new(),
    heap: UnsafeCell::new(Heap::empty()),
};

/// True for blocks that are mapped singly. Mappings are page-aligned only.
fn is_large(layout: &Layout) -> bool {
    layout.size() >= LARGE && layout.align() <= 4096
}

// SAFETY: blocks come from `Heap` or from mappings of their own, so they do not overlap, are large and aligned enough,
// and stay valid until freed; `is_large` gives the same answer at both ends of a block's life.
unsafe impl GlobalAlloc for ProgramHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(&layout) {
            return match Mapping::anonymous(layout.size() as u64) {
                Ok(mapping) => {
                    let address = mapping.address();
                    mem::forget(mapping);
                    ptr::with_exposed_provenance_mut(address as usize)
                }
                Err(_) => ptr::null_mut(),
            };
        }
        self.lock.lock();
        // SAFETY: the lock is held.
        let heap = unsafe { &mut *self.heap.get() };
        let mut block = heap.alloc(layout);
        if block.is_err()
            && let Ok(chunk) = Mapping::anonymous(CHUNK.max(2 * layout.size().max(layout.align()) as u64))
        {
            let (start, length) = (chunk.address() as usize, chunk.length() as usize);
            mem::forget(chunk);
            // SAFETY: the chunk is fresh memory that belongs to the heap from now on.
            unsafe { heap.add_to_heap(start, start + length) };
            block = heap.alloc(layout);
        }
        self.lock.unlock();
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if is_large(&layout) {
            let length = (layout.size() as u64).next_multiple_of(4096);
            // SAFETY: `alloc` mapped exactly this range for the block, which the caller gives up.
            let _ = unsafe { crate::syscall::munmap(pointer.expose_provenance() as u64, length) };
            return;
        }
        let Some(pointer) = NonNull::new(pointer) else {
            return;
        };
        self.lock.lock();
        // SAFETY: the lock is held, and the block came from this heap with this layout.
        unsafe { (*self.heap.get()).dealloc(pointer, layout) };
        self.lock.unlock();
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about the layout.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() && !is_large(&layout) {
            // SAFETY: the block is `layout.size()` bytes long. Large blocks are fresh mappings, zero already.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }
}
