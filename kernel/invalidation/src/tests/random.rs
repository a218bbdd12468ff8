//! Random programs without a fault: nothing is ever wrong, and everything happens.
//!
//! A failure names a subject, a program and a schedule. `INVALIDATION_REPLAY="memory 31 127" cargo test -p invalidation replay --
//! --nocapture` runs just that and says what happens. For longer runs: `INVALIDATION_PROGRAMS` per subject,
//! `INVALIDATION_SCHEDULES` per program, `INVALIDATION_FIRST` is the number of the first program.

use super::fault::plant;
use super::program::{Program, Subject, program};
use super::run::{Events, run};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Programs per subject unless told otherwise, with and without a fault.
pub const PROGRAMS: u64 = 300;
/// Schedules of each program.
pub const SCHEDULES: u64 = 4;
/// Attempts to find a smaller program that is wrong too, and schedules of each.
const SHRINKING: (u32, u64) = (400, 24);

fn tree(subject: Subject, number: u64) -> impl ValueTree<Value = Program> {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    program(subject)
        .new_tree(&mut runner)
        .expect("the strategy has values")
}

/// The program of a subject with this number.
pub fn numbered(subject: Subject, number: u64) -> Program {
    tree(subject, number).current()
}

/// The smallest program made of that one that was found wrong, and how.
fn shrunk(subject: Subject, number: u64) -> Option<(Program, String)> {
    let mut tree = tree(subject, number);
    let mut smallest = None;
    for _ in 0..SHRINKING.0 {
        let candidate = tree.current();
        let goes_on = match run(&candidate, 0, SHRINKING.1) {
            Ok(_) => tree.complicate(),
            Err(text) => {
                smallest = Some((candidate, text));
                tree.simplify()
            }
        };
        if !goes_on {
            break;
        }
    }
    smallest
}

fn number_from_environment(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")),
        Err(_) => default,
    }
}

/// Runs many programs and returns what happened.
fn many(subject: Subject) -> Events {
    plant(None);
    let first = number_from_environment("INVALIDATION_FIRST", 0);
    let programs = number_from_environment("INVALIDATION_PROGRAMS", PROGRAMS);
    let schedules = number_from_environment("INVALIDATION_SCHEDULES", SCHEDULES);
    let mut events = Events::new();
    for number in first..first + programs {
        match run(&numbered(subject, number), number * schedules, schedules) {
            Ok(more) => more
                .into_iter()
                .for_each(|(name, count)| *events.entry(name).or_default() += count),
            Err(text) => {
                let smaller = match shrunk(subject, number) {
                    Some((program, text)) => format!("smaller, {text}\n{program}"),
                    None => "no smaller one was found".to_owned(),
                };
                panic!("{subject:?}, program {number}, {text}\n{smaller}");
            }
        }
    }
    events
}

#[track_caller]
fn assert_happens(events: &Events, names: &[&str]) {
    println!("{events:?}");
    for name in names {
        let count = events.get(name).copied().unwrap_or(0);
        assert!(count >= 20, "{name}: only {count}");
    }
}

/// What happens whatever the subject is.
const ALWAYS: [&str; 9] = [
    "root kept",
    "root flushed",
    "pages flushed",
    "tag flushed",
    "shootdown",
    "answered early",
    "refused by the interlock",
    "loads",
    "stores",
];

#[test]
fn programs_about_memory_are_right() {
    let events = many(Subject::Memory);
    assert_happens(&events, &ALWAYS);
    assert_happens(&events, &["tag evicted", "copied", "mapped around"]);
}

#[test]
fn programs_about_copies_are_right() {
    let events = many(Subject::Copies);
    assert_happens(
        &events,
        &["copied", "answered early", "refused by the interlock", "alone"],
    );
}

#[test]
fn programs_about_virtual_page_tables_are_right() {
    let events = many(Subject::Virtual);
    assert_happens(&events, &ALWAYS);
    assert_happens(&events, &["broken", "found by a walk", "alone"]);
}

#[test]
fn programs_about_guests_are_right() {
    let events = many(Subject::Guests);
    assert_happens(&events, &ALWAYS);
    let more = [
        "nested flushed",
        "guest flushed",
        "guest loads",
        "guest stores",
        "kicked out",
    ];
    assert_happens(&events, &more);
}

#[test]
fn programs_about_sizes_are_right() {
    let events = many(Subject::Sizes);
    assert_happens(&events, &ALWAYS);
    assert_happens(&events, &["large", "split", "promoted", "recorded anew"]);
}

/// Runs what `INVALIDATION_REPLAY` names: subject, program, schedule.
#[test]
fn replay() {
    let Ok(text) = std::env::var("INVALIDATION_REPLAY") else {
        return;
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = |index: usize| words[index].parse().expect("program and schedule are numbers");
    let subject = Subject::named(words[0]).expect("memory, copies, virtual, guests or sizes");
    let program = numbered(subject, number(1));
    println!("{program}");
    plant(None);
    run(&program, number(2), 1).expect("the run is right");
}
