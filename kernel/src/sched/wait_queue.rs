//! Threads that wait for one event.

use super::current::current;
use super::park::{park, unpark};
use super::task::Schedulable;
use crate::arch::clock;
use crate::sync::{Rank, SpinLock};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use dragonet_abi::Errno;

/// Threads that wait until some condition, kept elsewhere, holds.
pub struct WaitQueue {
    waiters: SpinLock<VecDeque<Arc<dyn Schedulable>>>,
}

impl WaitQueue {
    /// Nobody waits.
    pub const fn new() -> Self {
        WaitQueue {
            waiters: SpinLock::new(Rank::WaitQueue, VecDeque::new()),
        }
    }

    /// Waits until `ready` gives a value, looking again after every [`WaitQueue::wake_all`]. `interrupted` is asked
    /// whenever the thread would go on waiting.
    ///
    /// # Errors
    /// ETIMEDOUT when `deadline` (monotonic) passes first, ENOMEM, or what `interrupted` says.
    pub fn wait<R>(
        &self,
        deadline: u64,
        interrupted: impl Fn() -> Result<(), Errno>,
        mut ready: impl FnMut() -> Option<R>,
    ) -> Result<R, Errno> {
        let me = current();
        loop {
            {
                let mut waiters = self.waiters.lock();
                waiters.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                waiters.push_back(me.clone());
            }
            // The thread is in the list before it looks: whoever makes the condition true later finds it there.
            let outcome = match ready() {
                Some(value) => Some(Ok(value)),
                None => match interrupted() {
                    Err(errno) => Some(Err(errno)),
                    Ok(()) if clock::now() >= deadline => Some(Err(Errno::ETIMEDOUT)),
                    Ok(()) => None,
                },
            };
            if outcome.is_none() {
                park(deadline);
            }
            self.waiters
                .lock()
                .retain(|waiter| !core::ptr::addr_eq(Arc::as_ptr(waiter), Arc::as_ptr(&me)));
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
    }

    /// Lets every thread that waits now look at its condition again.
    pub fn wake_all(&self) {
        let mut left = self.waiters.lock().len();
        // A woken thread that goes on waiting hangs itself in again, at the end: the count keeps this finite.
        while left > 0 {
            let Some(waiter) = self.waiters.lock().pop_front() else {
                break;
            };
            unpark(&waiter);
            left -= 1;
        }
    }
}
