//! A CPU that comes or goes while another one invalidates: the store-buffering shape of the active set.

use super::machine::{LoomCpu, Shared, page, page_with_table};
use super::{Weakness, check};
use page_table::FlushSet;
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// CPU 0 does `program` while CPU 1 unmaps the page; afterwards CPU 0 cannot store to it.
fn against_unmap(set: fn() -> FlushSet, prepare: fn(&LoomCpu), program: fn(&LoomCpu)) {
    let shared = Rc::new(Shared::new(2));
    let cpu = LoomCpu::new(&shared, 0);
    prepare(&cpu);
    let other = {
        let shared = Rc::clone(&shared);
        loom::thread::spawn(move || {
            LoomCpu::new(&shared, 1).unmap(&set());
            shared.done.fetch_add(1, Ordering::Release);
        })
    };
    program(&cpu);
    cpu.wait(1);
    assert!(!cpu.store(), "a store after the page was unmapped");
    other.join().expect("the invalidator ends");
}

#[test]
fn a_cpu_that_comes_finds_the_change_or_is_told() {
    let needed = [
        Weakness::Barriers,
        Weakness::Raise,
        Weakness::Answer,
        Weakness::Await,
    ];
    check(3, &needed, || {
        against_unmap(
            page,
            |_| (),
            |cpu| {
                cpu.run();
                cpu.store();
            },
        );
    });
}

#[test]
fn a_cpu_that_comes_back_keeps_nothing_old() {
    let needed = [Weakness::Barriers];
    check(3, &needed, || {
        against_unmap(
            page,
            |cpu| {
                cpu.run();
                assert!(cpu.store());
                cpu.rest();
            },
            |cpu| {
                cpu.run();
                cpu.store();
            },
        );
    });
}

#[test]
fn a_cpu_that_goes_is_told_or_flushes_when_it_comes_back() {
    check(3, &[Weakness::Barriers], || {
        against_unmap(
            page,
            |cpu| {
                cpu.run();
                assert!(cpu.store());
            },
            |cpu| {
                cpu.rest();
                cpu.run();
                cpu.store();
            },
        );
    });
}

#[test]
fn a_detached_table_is_flushed_before_the_answer() {
    let needed = [Weakness::Answer, Weakness::Await];
    check(3, &needed, || {
        against_unmap(
            page_with_table,
            |cpu| {
                cpu.run();
                assert!(cpu.store());
            },
            |cpu| {
                cpu.store();
            },
        );
    });
}
