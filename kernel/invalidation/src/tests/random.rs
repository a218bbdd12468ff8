//! Random programs without a fault: nothing is ever wrong, and everything happens.

use super::fault::plant;
use super::program::{Program, Subject, program};
use super::run::{Events, run};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// The program with this number.
pub fn numbered(subject: Subject, number: u64) -> Program {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    program(subject, 16)
        .new_tree(&mut runner)
        .expect("the strategy has values")
        .current()
}

#[test]
fn random_programs_are_right() {
    plant(None);
    let mut events = Events::new();
    for subject in [Subject::Memory, Subject::Virtual, Subject::Guests] {
    for number in 0..700 {
        let program = numbered(subject, number);
        match run(&program, number * 4, 4) {
            Ok(more) => more.into_iter().for_each(|(k, v)| *events.entry(k).or_default() += v),
            Err(text) => panic!("program {subject:?} {number}: {text}\n{program:#?}"),
        }
    }
    }
    println!("{events:?}");
}

#[test]
#[ignore]
fn one() {
    plant(None);
    let number = std::env::var("PROGRAM").unwrap().parse().unwrap();
    let seed = std::env::var("SCHEDULE").unwrap().parse().unwrap();
    let program = numbered(Subject::Memory, number);
    run(&program, seed, 1).unwrap();
}
