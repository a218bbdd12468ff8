//! Random programs without a fault: nothing is ever wrong.

use super::fault::plant;
use super::program::{Program, program};
use super::run::{Events, run};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// The program with this number.
pub fn numbered(number: u64, operations: usize) -> Program {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    program(operations)
        .new_tree(&mut runner)
        .expect("the strategy has values")
        .current()
}

#[test]
fn random_programs_are_right() {
    plant(None);
    let mut events = Events::new();
    for number in 0..2000 {
        let program = numbered(number, 16);
        match run(&program, number, 4) {
            Ok(more) => more.into_iter().for_each(|(k, v)| *events.entry(k).or_default() += v),
            Err(text) => panic!("program {number}: {text}\n{program:#?}"),
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
    let program = numbered(number, 16);
    run(&program, seed, 1).unwrap();
}
