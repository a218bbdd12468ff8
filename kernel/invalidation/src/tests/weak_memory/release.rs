//! A control structure that goes from one CPU to another.

use super::machine::{LoomCpu, Shared};
use super::{Weakness, check};
use std::rc::Rc;
use std::sync::atomic::Ordering;

#[test]
fn who_asked_for_a_control_structure_has_it_alone() {
    let needed = [Weakness::Answer, Weakness::Await, Weakness::Put, Weakness::Take];
    check(3, &needed, || {
        let shared = Rc::new(Shared::new(2));
        let holder = LoomCpu::new(&shared, 0);
        holder.load_structure();
        let asking = {
            let shared = Rc::clone(&shared);
            loom::thread::spawn(move || {
                let asking = LoomCpu::new(&shared, 1);
                asking.take_structure(0);
                assert!(asking.holds_structure());
                shared.done.fetch_add(1, Ordering::Release);
            })
        };
        holder.wait_for_lock(1);
        assert!(!holder.holds_structure(), "the structure was not released");
        asking.join().expect("the other CPU ends");
    });
}
