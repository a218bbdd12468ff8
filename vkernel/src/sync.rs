//! The vkernel's one kind of lock.
//!
//! A virtual CPU is a host thread that the host may preempt while it holds a lock, so a waiter spins only briefly and
//! then gives its host CPU away. The guard is not `Send`: a guest thread's future that kept one across an await would not
//! be `Send` either and would not compile, so "no lock is held while a guest thread sleeps" is checked by the compiler.
//!
//! Order, outermost first: process table, process, files and pipes, address space, memory object, futex bucket, signals,
//! timers, run queue, frames, console. Locks of one kind are never nested, except the address spaces of fork (parent, then child
//! that nobody else knows).

use crate::host;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use spin::mutex::{SpinMutex, SpinMutexGuard};
use spin::relax::RelaxStrategy;

/// How often a waiter polls the lock between two offers of its host CPU.
const SPINS_BEFORE_YIELD: usize = 64;

/// Waits for a lock whose holder may have lost its host CPU.
pub struct SpinThenYield;

impl RelaxStrategy for SpinThenYield {
    fn relax() {
        for _ in 0..SPINS_BEFORE_YIELD {
            core::hint::spin_loop();
        }
        host::thread_yield();
    }
}

/// Mutual exclusion between virtual CPUs, for short sections that do not sleep.
pub struct Lock<T: ?Sized> {
    inner: SpinMutex<T, SpinThenYield>,
}

/// Access to the contents of a [`Lock`] until dropped.
pub struct Guard<'lock, T: ?Sized> {
    inner: SpinMutexGuard<'lock, T, SpinThenYield>,
    not_send: PhantomData<*const ()>,
}

impl<T> Lock<T> {
    /// An open lock around `value`.
    pub const fn new(value: T) -> Self {
        Lock {
            inner: SpinMutex::new(value),
        }
    }
}

impl<T: ?Sized> Lock<T> {
    /// Waits for the lock and takes it.
    pub fn lock(&self) -> Guard<'_, T> {
        Guard {
            inner: self.inner.lock(),
            not_send: PhantomData,
        }
    }
}

impl<T: ?Sized> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}
