//! Waiting on words of memory (futex(2)).
//!
//! A waiter compares the word and joins the queue while its address space is locked, so that no page of it can be replaced between the two; a waker
//! stores first and then looks at the queue. One lock guards all queues: moving waiters from one word to another is one step.

use crate::memory::copy::WordKey;
use crate::process::Thread;
use crate::sync::Lock;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

/// Matches every waiter.
pub const ANY: u32 = u32::MAX;

/// Someone in a queue. Generic so that the queues can be tested without threads.
pub struct Waiter<T> {
    who: T,
    bits: u32,
    woken: AtomicBool,
    key: Lock<WordKey>,
}

impl<T> Waiter<T> {
    /// True once a waker chose it; it is in no queue then.
    pub fn is_woken(&self) -> bool {
        self.woken.load(Ordering::SeqCst)
    }
}

/// The queues of all words.
pub struct FutexTable<T = Arc<Thread>> {
    queues: Lock<BTreeMap<WordKey, VecDeque<Arc<Waiter<T>>>>>,
}

impl<T: Clone> FutexTable<T> {
    /// Nobody waits.
    pub const fn new() -> Self {
        FutexTable {
            queues: Lock::new(BTreeMap::new()),
        }
    }

    /// Joins the queue of a word if `still` says that its value is the expected one. `bits` must match a waker's.
    pub fn join(
        &self,
        key: WordKey,
        who: T,
        bits: u32,
        still: impl FnOnce() -> bool,
    ) -> Option<Arc<Waiter<T>>> {
        let mut queues = self.queues.lock();
        if !still() {
            return None;
        }
        let waiter = Arc::new(Waiter {
            who,
            bits,
            woken: AtomicBool::new(false),
            key: Lock::new(key),
        });
        queues.entry(key).or_default().push_back(waiter.clone());
        Some(waiter)
    }

    /// Leaves the queue, if no waker was faster.
    pub fn leave(&self, waiter: &Arc<Waiter<T>>) {
        let mut queues = self.queues.lock();
        let key = *waiter.key.lock();
        if let Some(queue) = queues.get_mut(&key) {
            queue.retain(|other| !Arc::ptr_eq(other, waiter));
            if queue.is_empty() {
                queues.remove(&key);
            }
        }
    }

    /// Takes up to `count` waiters whose bits match out of a queue, oldest first. The caller wakes them.
    pub fn wake(&self, key: WordKey, count: usize, bits: u32) -> Vec<T> {
        take(&mut self.queues.lock(), key, count, bits)
    }

    /// If `still` agrees, takes up to `wake` waiters out of the queue of `from` and moves up to `moved` others to the queue of
    /// `to`. Returns whom to wake and how many were moved.
    pub fn requeue(
        &self,
        from: WordKey,
        to: WordKey,
        wake: usize,
        moved: usize,
        still: impl FnOnce() -> bool,
    ) -> Option<(Vec<T>, usize)> {
        let mut queues = self.queues.lock();
        if !still() {
            return None;
        }
        let woken = take(&mut queues, from, wake, ANY);
        if from == to {
            return Some((woken, 0));
        }
        let mut source = queues.remove(&from).unwrap_or_default();
        let rest = source.split_off(moved.min(source.len()));
        if !rest.is_empty() {
            queues.insert(from, rest);
        }
        let count = source.len();
        for waiter in source {
            *waiter.key.lock() = to;
            queues.entry(to).or_default().push_back(waiter);
        }
        Some((woken, count))
    }
}

fn take<T: Clone>(
    queues: &mut BTreeMap<WordKey, VecDeque<Arc<Waiter<T>>>>,
    key: WordKey,
    count: usize,
    bits: u32,
) -> Vec<T> {
    let mut taken = Vec::new();
    let Some(queue) = queues.get_mut(&key) else {
        return taken;
    };
    queue.retain(|waiter| {
        let matches = taken.len() < count && waiter.bits & bits != 0;
        if matches {
            waiter.woken.store(true, Ordering::SeqCst);
            taken.push(waiter.who.clone());
        }
        !matches
    });
    if queue.is_empty() {
        queues.remove(&key);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: WordKey = WordKey::Private {
        space: 1,
        address: 0x1000,
    };
    const B: WordKey = WordKey::Private {
        space: 1,
        address: 0x2000,
    };

    #[test]
    fn waiters_are_woken_in_order_and_by_bits() {
        let table = FutexTable::new();
        assert!(table.join(A, 'x', ANY, || false).is_none());
        let first = table.join(A, '1', 0b01, || true).unwrap();
        let second = table.join(A, '2', 0b10, || true).unwrap();
        let third = table.join(A, '3', ANY, || true).unwrap();
        assert_eq!(table.wake(B, 9, ANY), []);
        assert_eq!(table.wake(A, 9, 0b10), ['2', '3']);
        assert!(!first.is_woken() && second.is_woken() && third.is_woken());
        assert_eq!(table.wake(A, 0, ANY), []);
        assert_eq!(table.wake(A, 1, ANY), ['1']);
        assert_eq!(table.wake(A, 1, ANY), []);
    }

    #[test]
    fn a_moved_waiter_can_leave_its_new_queue() {
        let table = FutexTable::new();
        let waiters: Vec<_> = ['1', '2', '3', '4']
            .map(|who| table.join(A, who, ANY, || true).unwrap())
            .into();
        assert!(table.requeue(A, B, 1, 2, || false).is_none());
        assert_eq!(table.requeue(A, B, 1, 2, || true), Some((alloc::vec!['1'], 2)));
        table.leave(&waiters[1]);
        table.leave(&waiters[0]);
        assert_eq!(table.wake(B, 9, ANY), ['3']);
        assert_eq!(table.wake(A, 9, ANY), ['4']);
        assert!(table.queues.lock().is_empty());
    }

    #[test]
    fn moving_to_the_same_word_only_wakes() {
        let table = FutexTable::new();
        let _one = table.join(A, '1', ANY, || true).unwrap();
        let _two = table.join(A, '2', ANY, || true).unwrap();
        assert_eq!(table.requeue(A, A, 1, 9, || true), Some((alloc::vec!['1'], 0)));
        assert_eq!(table.wake(A, 9, ANY), ['2']);
    }
}
