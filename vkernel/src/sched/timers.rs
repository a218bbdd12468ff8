//! Things to do at a time. One queue per virtual CPU.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use dragonet_abi::time::FOREVER;

/// Names a queued timer: its deadline, and a number that makes it unique.
pub type TimerKey = (u64, u64);

/// Values by deadline, in monotonic nanoseconds.
pub struct Timers<T> {
    by_deadline: BTreeMap<TimerKey, T>,
    next_number: u64,
}

impl<T> Timers<T> {
    /// No timers.
    pub const fn new() -> Self {
        Timers {
            by_deadline: BTreeMap::new(),
            next_number: 0,
        }
    }

    /// Queues a value.
    pub fn add(&mut self, deadline: u64, value: T) -> TimerKey {
        let key = (deadline, self.next_number);
        self.next_number += 1;
        self.by_deadline.insert(key, value);
        key
    }

    /// Removes a value that has not been taken yet.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        self.by_deadline.remove(&key)
    }

    /// When the next value is due; [`FOREVER`] if there is none.
    pub fn next(&self) -> u64 {
        self.by_deadline
            .first_key_value()
            .map_or(FOREVER, |(&(deadline, _), _)| deadline)
    }

    /// Takes out every value that is due.
    pub fn take_due(&mut self, now: u64) -> Vec<T> {
        let mut due = Vec::new();
        while let Some(first) = self.by_deadline.first_entry() {
            if first.key().0 > now {
                break;
            }
            due.push(first.remove());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_in_order_of_time() {
        let mut timers = Timers::new();
        assert_eq!(timers.next(), FOREVER);
        timers.add(30, 'c');
        let first = timers.add(10, 'a');
        timers.add(10, 'b');
        assert_eq!(timers.next(), 10);
        assert_eq!(timers.take_due(9), []);
        assert_eq!(timers.cancel(first), Some('a'));
        assert_eq!(timers.take_due(30), ['b', 'c']);
        assert_eq!(timers.cancel(first), None);
        assert_eq!(timers.next(), FOREVER);
    }
}
