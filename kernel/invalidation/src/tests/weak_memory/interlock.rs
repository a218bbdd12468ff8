//! A walk against an invalidation, with the stamp as `kernel/src/pmap/space.rs` takes it: one load without the lock.

use super::explore;
use loom::sync::Mutex;
use loom::sync::atomic::AtomicU64;
use page_table::{Interlock, Stamp};
use std::rc::Rc;
use std::sync::atomic::Ordering;

const PAGE: u64 = 0x5000;

/// The truth about a page, and what its table says of it.
struct Space {
    truth: AtomicU64,
    stamp: AtomicU64,
    interlock: Mutex<Interlock>,
    entry: AtomicU64,
}

impl Space {
    fn fault(&self, order: Ordering) {
        loop {
            let stamp = Stamp(self.stamp.load(order));
            let found = self.truth.load(Ordering::Relaxed);
            let interlock = self.interlock.lock().expect("nobody died with the lock");
            if interlock.admits(stamp, PAGE) {
                self.entry.store(found, Ordering::Relaxed);
                return;
            }
        }
    }

    fn invalidate(&self) {
        self.truth.store(2, Ordering::Relaxed);
        let mut interlock = self.interlock.lock().expect("nobody died with the lock");
        let stamp = interlock.invalidate(&(PAGE..PAGE + 0x1000));
        self.stamp.store(stamp.0, Ordering::Release);
        self.entry.store(0, Ordering::Relaxed);
    }
}

fn fault_against_invalidation(order: Ordering) {
    let space = Rc::new(Space {
        truth: AtomicU64::new(1),
        stamp: AtomicU64::new(0),
        interlock: Mutex::new(Interlock::new()),
        entry: AtomicU64::new(0),
    });
    let faulting = {
        let space = Rc::clone(&space);
        loom::thread::spawn(move || space.fault(order))
    };
    space.invalidate();
    faulting.join().expect("the fault ends");
    let entry = space.entry.load(Ordering::Relaxed);
    assert_ne!(
        entry, 1,
        "a walk's result was entered after the invalidation of its address"
    );
}

#[test]
fn no_result_of_a_walk_is_entered_after_an_invalidation() {
    explore(3, || fault_against_invalidation(Ordering::Acquire));
}

#[test]
#[should_panic(expected = "a walk's result was entered")]
fn a_stamp_that_acquires_nothing_is_not_enough() {
    explore(3, || fault_against_invalidation(Ordering::Relaxed));
}
