//! The queue of ready threads of one CPU: a first-in first-out list for each priority and a bitmap of those that are not
//! empty. Pure data, no locks: the scheduler puts a lock around it, and the host tests it.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::collections::VecDeque;

/// Count of priorities; 0 is the lowest.
pub const PRIORITIES: usize = 32;

/// Ready items by priority.
pub struct RunQueue<T> {
    lists: [VecDeque<T>; PRIORITIES],
    occupied: u32,
    length: usize,
}

impl<T> RunQueue<T> {
    /// An empty queue.
    #[must_use]
    pub const fn new() -> Self {
        RunQueue {
            lists: [const { VecDeque::new() }; PRIORITIES],
            occupied: 0,
            length: 0,
        }
    }

    /// Items in the queue.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// True if nothing is ready.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The highest priority that has an item.
    #[must_use]
    pub const fn highest(&self) -> Option<usize> {
        if self.occupied == 0 {
            None
        } else {
            Some(31 - self.occupied.leading_zeros() as usize)
        }
    }

    /// Appends an item behind the others of its priority. Priorities above the highest count as the highest.
    pub fn push(&mut self, priority: usize, item: T) {
        let priority = priority.min(PRIORITIES - 1);
        self.lists[priority].push_back(item);
        self.occupied |= 1 << priority;
        self.length += 1;
    }

    /// Takes the item that has waited longest among those of the highest priority, if that is at least `minimum`.
    pub fn pop(&mut self, minimum: usize) -> Option<T> {
        let priority = self.highest().filter(|&highest| highest >= minimum)?;
        let item = self.lists[priority].pop_front();
        self.took(priority, item)
    }

    /// Takes the first item, from the highest priority down, that satisfies `wanted`: used to take work from another CPU.
    pub fn take_first(&mut self, mut wanted: impl FnMut(&T) -> bool) -> Option<T> {
        for priority in (0..PRIORITIES).rev() {
            if let Some(position) = self.lists[priority].iter().position(&mut wanted) {
                let item = self.lists[priority].remove(position);
                return self.took(priority, item);
            }
        }
        None
    }

    fn took(&mut self, priority: usize, item: Option<T>) -> Option<T> {
        if item.is_some() {
            self.length -= 1;
            if self.lists[priority].is_empty() {
                self.occupied &= !(1 << priority);
            }
        }
        item
    }
}

impl<T> Default for RunQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize),
        Pop(usize),
        TakeOdd,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..PRIORITIES + 2).prop_map(Step::Push),
            2 => (0..PRIORITIES).prop_map(Step::Pop),
            1 => Just(Step::TakeOdd),
        ]
    }

    /// The naive model: a list in order of arrival, searched in full.
    fn model_take(
        model: &mut Vec<(usize, u32)>,
        minimum: usize,
        wanted: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let best = model
            .iter()
            .filter(|&&(p, v)| p >= minimum && wanted(v))
            .map(|&(p, _)| p)
            .max()?;
        let position = model.iter().position(|&(p, v)| p == best && wanted(v))?;
        Some(model.remove(position).1)
    }

    proptest! {
        #[test]
        fn behaves_like_a_list_searched_in_full(steps in proptest::collection::vec(step(), 0..200)) {
            let mut queue = RunQueue::new();
            let mut model = Vec::new();
            for (value, step) in (0u32..).zip(steps) {
                match step {
                    Step::Push(priority) => {
                        queue.push(priority, value);
                        model.push((priority.min(PRIORITIES - 1), value));
                    }
                    Step::Pop(minimum) => {
                        prop_assert_eq!(queue.pop(minimum), model_take(&mut model, minimum, |_| true));
                    }
                    Step::TakeOdd => {
                        let taken = queue.take_first(|value| value % 2 == 1);
                        prop_assert_eq!(taken, model_take(&mut model, 0, |value| value % 2 == 1));
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.highest(), model.iter().map(|&(p, _)| p).max());
                prop_assert_eq!(queue.is_empty(), model.is_empty());
            }
        }
    }
}
