//! The watchdog: every thread counts its steps, and one that stops counting fails the run by name.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use dragonet_rt::sync::Mutex;
use dragonet_rt::time;

/// How long a thread may be without progress. Emulated CPUs are slow, and there may be more threads than CPUs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A thread that is watched.
struct Entry {
    name: String,
    steps: AtomicU64,
}

/// Everyone who is watched now.
static WATCHED: Mutex<Vec<Arc<Entry>>> = Mutex::new(Vec::new());

/// A thread's place under the watchdog's eyes, until it is dropped.
pub struct Ticket(Arc<Entry>);

impl Ticket {
    /// Begins to watch a thread that calls itself `name`.
    pub fn new(name: String) -> Self {
        let entry = Arc::new(Entry {
            name,
            steps: AtomicU64::new(0),
        });
        WATCHED.lock().push(Arc::clone(&entry));
        Ticket(entry)
    }

    /// Counts a step.
    pub fn step(&self) {
        self.0.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.0.steps.load(Ordering::Relaxed)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        WATCHED.lock().retain(|entry| !Arc::ptr_eq(entry, &self.0));
    }
}

/// What the watchdog saw when it looked last: who had counted how far, since when.
#[derive(Default)]
pub struct Watchdog(Vec<(Arc<Entry>, u64, Duration)>);

impl Watchdog {
    /// Looks at everyone; the name of a thread that has made no step for too long, and its count.
    pub fn look(&mut self) -> Option<(String, u64)> {
        let now = time::now();
        let watched = WATCHED.lock().clone();
        self.0
            .retain(|(entry, ..)| watched.iter().any(|other| Arc::ptr_eq(entry, other)));
        for entry in watched {
            let steps = entry.steps.load(Ordering::Relaxed);
            match self.0.iter_mut().find(|(known, ..)| Arc::ptr_eq(known, &entry)) {
                None => self.0.push((entry, steps, now)),
                Some((_, last, since)) if *last != steps => (*last, *since) = (steps, now),
                Some((entry, _, since)) if now > *since + PATIENCE => {
                    return Some((entry.name.clone(), steps));
                }
                Some(_) => {}
            }
        }
        None
    }
}
