//! Kernel stacks: 16 KiB, mapped in an area of their own with nothing below, so that an overflow faults at once.
//!
//! A stack that is dropped is kept for the next thread: mappings of the kernel are never taken back, so no CPU ever has to
//! be told about one that is gone.

use super::frame::{self, Need, OwnedFrames};
use crate::pmap::kernel_space;
use crate::sync::{Rank, SpinLock};
use core::sync::atomic::{AtomicUsize, Ordering};
use dragonet_abi::Errno;
use x86_64::VirtAddr;

/// Usable bytes.
pub const STACK_SIZE: u64 = 16 << 10;
/// Bytes that are never mapped below each stack.
pub const GUARD_SIZE: u64 = 16 << 10;
const FRAMES: u64 = STACK_SIZE / frame::SIZE;

/// Stacks without a thread. The highest word of each holds the top of the next.
struct Pool {
    head: Option<VirtAddr>,
    count: usize,
}

static POOL: SpinLock<Pool> = SpinLock::new(Rank::KernelMap, Pool { head: None, count: 0 });
static POOLED: AtomicUsize = AtomicUsize::new(0);

/// Frames in stacks without a thread.
pub(super) fn pooled_frames() -> usize {
    POOLED.load(Ordering::Relaxed) * FRAMES as usize
}

/// One kernel stack.
#[derive(Debug)]
pub struct KernelStack {
    top: VirtAddr,
}

impl KernelStack {
    /// A stack from the pool, or a new one.
    ///
    /// # Errors
    /// ENOMEM when memory is low, stacks in the pool or not.
    pub fn new() -> Result<Self, Errno> {
        // Before the pool: a stack from there costs nothing, but the thread around it does.
        super::check_headroom()?;
        if let Some(top) = from_pool() {
            return Ok(KernelStack { top });
        }
        let mut frames = OwnedFrames::new();
        for _ in 0..FRAMES {
            frames.push(frame::allocate_for(Need::Kernel)?);
        }
        let bottom = kernel_space::map_frames(frames.chain(), GUARD_SIZE)?;
        Ok(KernelStack {
            top: bottom + STACK_SIZE,
        })
    }

    /// First address above the stack, 16-byte aligned.
    pub fn top(&self) -> VirtAddr {
        self.top
    }
}

impl Drop for KernelStack {
    fn drop(&mut self) {
        let mut pool = POOL.lock();
        // SAFETY: the stack is mapped, and no thread uses it any more: its owner drops it.
        unsafe { link_of(self.top).write(pool.head) };
        pool.head = Some(self.top);
        pool.count += 1;
        POOLED.store(pool.count, Ordering::Relaxed);
    }
}

fn from_pool() -> Option<VirtAddr> {
    let mut pool = POOL.lock();
    let top = pool.head?;
    // SAFETY: `drop` wrote it.
    pool.head = unsafe { link_of(top).read() };
    pool.count -= 1;
    POOLED.store(pool.count, Ordering::Relaxed);
    Some(top)
}

/// Where a pooled stack holds the next one.
fn link_of(top: VirtAddr) -> *mut Option<VirtAddr> {
    (top - 16u64).as_mut_ptr()
}
