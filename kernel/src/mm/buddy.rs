//! The common store of free frames: a reserve of single frames, and behind it the buddy allocator with the large blocks.
//!
//! `buddy_system_allocator` keeps its free blocks in sets, whose nodes come from the kernel heap, which itself grows
//! from frames. The knot is cut by the reserve: while a CPU holds the buddy lock, its heap grows from the reserve
//! alone, and [`LOW_WATER`] frames are always left there for that. Single frames that come back go to the reserve and are
//! merged into blocks only when somebody needs a block, so the sets stay small.

use super::frame::Need;
use super::frame_table::FrameChain;
use super::{address_of, number_of};
use crate::arch::cpu;
use crate::sync::{Rank, SpinLock};
use buddy_system_allocator::FrameAllocator;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};
use x86_64::PhysAddr;

/// Blocks of up to 2^(ORDERS-1) frames: 1 GiB.
const ORDERS: usize = 19;
/// Frames that only the heap may take from the reserve, and only below the buddy lock.
const LOW_WATER: usize = 32;
/// Order of the blocks that refill caches.
const REFILL_ORDER: usize = 6;

static BUDDY: SpinLock<FrameAllocator<ORDERS>> = SpinLock::new(Rank::Buddy, FrameAllocator::new());
/// Number + 1 of the CPU that holds the buddy lock.
static BUDDY_OWNER: AtomicUsize = AtomicUsize::new(0);
static RESERVE: SpinLock<FrameChain> = SpinLock::new(Rank::Frames, FrameChain::new());
/// Free frames in reserve and buddy allocator together.
static FREE: AtomicUsize = AtomicUsize::new(0);

/// Free frames of the common store.
pub(super) fn free_frames() -> usize {
    FREE.load(Ordering::Relaxed)
}

/// True if programs must not be given more: the rest is for the kernel.
pub(super) fn is_low() -> bool {
    free_frames() < floor()
}

/// Frames kept for the kernel: a 64th of memory, within reason.
fn floor() -> usize {
    (super::frame::total() as usize / 64).clamp(192, 4096)
}

/// Gives the reserve its first frames.
///
/// # Safety
/// The frames are usable memory that nobody else has.
pub(super) unsafe fn prime(frames: Range<u32>) {
    let mut reserve = RESERVE.lock();
    FREE.fetch_add(frames.len(), Ordering::Relaxed);
    for frame in frames {
        reserve.push(address_of(frame));
    }
}

/// Gives the buddy allocator a region.
///
/// # Safety
/// The frames are usable memory that nobody else has.
pub(super) unsafe fn add(frames: Range<u32>) {
    FREE.fetch_add(frames.len(), Ordering::Relaxed);
    with_buddy(|buddy| buddy.add_frame(frames.start as usize, frames.end as usize));
}

/// Runs `action` with the buddy allocator.
fn with_buddy<R>(action: impl FnOnce(&mut FrameAllocator<ORDERS>) -> R) -> R {
    let mut buddy = BUDDY.lock();
    BUDDY_OWNER.store(cpu::index() + 1, Ordering::Relaxed);
    let result = action(&mut buddy);
    BUDDY_OWNER.store(0, Ordering::Relaxed);
    result
}

/// True below the buddy lock on this CPU. Asked with interrupts off.
pub(super) fn in_buddy() -> bool {
    BUDDY_OWNER.load(Ordering::Relaxed) == cpu::index() + 1
}

/// Takes up to `most` frames for a cache. Interrupts are off.
pub(super) fn take(most: usize, need: Need) -> FrameChain {
    let mut taken = FrameChain::new();
    if need == Need::Program && is_low() {
        return taken;
    }
    let nested = in_buddy();
    {
        let mut reserve = RESERVE.lock();
        let spare = if nested {
            reserve.len()
        } else {
            reserve.len().saturating_sub(LOW_WATER)
        };
        taken.take_from(&mut reserve, most.min(spare));
    }
    if taken.is_empty() && !nested {
        let block = with_buddy(|buddy| {
            (0..=REFILL_ORDER)
                .rev()
                .find_map(|order| Some((buddy.alloc(1 << order)?, 1u32 << order)))
        });
        let mut reserve = RESERVE.lock();
        if let Some((first, count)) = block {
            for frame in (0..count).rev() {
                reserve.push(address_of(first as u32 + frame));
            }
        }
        // With no block left even the low water is the kernel's last resort: an empty buddy allocator needs no heap.
        let spare = if block.is_some() { most } else { reserve.len() };
        taken.take_from(&mut reserve, most.min(spare));
    }
    FREE.fetch_sub(taken.len(), Ordering::Relaxed);
    taken
}

/// Takes frames back from a cache.
pub(super) fn give_back(mut frames: FrameChain) {
    FREE.fetch_add(frames.len(), Ordering::Relaxed);
    let count = frames.len();
    RESERVE.lock().take_from(&mut frames, count);
}

/// Takes `count` frames in one piece, aligned to `count` rounded up to a power of two.
pub(super) fn take_block(count: usize) -> Option<PhysAddr> {
    let size = count.checked_next_power_of_two()?;
    if size >= 1 << ORDERS || in_buddy() {
        return None;
    }
    let mut first = with_buddy(|buddy| buddy.alloc(size));
    if first.is_none() {
        merge_reserve();
        first = with_buddy(|buddy| buddy.alloc(size));
    }
    FREE.fetch_sub(first.map_or(0, |_| size), Ordering::Relaxed);
    first.map(|frame| address_of(frame as u32))
}

/// Takes back what [`take_block`] gave.
pub(super) fn give_back_block(first: PhysAddr, count: usize) {
    let size = count.next_power_of_two();
    FREE.fetch_add(size, Ordering::Relaxed);
    if in_buddy() {
        // A set of the buddy allocator grew or shrank; its large nodes do not exist, but be safe: single frames will do.
        let mut reserve = RESERVE.lock();
        for frame in 0..size as u32 {
            reserve.push(address_of(number_of(first) + frame));
        }
    } else {
        with_buddy(|buddy| buddy.dealloc(number_of(first) as usize, size));
    }
}

/// Moves the reserve's frames into the buddy allocator, where they merge. Done a batch at a time, so that interrupts are not
/// off for long.
fn merge_reserve() {
    loop {
        let mut batch = FrameChain::new();
        {
            let mut reserve = RESERVE.lock();
            let spare = reserve.len().saturating_sub(4 * LOW_WATER);
            batch.take_from(&mut reserve, spare.min(64));
        }
        if batch.is_empty() {
            return;
        }
        with_buddy(|buddy| {
            while let Some(frame) = batch.pop() {
                buddy.dealloc(number_of(frame) as usize, 1);
            }
        });
    }
}
