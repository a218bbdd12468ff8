//! One run queue per virtual CPU, and the set of idle CPUs.
//!
//! No wake-up is lost: a CPU declares itself idle *before* it looks at the queues for the last time, and whoever queues something
//! looks for an idle CPU *after*. So one of the two sees the other. Claiming an idle CPU clears its bit, so that two wakers choose two CPUs.

use crate::sync::Lock;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Who must hear of something new in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kick {
    /// Nobody: the queue's CPU has others to run and looks again by itself.
    Nobody,
    /// This CPU: it was idle and is claimed, or it runs without a time limit.
    Cpu(usize),
}

/// The queues of all CPUs.
pub struct RunQueues<T> {
    queues: Vec<Queue<T>>,
    idle: AtomicU64,
}

struct Queue<T> {
    entries: Lock<VecDeque<Entry<T>>>,
    length: AtomicUsize,
}

struct Entry<T> {
    item: T,
    affinity: u64,
}

impl<T> RunQueues<T> {
    /// Empty queues for `cpus` CPUs, 1 to 64, none of them idle.
    pub fn new(cpus: usize) -> Self {
        let queue = |_| Queue {
            entries: Lock::new(VecDeque::new()),
            length: AtomicUsize::new(0),
        };
        RunQueues {
            queues: (0..cpus).map(queue).collect(),
            idle: AtomicU64::new(0),
        }
    }

    /// Mask of every CPU.
    pub fn all(&self) -> u64 {
        u64::MAX >> (64 - self.queues.len())
    }

    /// Queues `item`, which may run on the CPUs of `affinity` and would like to run on `preferred`, where it has run before.
    pub fn push(&self, item: T, preferred: usize, affinity: u64) -> Kick {
        let affinity = match affinity & self.all() {
            0 => self.all(),
            some => some,
        };
        let claimed = self
            .claim_idle(affinity & bit(preferred))
            .or_else(|| self.claim_idle(affinity));
        let cpu = claimed.unwrap_or_else(|| self.choose_busy(preferred, affinity));
        let queue = &self.queues[cpu];
        let length = {
            let mut entries = queue.entries.lock();
            entries.push_back(Entry { item, affinity });
            queue.length.store(entries.len(), Ordering::SeqCst);
            entries.len()
        };
        if claimed.is_some() {
            return Kick::Cpu(cpu);
        }
        // A CPU may have gone idle since: it looked at the queues before the push, so it has to be told.
        match self.claim_idle(affinity) {
            Some(idle) => Kick::Cpu(idle),
            None if length == 1 => Kick::Cpu(cpu),
            None => Kick::Nobody,
        }
    }

    /// The next thing for `cpu` to run: from its own queue, else from another one's.
    pub fn pop(&self, cpu: usize) -> Option<T> {
        (0..self.queues.len()).find_map(|step| self.take((cpu + step) % self.queues.len(), cpu))
    }

    fn take(&self, from: usize, cpu: usize) -> Option<T> {
        let queue = &self.queues[from];
        if queue.length.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let mut entries = queue.entries.lock();
        let position = entries.iter().position(|entry| entry.affinity & bit(cpu) != 0)?;
        let entry = entries.remove(position)?;
        queue.length.store(entries.len(), Ordering::SeqCst);
        Some(entry.item)
    }

    /// Things that wait in the queue of `cpu`.
    pub fn waiting(&self, cpu: usize) -> usize {
        self.queues[cpu].length.load(Ordering::SeqCst)
    }

    /// Says that `cpu` is about to sleep. It must look at the queues once more afterwards.
    pub fn declare_idle(&self, cpu: usize) {
        self.idle.fetch_or(bit(cpu), Ordering::SeqCst);
    }

    /// Says that `cpu` is awake, however it came to be.
    pub fn declare_busy(&self, cpu: usize) {
        self.idle.fetch_and(!bit(cpu), Ordering::SeqCst);
    }

    fn claim_idle(&self, allowed: u64) -> Option<usize> {
        loop {
            let candidates = self.idle.load(Ordering::SeqCst) & allowed;
            if candidates == 0 {
                return None;
            }
            let cpu = candidates.trailing_zeros() as usize;
            if self.idle.fetch_and(!bit(cpu), Ordering::SeqCst) & bit(cpu) != 0 {
                return Some(cpu);
            }
        }
    }

    /// The shortest queue; the preferred CPU's unless another is shorter by two.
    fn choose_busy(&self, preferred: usize, affinity: u64) -> usize {
        let cost = |cpu: usize| 2 * self.waiting(cpu) + usize::from(cpu != preferred) * 3;
        (0..self.queues.len())
            .filter(|&cpu| affinity & bit(cpu) != 0)
            .min_by_key(|&cpu| cost(cpu))
            .unwrap_or(preferred)
    }
}

fn bit(cpu: usize) -> u64 {
    1 << cpu
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: u64 = u64::MAX;

    #[test]
    fn an_idle_cpu_is_chosen_once() {
        let queues = RunQueues::new(4);
        queues.declare_idle(2);
        queues.declare_idle(3);
        assert_eq!(queues.push('a', 3, ANY), Kick::Cpu(3));
        assert_eq!(queues.push('b', 3, ANY), Kick::Cpu(2));
        assert_eq!(
            queues.push('c', 3, ANY),
            Kick::Nobody,
            "its queue already has something"
        );
        assert_eq!(queues.pop(3), Some('a'));
        assert_eq!(queues.pop(3), Some('c'));
        assert_eq!(queues.pop(3), Some('b'), "stolen");
        assert_eq!(queues.pop(3), None);
    }

    #[test]
    fn a_cpu_without_time_limit_is_told() {
        let queues = RunQueues::new(2);
        assert_eq!(queues.push('a', 1, ANY), Kick::Cpu(1));
        assert_eq!(queues.push('b', 1, ANY), Kick::Nobody);
        assert_eq!(
            queues.push('c', 1, ANY),
            Kick::Cpu(0),
            "the other queue is shorter by two"
        );
    }

    #[test]
    fn affinity_is_kept_by_queueing_and_stealing() {
        let queues = RunQueues::new(3);
        queues.declare_idle(2);
        assert_eq!(queues.push('a', 2, 0b001), Kick::Cpu(0));
        assert_eq!(queues.push('b', 1, 0b010), Kick::Cpu(1));
        assert_eq!(queues.pop(2), None);
        assert_eq!(queues.pop(1), Some('b'));
        assert_eq!(queues.pop(0), Some('a'));
        assert_eq!(
            queues.push('c', 0, 1 << 50),
            Kick::Cpu(2),
            "a mask without a CPU means any"
        );
    }

    /// Two real threads: one queues, one goes idle as a CPU does. Every item must be seen although the idle one sleeps
    /// only as long as nobody kicks it.
    #[test]
    fn no_wakeup_is_lost() {
        extern crate std;
        use std::sync::mpsc;
        let queues = alloc::sync::Arc::new(RunQueues::new(1));
        let (kick, kicked) = mpsc::channel();
        let consumer = {
            let queues = queues.clone();
            std::thread::spawn(move || {
                let mut sum = 0;
                while sum < 5000 * 5001 / 2 {
                    if let Some(item) = queues.pop(0) {
                        sum += item;
                        continue;
                    }
                    queues.declare_idle(0);
                    if let Some(item) = queues.pop(0) {
                        queues.declare_busy(0);
                        sum += item;
                        continue;
                    }
                    kicked
                        .recv_timeout(std::time::Duration::from_secs(20))
                        .expect("lost wake-up");
                    queues.declare_busy(0);
                }
                sum
            })
        };
        for item in 1..=5000_u64 {
            if queues.push(item, 0, ANY) != Kick::Nobody {
                let _ = kick.send(());
            }
            if item % 7 == 0 {
                std::thread::yield_now();
            }
        }
        assert_eq!(consumer.join().unwrap(), 5000 * 5001 / 2);
    }
}
