//! Several requests at once: none is lost, and no slot is filled while somebody reads it.

use super::machine::{LoomCpu, Shared, page};
use super::{Weakness, check};
use crate::mailbox::{Order, OrderSet};
use crate::{Machine, Space};
use std::rc::Rc;
use std::sync::atomic::Ordering;

#[test]
fn two_senders_are_both_answered() {
    check(2, &[Weakness::LoseNotes], || {
        let shared = Rc::new(Shared::new(3));
        let target = LoomCpu::new(&shared, 0);
        target.run();
        assert!(target.store());
        let unmapping = {
            let shared = Rc::clone(&shared);
            loom::thread::spawn(move || {
                LoomCpu::new(&shared, 1).unmap(&page());
                shared.done.fetch_add(1, Ordering::Release);
            })
        };
        // Loom cannot do with two CPUs that wait for a third. This one does what `Cpu::post` does, for a space that the target is
        // about to leave, and lets the target look for the answer.
        let posting = {
            let shared = Rc::clone(&shared);
            loom::thread::spawn(move || {
                let order = Order {
                    space: 2,
                    generation: 2,
                    set: OrderSet::of(&page()),
                    early: false,
                };
                shared.mailboxes[2].fill(&order, 1);
                if shared.mailboxes[0].put(2) {
                    LoomCpu::new(&shared, 2).interrupt(0);
                }
                shared.done.fetch_add(1, Ordering::Release);
            })
        };
        target.wait(2);
        while !shared.mailboxes[2].is_answered() {
            target.poll();
            loom::thread::yield_now();
        }
        assert!(!target.store(), "a store after the page was unmapped");
        unmapping.join().expect("one sender ends");
        posting.join().expect("the other sender ends");
    });
}

#[test]
fn a_slot_is_filled_again_only_when_all_have_answered() {
    check(3, &[Weakness::Take, Weakness::Put], || {
        let shared = Rc::new(Shared::new(2));
        let target = LoomCpu::new(&shared, 0);
        target.run();
        assert!(target.store());
        let sender = {
            let shared = Rc::clone(&shared);
            loom::thread::spawn(move || {
                let sender = LoomCpu::new(&shared, 1);
                // The first request is for a space that the target is about to leave; were it read in place of the second, nothing
                // would be flushed.
                let space = Space::new(2);
                space.activate(0);
                sender.invalidate(&space, &page());
                sender.unmap(&page());
                shared.done.fetch_add(1, Ordering::Release);
            })
        };
        target.wait_for_lock(1);
        assert!(!target.store(), "a store after the page was unmapped");
        sender.join().expect("the sender ends");
    });
}
