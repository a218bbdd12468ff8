//! A spin lock that turns interrupts off while it is held.

use super::rank::{self, Rank};
use super::record;
use crate::arch::irq::{IrqGuard, IrqsOff};
use core::fmt;
use core::ops::{Deref, DerefMut};

/// Mutual exclusion between CPUs and against interrupt handlers of this CPU.
pub struct SpinLock<T> {
    inner: spin::mutex::SpinMutex<T>,
    rank: Rank,
}

impl<T> fmt::Debug for SpinLock<T> {
    /// Without what is inside, which would need the lock.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SpinLock({:?})", self.rank)
    }
}

impl<T> SpinLock<T> {
    /// A free lock around `value` with its place in the lock order.
    pub const fn new(rank: Rank, value: T) -> Self {
        SpinLock {
            inner: spin::mutex::SpinMutex::new(value),
            rank,
        }
    }

    /// Waits until the lock is free and takes it. Interrupts stay off until the guard is dropped.
    pub fn lock(&self) -> SpinLockGuard<'_, T> {
        let irq = IrqGuard::new();
        rank::acquire(self.rank);
        record::note(core::ptr::from_ref(self).addr(), self.rank);
        // While this CPU waits with interrupts off it answers invalidations: the owner of the lock may be waiting for just that.
        let inner = loop {
            if let Some(inner) = self.inner.try_lock() {
                break inner;
            }
            while self.inner.is_locked() {
                crate::pmap::serve(irq.witness());
                core::hint::spin_loop();
            }
        };
        SpinLockGuard {
            inner: Some(inner),
            rank: self.rank,
            irq,
        }
    }

    /// Takes the lock if it is free now.
    pub fn try_lock(&self) -> Option<SpinLockGuard<'_, T>> {
        let irq = IrqGuard::new();
        let inner = self.inner.try_lock()?;
        rank::acquired_without_wait(self.rank);
        record::note(core::ptr::from_ref(self).addr(), self.rank);
        Some(SpinLockGuard {
            inner: Some(inner),
            rank: self.rank,
            irq,
        })
    }
}

/// Proof that the lock is held; gives it back when dropped. Guards are dropped in the reverse order of locking, so
/// that interrupts come back only with the last one.
#[must_use]
pub struct SpinLockGuard<'lock, T> {
    inner: Option<spin::mutex::SpinMutexGuard<'lock, T>>,
    rank: Rank,
    irq: IrqGuard,
}

impl<T> SpinLockGuard<'_, T> {
    /// Witness that interrupts are off, for as long as the guard lives.
    pub fn irqs(&self) -> &IrqsOff {
        self.irq.witness()
    }
}

impl<T> Deref for SpinLockGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.inner
            .as_deref()
            .expect("a guard holds its lock until it is dropped")
    }
}

impl<T> DerefMut for SpinLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.inner
            .as_deref_mut()
            .expect("a guard holds its lock until it is dropped")
    }
}

impl<T> Drop for SpinLockGuard<'_, T> {
    fn drop(&mut self) {
        self.inner = None;
        rank::release(self.rank);
    }
}
