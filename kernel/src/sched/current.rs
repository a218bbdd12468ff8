//! The thread that runs on this CPU.
//!
//! This is the one file above the low layers with `unsafe`: a reference to the current thread is valid for as long as
//! the code that holds it runs, because that code *is* the thread, and no safe type can say so without a lock on the hottest path.
#![allow(unsafe_code)]

use super::task::Schedulable;
use crate::arch::{cpu, irq::IrqGuard, irq::IrqsOff};
use alloc::sync::Arc;
use core::cell::UnsafeCell;

struct Slot(UnsafeCell<Option<Arc<dyn Schedulable>>>);

// SAFETY: a slot is read only by its own CPU, and written by it with interrupts off.
unsafe impl Sync for Slot {}

static CURRENT: [Slot; cpu::MAX_CPUS] = [const { Slot(UnsafeCell::new(None)) }; cpu::MAX_CPUS];

/// Makes `next` the current thread of this CPU and returns the one before.
pub(super) fn replace(_irqs: &IrqsOff, next: Arc<dyn Schedulable>) -> Option<Arc<dyn Schedulable>> {
    // SAFETY: own CPU, interrupts off (witness), and no reference into the slot outlives a function of this file.
    unsafe { (*CURRENT[cpu::index()].0.get()).replace(next) }
}

/// A counted reference to the running thread.
///
/// # Panics
/// Before the scheduler runs on this CPU.
pub fn current() -> Arc<dyn Schedulable> {
    let _guard = IrqGuard::new();
    // SAFETY: own CPU, interrupts off.
    let slot = unsafe { &*CURRENT[cpu::index()].0.get() };
    slot.clone().expect("the scheduler runs on this CPU")
}

/// Calls `action` with the running thread, without counting a reference. False (`None`) before the scheduler runs on this CPU.
#[inline]
pub fn with_current<R>(action: impl FnOnce(&dyn Schedulable) -> R) -> Option<R> {
    let pointer: *const dyn Schedulable = {
        // SAFETY: own CPU: kernel code is not preempted, so the thread stays here. Nobody writes the slot meanwhile: that is done with
        // interrupts off, and an interrupt handler reads at most.
        let slot = unsafe { &*CURRENT[cpu::index()].0.get() };
        Arc::as_ptr(slot.as_ref()?)
    };
    // SAFETY: the calling code is the thread that the slot named. As long as it executes, on whatever CPU, some CPU's slot
    // (or, while it is parked, the waker's list or run queue) counts a reference to it, and it drops its last
    // one only after it has ended, when this frame is gone. The reference cannot leave `action`.
    Some(action(unsafe { &*pointer }))
}
