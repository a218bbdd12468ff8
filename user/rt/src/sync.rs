//! Locks for threads of one program, over `umtx_sleep` and `umtx_wakeup`.

use crate::syscall;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};
use dragonet_abi::Errno;
use dragonet_abi::time::FOREVER;

const FREE: u32 = 0;
const LOCKED: u32 = 1;
/// Locked, and someone may be asleep waiting for it.
const CONTENDED: u32 = 2;

/// A lock that puts waiting threads to sleep.
#[derive(Debug)]
pub struct RawMutex {
    state: AtomicU32,
}

impl RawMutex {
    /// A free lock.
    #[must_use]
    pub const fn new() -> Self {
        RawMutex {
            state: AtomicU32::new(FREE),
        }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> bool {
        self.state
            .compare_exchange(FREE, LOCKED, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Takes the lock, waiting for it if need be.
    pub fn lock(&self) {
        if self.try_lock() {
            return;
        }
        while self.state.swap(CONTENDED, Ordering::Acquire) != FREE {
            // Any outcome leads to another look at the word.
            let _ = syscall::umtx_sleep(&self.state, CONTENDED, FOREVER);
        }
    }

    /// Frees the lock. Only its holder may call this.
    pub fn unlock(&self) {
        if self.state.swap(FREE, Ordering::Release) == CONTENDED {
            let _ = syscall::umtx_wakeup(&self.state, 1);
        }
    }
}

impl Default for RawMutex {
    fn default() -> Self {
        Self::new()
    }
}

/// Data that one thread at a time may use.
#[derive(Debug)]
pub struct Mutex<T: ?Sized> {
    raw: RawMutex,
    value: UnsafeCell<T>,
}

// SAFETY: the lock lets one thread at a time at the value, so sharing the mutex only moves access to `T` between threads.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}
// SAFETY: the mutex owns its value.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}

impl<T> Mutex<T> {
    /// A free mutex around `value`.
    pub const fn new(value: T) -> Self {
        Mutex {
            raw: RawMutex::new(),
            value: UnsafeCell::new(value),
        }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the mutex; it is freed when the guard is dropped.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.raw.lock();
        MutexGuard {
            mutex: self,
            not_send: core::marker::PhantomData,
        }
    }

    /// Takes the mutex if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.raw.try_lock().then_some(MutexGuard {
            mutex: self,
            not_send: core::marker::PhantomData,
        })
    }
}

/// The right to use a mutex's value.
#[derive(Debug)]
pub struct MutexGuard<'mutex, T: ?Sized> {
    mutex: &'mutex Mutex<T>,
    /// A guard stays in the thread that took the lock.
    not_send: core::marker::PhantomData<*const ()>,
}

// SAFETY: a shared guard gives only shared access to the value.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard's holder has the lock.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard's holder has the lock, and borrows the guard exclusively.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.mutex.raw.unlock();
    }
}

/// Threads that wait until something about a mutex's value has changed.
#[derive(Debug)]
pub struct Condvar {
    /// Counts notifications, so that one between unlocking and sleeping is seen.
    sequence: AtomicU32,
}

impl Condvar {
    /// Nobody waits.
    #[must_use]
    pub const fn new() -> Self {
        Condvar {
            sequence: AtomicU32::new(0),
        }
    }

    /// Frees the mutex, waits for a notification, takes the mutex again. May also wake for no reason.
    pub fn wait<'mutex, T: ?Sized>(&self, guard: MutexGuard<'mutex, T>) -> MutexGuard<'mutex, T> {
        self.wait_for(guard, FOREVER).0
    }

    /// As [`Condvar::wait`], for at most `timeout` nanoseconds; false if they passed.
    pub fn wait_for<'mutex, T: ?Sized>(
        &self,
        guard: MutexGuard<'mutex, T>,
        timeout: u64,
    ) -> (MutexGuard<'mutex, T>, bool) {
        let mutex = guard.mutex;
        let sequence = self.sequence.load(Ordering::Relaxed);
        drop(guard);
        let outcome = syscall::umtx_sleep(&self.sequence, sequence, timeout);
        (mutex.lock(), outcome != Err(Errno::ETIMEDOUT))
    }

    /// Wakes one waiting thread.
    pub fn notify_one(&self) {
        self.sequence.fetch_add(1, Ordering::Relaxed);
        let _ = syscall::umtx_wakeup(&self.sequence, 1);
    }

    /// Wakes every waiting thread.
    pub fn notify_all(&self) {
        self.sequence.fetch_add(1, Ordering::Relaxed);
        let _ = syscall::umtx_wakeup(&self.sequence, 0);
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}
