//! `syscall-errors`: makes every wrong system call that can be thought of and checks that each gives the right errno.
//!
//! The cases are tables of plain numbers (`pointers`, `handles`, `arguments`, `forks`, `guests`); `fixture` makes the objects and addresses
//! that they need, `raw` makes the call. A case that the kernel lets through is a failure, not a crash of the test.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod arguments;
mod fixture;
mod forks;
mod guests;
mod handles;
mod pointers;
mod raw;

use alloc::string::String;
use alloc::vec::Vec;
use dragonet_abi::{Errno, SyscallNumber};
use dragonet_programs::checks::Checks;
use dragonet_programs::options::Syntax;
use dragonet_programs::text::fault;
use dragonet_rt::{Arguments, ExitCode};
use fixture::Fixture;

dragonet_rt::main!(main);

const HELP: &str = "\
usage: syscall-errors [-f FILTER]

Makes wrong system calls of every kind and checks the error of each.
  -f FILTER  only the cases whose name contains this";

const SYNTAX: Syntax = Syntax {
    values: "f",
    ..Syntax::new(HELP)
};

/// A call that must fail.
pub struct Case {
    name: String,
    number: u64,
    arguments: [u64; 6],
    expected: &'static [Errno],
}

/// The list of cases being built.
#[derive(Default)]
pub struct Cases(Vec<Case>);

impl Cases {
    /// Adds a case; missing arguments are 0. Any of the expected errors will do.
    pub fn add(
        &mut self,
        name: String,
        number: SyscallNumber,
        arguments: &[u64],
        expected: &'static [Errno],
    ) {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        self.0.push(Case {
            name,
            number: number as u64,
            arguments: all,
            expected,
        });
    }

    /// Adds a call of a number that no system call has.
    fn add_number(&mut self, number: u64) {
        let name = alloc::format!("wrong number {number:#x}");
        self.0.push(Case {
            name,
            number,
            arguments: [0; 6],
            expected: &[Errno::ENOSYS],
        });
    }
}

fn main(arguments: Arguments) -> ExitCode {
    let options = match SYNTAX.parse(&arguments) {
        Ok(options) => options,
        Err(status) => return status,
    };
    let fixture = match Fixture::new() {
        Ok(fixture) => fixture,
        Err(errno) => return fault("making objects to test with", errno),
    };
    let mut cases = Cases::default();
    wrong_numbers(&mut cases);
    pointers::add(&fixture, &mut cases);
    handles::add(&fixture, &mut cases);
    arguments::add(&fixture, &mut cases);
    forks::add(&fixture, &mut cases);
    guests::add(&fixture, &mut cases);

    let filter = options.value('f').unwrap_or("");
    let mut checks = Checks::default();
    for case in cases.0.iter().filter(|case| case.name.contains(filter)) {
        let result = raw::call(case.number, case.arguments);
        let outcome = Errno::decode(result);
        let good = outcome.is_err_and(|errno| case.expected.contains(&errno));
        checks.report(
            &case.name,
            good,
            format_args!("got {outcome:x?}, expected {:?}", case.expected),
        );
    }
    checks.finish()
}

fn wrong_numbers(cases: &mut Cases) {
    let unused = (0..128).filter(|number| SyscallNumber::from_number(*number).is_none());
    for number in unused.chain([4096, 1 << 31, 1 << 32, 1 << 63, u64::MAX, u64::MAX - 84]) {
        cases.add_number(number);
    }
}
