//! How a guest thread waits: for a condition that others change, for a time, or for a signal to end the wait.
//!
//! A waiter registers first and looks at its condition afterwards, on every poll; whoever makes the condition true wakes the
//! registered threads afterwards. Dropping the future, however that happens, takes it out of the queue and off the timer.

use crate::kernel::kernel;
use crate::linux::Errno;
use crate::process::{Task, Thread};
use crate::sched::timers::TimerKey;
use crate::sync::Lock;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::task::Poll;
use dragonet_abi::time::FOREVER;

/// Threads that want to look at a condition again when it may have changed.
pub struct WaitQueue {
    waiters: Lock<Vec<Arc<Thread>>>,
}

impl WaitQueue {
    /// Nobody waits.
    pub const fn new() -> Self {
        WaitQueue {
            waiters: Lock::new(Vec::new()),
        }
    }

    /// Wakes everybody. Call it after the change and with no lock held that the waiters' condition needs.
    pub fn notify(&self) {
        let waiters: Vec<Arc<Thread>> = self.waiters.lock().iter().cloned().collect();
        for thread in waiters {
            thread.wake();
        }
    }

    /// Registers `thread` until the result is dropped.
    pub fn register<'queue>(&'queue self, thread: &Arc<Thread>) -> Registration<'queue> {
        self.waiters.lock().push(thread.clone());
        Registration {
            queue: self,
            thread: thread.clone(),
        }
    }
}

/// A thread's place in a [`WaitQueue`].
pub struct Registration<'queue> {
    queue: &'queue WaitQueue,
    thread: Arc<Thread>,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let mut waiters = self.queue.waiters.lock();
        if let Some(position) = waiters
            .iter()
            .position(|waiter| Arc::ptr_eq(waiter, &self.thread))
        {
            waiters.swap_remove(position);
        }
    }
}

/// A timer of some CPU that wakes a thread.
pub struct Alarm {
    cpu: usize,
    key: TimerKey,
}

impl Alarm {
    /// Wakes `thread` at `deadline`. `None` for [`FOREVER`].
    pub fn set(thread: &Arc<Thread>, deadline: u64) -> Option<Self> {
        if deadline == FOREVER {
            return None;
        }
        let cpu = thread.cpu();
        let key = kernel().cpu(cpu).timers().lock().add(deadline, thread.clone());
        Some(Alarm { cpu, key })
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        drop(kernel().cpu(self.cpu).timers().lock().cancel(self.key));
    }
}

impl Task {
    /// Waits until `condition` gives a value. It is looked at again when `queue` is notified.
    ///
    /// # Errors
    /// `ERESTARTSYS` when a signal ends the wait; `ETIMEDOUT` after `deadline` (monotonic nanoseconds).
    pub async fn wait_until<T>(
        &self,
        queue: &WaitQueue,
        deadline: u64,
        condition: impl FnMut() -> Option<T>,
    ) -> Result<T, Errno> {
        let _registration = queue.register(&self.thread);
        self.wait_registered(deadline, condition).await
    }

    /// As [`Self::wait_until`], for a thread that has already arranged to be woken.
    ///
    /// # Errors
    /// As [`Self::wait_until`].
    pub async fn wait_registered<T>(
        &self,
        deadline: u64,
        mut condition: impl FnMut() -> Option<T>,
    ) -> Result<T, Errno> {
        let mut alarm = None;
        poll_fn(|_| {
            if let Some(value) = condition() {
                return Poll::Ready(Ok(value));
            }
            if self.is_interrupted() {
                return Poll::Ready(Err(Errno::ERESTARTSYS));
            }
            if deadline != FOREVER {
                if crate::clock::monotonic() >= deadline {
                    return Poll::Ready(Err(Errno::ETIMEDOUT));
                }
                if alarm.is_none() {
                    alarm = Alarm::set(&self.thread, deadline);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Waits for `condition` whatever signals come, except that the end of the process ends the wait as well.
    pub async fn wait_uninterrupted(&self, queue: &WaitQueue, mut condition: impl FnMut() -> bool) {
        let _registration = queue.register(&self.thread);
        poll_fn(|_| {
            if condition() || self.must_end() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Lets the other threads of this CPU run.
    pub async fn yield_now(&self) {
        let mut yielded = false;
        poll_fn(|_| {
            if core::mem::replace(&mut yielded, true) {
                Poll::Ready(())
            } else {
                self.thread.wake();
                Poll::Pending
            }
        })
        .await;
    }
}
