//! Every planted fault is found, by the same programs and schedules on which nothing is found without one.

use super::fault::{Fault, INSTRUCTIONS, SHARED_WORDS, USE, plant};
use super::program::Subject;
use super::random::{PROGRAMS, SCHEDULES, numbered};
use super::run::run;

/// Plants each fault and runs programs until something is wrong.
#[track_caller]
fn assert_found(faults: &[(Fault, Subject)]) {
    let mut missed = Vec::new();
    for &(fault, subject) in faults {
        plant(Some(fault));
        let found = (0..PROGRAMS).find_map(|number| {
            let result = run(&numbered(subject, number), number * SCHEDULES, SCHEDULES);
            result.err().map(|text| (number, text))
        });
        match found {
            Some((number, text)) => println!("{fault:?}: {subject:?}, program {number}, {text}"),
            None => missed.push(fault),
        }
    }
    plant(None);
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn faults_in_instructions_are_found() {
    assert_found(INSTRUCTIONS);
}

#[test]
fn faults_in_shared_words_are_found() {
    assert_found(SHARED_WORDS);
}

#[test]
fn faults_in_the_use_of_the_protocol_are_found() {
    assert_found(USE);
}
