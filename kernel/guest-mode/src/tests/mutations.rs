//! Every planted fault is found by random programs, on which nothing is found without one.

use super::fault::{OF_PROGRAMS, plant};
use super::program::try_program;
use super::random::{SCHEDULES, programs, runner};
use proptest::strategy::{Strategy, ValueTree};

/// Programs that are tried.
const PROGRAMS: usize = 150;

#[test]
fn faults_are_found_by_random_programs() {
    let mut runner = runner(1);
    let programs: Vec<_> = (0..PROGRAMS)
        .map(|_| {
            programs()
                .new_tree(&mut runner)
                .expect("programs exist")
                .current()
        })
        .collect();
    let mut missed = Vec::new();
    for &(fault, symptoms) in OF_PROGRAMS {
        plant(Some(fault));
        let found = programs
            .iter()
            .find_map(|program| try_program(program, 1, SCHEDULES).err());
        plant(None);
        match found {
            Some(text) if symptoms.iter().any(|symptom| text.contains(symptom)) => {
                println!("{fault:?}: {text}")
            }
            Some(text) => panic!("{fault:?} is found by something else: {text}"),
            None => missed.push(fault),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
