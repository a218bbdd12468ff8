//! Small programs for one question each, on many schedules, and a fault that each of them finds. S numbers are scenarios of the
//! stress suite.

use super::fault::{Fault, plant};
use super::model::Features;
use super::program::{Operation, Operation::*, Program};
use super::run::run;

const SCHEDULES: u64 = 150;

/// These operations on a CPU each, so many times over, are right whatever features there are, and wrong with the fault.
#[track_caller]
fn assert_right(fault: Fault, repeated: usize, cpus: &[&[Operation]]) {
    let programs = [true, false].map(|tags| Program {
        features: Features {
            pcids: tags,
            vpids: tags,
            nested_dirty: tags,
        },
        cpus: cpus
            .iter()
            .map(|operations| {
                std::iter::repeat_n(*operations, repeated)
                    .flatten()
                    .cloned()
                    .collect()
            })
            .collect(),
    });
    plant(None);
    for program in &programs {
        if let Err(text) = run(program, 0, SCHEDULES) {
            panic!("{text}\n{program}");
        }
    }
    plant(Some(fault));
    let found = run(&programs[0], 0, SCHEDULES);
    plant(None);
    assert!(found.is_err(), "{fault:?} makes no difference");
}

/// S14.
#[test]
fn no_store_lands_in_a_page_after_its_unmap_returned() {
    assert_right(
        Fault::SkipRemoteFlush,
        4,
        &[
            &[Run(0), Access(0, 1, true)],
            &[Run(0), Access(0, 1, true)],
            &[Unmap(0, 0, 1), Map(0, 0, 1)],
        ],
    );
}

/// S15.
#[test]
fn no_store_lands_in_a_page_after_it_was_made_read_only() {
    assert_right(
        Fault::SkipNarrowFlush,
        4,
        &[
            &[Run(0), Access(4, 2, true)],
            &[Run(0), Access(4, 2, true)],
            &[Protect(0, 4, 2, false), Protect(0, 4, 2, true)],
        ],
    );
}

/// S16: what one space gives back another one takes.
#[test]
fn frames_and_tables_change_hands_between_spaces() {
    assert_right(
        Fault::KeepStaleTag,
        3,
        &[
            &[Run(0), Access(0, 4, true), Access(8, 2, true), Rest],
            &[Run(1), Access(0, 4, true), Access(8, 2, true)],
            &[Replace(0), Discard(1, 0, 16)],
        ],
    );
}

/// S17.
#[test]
fn all_cpus_shoot_at_all_others() {
    let one: &[Operation] = &[Run(0), Access(0, 4, true), Discard(1, 0, 4), Map(1, 8, 8)];
    let other: &[Operation] = &[Run(1), Access(0, 4, true), Discard(0, 0, 4), Map(0, 8, 8)];
    assert_right(Fault::WaitWithoutServing, 2, &[one, other, one, other]);
}

/// S18.
#[test]
fn a_cpu_comes_and_goes_while_another_one_invalidates() {
    assert_right(
        Fault::SkipActivation,
        5,
        &[
            &[Run(0), Access(1, 1, true), Rest],
            &[Run(1), Run(0), Access(1, 1, false)],
            &[Discard(0, 1, 1)],
        ],
    );
}

/// S20: ranges of every size, with tables that go and come.
#[test]
fn tables_go_and_come_under_cpus_that_walk_them() {
    assert_right(
        Fault::AnswerBeforeFlush,
        2,
        &[
            &[Run(0), Access(0, 4, true), Access(4, 4, true), Access(8, 4, true)],
            &[Run(0), Access(12, 4, true), Access(0, 4, false)],
            &[
                Unmap(0, 0, 4),
                Unmap(0, 0, 8),
                Map(0, 0, 16),
                Unmap(0, 2, 12),
                Map(0, 2, 12),
            ],
        ],
    );
}

/// S20: the two sizes of a page.
#[test]
fn a_page_changes_its_size_under_cpus_that_use_it() {
    assert_right(
        Fault::AnswerBeforeResize,
        2,
        &[
            &[Run(0), Access(24, 4, true), Access(28, 4, false)],
            &[Run(0), Access(26, 2, true)],
            &[Resize(0, 0, false), Protect(0, 24, 1, false), MapDevice(0, true)],
        ],
    );
}

/// S21: more spaces than tags, each evicted again and again.
#[test]
fn tags_change_hands_on_all_cpus() {
    let all: &[Operation] = &[
        Run(0),
        Access(0, 1, true),
        Run(1),
        Access(0, 1, true),
        Run(2),
        Access(0, 1, true),
    ];
    assert_right(
        Fault::KeepStaleTag,
        2,
        &[&[Replace(2), Discard(0, 0, 1), Discard(1, 0, 1)], all, all],
    );
}

/// S9: a store after a harvest sets the flag anew.
#[test]
fn no_store_is_missed_by_a_harvest() {
    assert_right(
        Fault::WritableWhileClean,
        3,
        &[
            &[Run(0), Access(16, 4, true)],
            &[Run(0), Access(16, 2, true)],
            &[Harvest(0, 3)],
        ],
    );
}

/// A fault gets on although its page is invalidated all the time.
#[test]
fn a_fault_that_is_refused_again_and_again_ends() {
    let storm: &[Operation] = &[Invalidate(0, 16, 2)];
    assert_right(
        Fault::InvalidateBesideFaults,
        6,
        &[&[Run(0), Access(16, 1, false)], storm, storm],
    );
}

/// A page is replaced by a copy while other CPUs load from it and store to it.
#[test]
fn nobody_sees_the_original_of_a_page_after_its_copy() {
    let stores: &[Operation] = &[Run(0), Access(0, 2, true)];
    let loads: &[Operation] = &[Run(0), Access(0, 2, false)];
    assert_right(
        Fault::CopyBeforeFlush,
        3,
        &[stores, loads, stores, &[Fork(0, 1), Destroy(1)]],
    );
}

/// A process loses memory, tables included, while its guests run.
#[test]
fn guests_lose_what_their_process_loses() {
    let guest: &[Operation] = &[
        Run(0),
        BuildGuest,
        Guest(0, vec![]),
        Guest(1, vec![(0, true), (1, false), (2, true), (3, true)]),
    ];
    assert_right(
        Fault::SkipNestedFlush,
        2,
        &[
            guest,
            guest,
            &[Discard(0, 0, 4), Discard(0, 8, 4), Protect(0, 0, 2, false)],
        ],
    );
}

/// A guest's page table changes while it runs elsewhere.
#[test]
fn guests_lose_what_their_own_table_loses() {
    let accesses = || vec![(0, true), (1, true), (0, false), (1, false)];
    let guest: &[Operation] = &[Run(0), BuildGuest, Guest(0, accesses()), Guest(1, accesses())];
    let edits: &[Operation] = &[
        Run(0),
        Guest(0, accesses()),
        InvalidateGuest(0, 2),
        Guest(0, accesses()),
        EditGuest(0, 1, false, true),
    ];
    assert_right(Fault::SkipGuestPageFlush, 2, &[guest, edits, guest]);
}
