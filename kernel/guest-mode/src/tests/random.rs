//! Random programs on random schedules, with several threads in guest mode that move between up to four CPUs.

use super::program::{Counts, Operation, Program, SLOTS, try_program};
use super::thread::Step;
use crate::Provision;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Schedules on which each program runs.
pub const SCHEDULES: usize = 12;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Access),
        4 => Just(Step::Call),
        1 => (7..9u64).prop_map(|root| Step::User(root << 12)),
        1 => Just(Step::Leave),
        1 => Just(Step::Exception),
        1 => Just(Step::Dead),
        1 => Just(Step::Nested(Provision::Done)),
        1 => Just(Step::Nested(Provision::NoMemory)),
        1 => Just(Step::Nested(Provision::Refused(4))),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let slot = || 0..SLOTS;
    prop_oneof![
        3 => (slot(), any::<bool>()).prop_map(|(slot, master)| Operation::Create(slot, master)),
        6 => (slot(), prop::collection::vec(step(), 1..12)).prop_map(|(slot, steps)| Operation::Run(slot, steps)),
        2 => (0..4usize).prop_map(Operation::Preempt),
        1 => slot().prop_map(Operation::Kill),
        2 => any::<bool>().prop_map(Operation::Invalidate),
        2 => Just(Operation::Unmap),
        2 => Just(Operation::Alone),
    ]
}

/// Programs for one to four CPUs. The first one begins with a master.
pub fn programs() -> impl Strategy<Value = Program> {
    let cpu = prop::collection::vec(operation(), 1..10);
    (any::<bool>(), prop::collection::vec(cpu, 1..=4)).prop_map(|(identifiers, mut cpus)| {
        cpus[0].insert(0, Operation::Create(0, true));
        Program { identifiers, cpus }
    })
}

/// The same programs each time.
pub fn runner(cases: u32) -> TestRunner {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

#[test]
fn whatever_cpus_do_nothing_breaks() {
    let total = std::cell::RefCell::new(Counts::default());
    let result = runner(400).run(&programs(), |program| {
        let counts = try_program(&program, 1, SCHEDULES).map_err(TestCaseError::fail)?;
        let mut total = total.borrow_mut();
        total.entries += counts.entries;
        total.accesses += counts.accesses;
        total.moves += counts.moves;
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let total = total.into_inner();
    println!("{total:?}");
    assert!(
        total.entries > 1000 && total.accesses > 1000 && total.moves > 1000,
        "too little happened: {total:?}"
    );
}
