//! Heap blocks of several pages when no block of frames in one piece is left: single frames, mapped side by side.
//!
//! Programs can fragment memory at will, and the kernel's queues and tables must grow all the same. Mappings of the kernel are never
//! taken back, so a block that is freed waits in a pool for the next request of its size.

use super::frame::{self, Need, OwnedFrames};
use crate::pmap::kernel_space;
use crate::sync::{Rank, SpinLock};
use core::sync::atomic::{AtomicUsize, Ordering};
use x86_64::VirtAddr;

/// Pools, by the power of two of the block's pages. Larger blocks are refused.
const ORDERS: usize = 11;

/// Free blocks. The first word of each holds the next.
static POOLS: SpinLock<[Option<VirtAddr>; ORDERS]> = SpinLock::new(Rank::KernelMap, [None; ORDERS]);
static POOLED: AtomicUsize = AtomicUsize::new(0);

/// Frames in blocks that nobody uses.
pub(super) fn pooled_frames() -> usize {
    POOLED.load(Ordering::Relaxed)
}

/// True for what [`allocate`] gives: the direct map is elsewhere.
pub(super) fn contains(address: VirtAddr) -> bool {
    kernel_space::is_in_stack_area(address)
}

fn order_of(count: usize) -> usize {
    count.trailing_zeros() as usize
}

fn link_of(block: VirtAddr) -> *mut Option<VirtAddr> {
    block.as_mut_ptr()
}

/// `count` pages, a power of two, aligned to their size.
pub(super) fn allocate(count: usize) -> Option<VirtAddr> {
    let order = order_of(count);
    if order >= ORDERS {
        return None;
    }
    {
        let mut pools = POOLS.lock();
        if let Some(block) = pools[order] {
            // SAFETY: `free` wrote it.
            pools[order] = unsafe { link_of(block).read() };
            POOLED.fetch_sub(count, Ordering::Relaxed);
            return Some(block);
        }
    }
    let mut frames = OwnedFrames::new();
    for _ in 0..count {
        frames.push(frame::allocate_for(Need::Kernel).ok()?);
    }
    // With as much unmapped below: nothing is ever mapped right above a kernel stack.
    kernel_space::map_frames(frames.chain(), count as u64 * frame::SIZE).ok()
}

/// Takes a block back.
///
/// # Safety
/// 1. `allocate(count)` returned it, and it is used no more.
pub(super) unsafe fn free(block: VirtAddr, count: usize) {
    let order = order_of(count);
    let mut pools = POOLS.lock();
    // SAFETY: the block is mapped and ours again.
    unsafe { link_of(block).write(pools[order]) };
    pools[order] = Some(block);
    POOLED.fetch_add(count, Ordering::Relaxed);
}
