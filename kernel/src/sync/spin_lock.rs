//! A spin lock that turns interrupts off while it is held.

use super::rank::{Noted, Rank};
use super::record;
use crate::arch::irq::{IrqGuard, IrqsOff};
use core::fmt;
use core::ops::{Deref, DerefMut};
use spin::mutex::{SpinMutex, SpinMutexGuard};

/// Mutual exclusion between CPUs and against interrupt handlers of this CPU.
pub struct SpinLock<T> {
    inner: SpinMutex<T>,
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
            inner: SpinMutex::new(value),
            rank,
        }
    }

    /// Waits until the lock is free and takes it. Interrupts stay off until the guard is dropped.
    #[inline]
    pub fn lock(&self) -> SpinLockGuard<'_, T> {
        let irq = IrqGuard::new();
        let noted = Noted::acquire(self.rank);
        record::note(core::ptr::from_ref(self).addr(), self.rank);
        let inner = match self.inner.try_lock() {
            Some(inner) => inner,
            None => self.wait(irq.witness()),
        };
        SpinLockGuard {
            inner,
            _noted: noted,
            irq,
        }
    }

    /// Waits for the lock. Meanwhile this CPU, whose interrupts are off, answers invalidations: the owner of the lock may be waiting
    /// for just that.
    #[cold]
    fn wait(&self, irqs: &IrqsOff) -> SpinMutexGuard<'_, T> {
        loop {
            if let Some(inner) = self.inner.try_lock() {
                return inner;
            }
            while self.inner.is_locked() {
                crate::pmap::serve(irqs);
                core::hint::spin_loop();
            }
        }
    }

    /// Takes the lock if it is free now.
    pub fn try_lock(&self) -> Option<SpinLockGuard<'_, T>> {
        let irq = IrqGuard::new();
        let inner = self.inner.try_lock()?;
        let noted = Noted::without_wait(self.rank);
        record::note(core::ptr::from_ref(self).addr(), self.rank);
        Some(SpinLockGuard {
            inner,
            _noted: noted,
            irq,
        })
    }
}

/// Proof that the lock is held; gives it back when dropped. Guards are dropped in the reverse order of locking, so
/// that interrupts come back only with the last one.
#[must_use]
pub struct SpinLockGuard<'lock, T> {
    // Dropped in this order: interrupts come back when the lock is free.
    inner: SpinMutexGuard<'lock, T>,
    _noted: Noted,
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
        &self.inner
    }
}

impl<T> DerefMut for SpinLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}
