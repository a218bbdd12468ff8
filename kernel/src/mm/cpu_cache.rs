//! Free frames at hand: a short chain per CPU, used by its owner with interrupts off and no lock.

use super::buddy;
use super::frame::Need;
use super::frame_table::FrameChain;
use crate::arch::cpu;
use crate::arch::irq::{IrqGuard, IrqsOff};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering};
use x86_64::PhysAddr;

/// Frames moved between a cache and the common store at once.
const BATCH: usize = 32;
/// A cache with more gives a batch back.
const HIGH_WATER: usize = 96;

#[repr(align(128))]
struct Cache {
    chain: UnsafeCell<FrameChain>,
    /// Length of the chain, for statistics of other CPUs.
    count: AtomicUsize,
}

// SAFETY: `chain` is used by its own CPU with interrupts off only.
unsafe impl Sync for Cache {}

static CACHES: [Cache; cpu::MAX_CPUS] = [const {
    Cache {
        chain: UnsafeCell::new(FrameChain::new()),
        count: AtomicUsize::new(0),
    }
}; cpu::MAX_CPUS];

/// Runs `action` with this CPU's chain. `action` must not allocate or free frames.
fn with_chain<R>(_irqs: &IrqsOff, action: impl FnOnce(&mut FrameChain) -> R) -> R {
    let cache = &CACHES[cpu::index()];
    // SAFETY: own CPU, interrupts off, and `action` does not come back here.
    let chain = unsafe { &mut *cache.chain.get() };
    let result = action(chain);
    cache.count.store(chain.len(), Ordering::Relaxed);
    result
}

/// Takes a frame.
pub(super) fn take(need: Need) -> Option<PhysAddr> {
    let guard = IrqGuard::new();
    if let Some(frame) = with_chain(guard.witness(), FrameChain::pop) {
        return Some(frame);
    }
    // Not inside `with_chain`: below, the buddy allocator's sets may need heap memory, and that comes here again.
    let mut batch = buddy::take(BATCH, need);
    let frame = batch.pop()?;
    with_chain(guard.witness(), |chain| chain.take_from(&mut batch, BATCH));
    Some(frame)
}

/// Takes a frame back.
pub(super) fn give_back(frame: PhysAddr) {
    let guard = IrqGuard::new();
    let surplus = with_chain(guard.witness(), |chain| {
        chain.push(frame);
        let mut surplus = FrameChain::new();
        if chain.len() > HIGH_WATER {
            surplus.take_from(chain, BATCH);
        }
        surplus
    });
    if !surplus.is_empty() {
        buddy::give_back(surplus);
    }
}

/// Takes frames back: as many as the cache has room for, the others straight to the common store.
pub(super) fn give_back_all(mut frames: FrameChain) {
    {
        let guard = IrqGuard::new();
        with_chain(guard.witness(), |chain| {
            let room = HIGH_WATER.saturating_sub(chain.len());
            chain.take_from(&mut frames, room);
        });
    }
    if !frames.is_empty() {
        buddy::give_back(frames);
    }
}

/// Frames in all caches, exact when nobody allocates.
pub(super) fn cached_frames() -> usize {
    CACHES
        .iter()
        .map(|cache| cache.count.load(Ordering::Relaxed))
        .sum()
}
