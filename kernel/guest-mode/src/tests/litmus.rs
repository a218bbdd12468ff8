//! Small programs for one question each, on many schedules, and faults that each of them finds.

use super::fault::Fault;
use super::program::{Operation::*, assert_right};
use super::thread::Step;

const SCHEDULES: usize = 1500;

/// Comes and goes, and is in the guest for long.
fn often() -> Vec<Step> {
    let mut steps = vec![Step::Access; 8];
    steps.push(Step::Call);
    steps.repeat(3)
}

#[test]
fn nobody_is_in_the_guest_while_another_one_is_alone() {
    assert_right(
        &[
            Fault::LookBeforeBit,
            Fault::NeverClose,
            Fault::NeverOpen,
            Fault::LeaveBeforeExit,
            Fault::ServeBeforeEntry,
            Fault::InvalidateHereOnly,
        ],
        SCHEDULES,
        &[&[Create(0, true), Run(0, often())], &[Alone, Alone]],
    );
}

#[test]
fn nobody_uses_what_an_invalidation_took() {
    assert_right(
        &[
            Fault::LeaveBeforeExit,
            Fault::ServeBeforeEntry,
            Fault::InvalidateHereOnly,
            Fault::SkipGuestFlush,
        ],
        SCHEDULES,
        &[
            &[Create(0, true), Run(0, often())],
            &[
                Rest(25),
                Invalidate(false),
                Rest(5),
                Invalidate(true),
                Rest(5),
                Invalidate(false),
            ],
        ],
    );
}

#[test]
fn nobody_uses_memory_that_the_process_lost() {
    assert_right(
        &[
            Fault::LeaveBeforeExit,
            Fault::ServeBeforeEntry,
            Fault::SkipNestedFlush,
        ],
        SCHEDULES,
        &[
            &[Create(0, true), Run(0, often())],
            &[Rest(25), Unmap, Rest(5), Unmap, Rest(5), Unmap],
        ],
    );
}

#[test]
fn a_structure_moves_between_cpus() {
    let stay = || Run(0, vec![Step::Call, Step::Call, Step::Spin]);
    let take = |cpu| [Await(0, true), Preempt(cpu), Await(0, false)];
    assert_right(
        &[
            Fault::SkipRelease,
            Fault::KeepHostState,
            Fault::ForgetLaunch,
            Fault::FreeWhileActive,
        ],
        40,
        &[
            &[Create(0, true), stay()],
            &[&take(0)[..], &[Run(0, vec![Step::Call, Step::Access])]].concat(),
        ],
    );
}

/// Each wants the structure that the other one has.
#[test]
fn two_cpus_take_structures_from_each_other() {
    let spin = |slot| Run(slot, vec![Step::Call, Step::Spin]);
    let work = |slot| Run(slot, vec![Step::Call, Step::Access]);
    assert_right(
        &[Fault::SkipRelease],
        100,
        &[
            &[
                Create(0, true),
                Rest(4),
                Create(1, false),
                spin(0),
                Await(1, false),
                work(1),
            ],
            &[Await(0, true), spin(1), Await(0, false), work(0)],
            &[Await(0, true), Await(1, true), Preempt(0), Preempt(1)],
        ],
    );
}

#[test]
fn a_thread_that_is_killed_in_the_guest_goes() {
    assert_right(
        &[Fault::LookWithInterruptsOn, Fault::KeepPlace],
        3 * SCHEDULES,
        &[
            &[Create(0, true), Run(0, vec![Step::Call, Step::Spin])],
            &[Await(0, true), Rest(15), Kill(0)],
        ],
    );
}

#[test]
fn changes_of_all_cpus_at_once_are_served() {
    let all = |slot, master| {
        [
            Create(slot, master),
            Run(slot, vec![Step::Access; 6]),
            Alone,
            Invalidate(false),
            Unmap,
        ]
    };
    assert_right(
        &[Fault::LockWithoutServing],
        SCHEDULES,
        &[&all(0, true), &all(1, false), &all(2, false)],
    );
}

#[test]
fn a_master_that_left_may_come_again() {
    assert_right(
        &[Fault::KeepPlace, Fault::KeepBits],
        50,
        &[&[
            Create(0, true),
            Run(0, vec![Step::Access, Step::Leave]),
            Create(1, true),
            Run(
                1,
                vec![Step::User(0x7000), Step::Access, Step::Exception, Step::Call],
            ),
            Create(2, true),
            Run(2, vec![Step::Dead]),
        ]],
    );
}
