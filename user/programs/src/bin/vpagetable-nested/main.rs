//! `vpagetable-nested`: a vkernel of a few hundred lines that runs a vkernel.
//!
//! Three levels: this program is a vkernel on the microkernel (level 1). Its only user is a native program that is a vkernel itself
//! (level 2) - by default `vpagetable-basic`, which expects of its host what it expects of the microkernel - and whose users
//! (level 3) run real code. What level 2 asks for by `syscall` instructions is served here ([`calls`]).
//!
//! # Composing two tables
//!
//! Level 2 has memory objects. Their pages are pages of level 1's RAM, taken when they are touched ([`object`]), so "physical address
//! p of level 2" means: page p of an object, which is some page of the RAM, which is a page of a memory object of the microkernel.
//! A user of level 2 runs in a vmspace of the microkernel, which sees the RAM through a table in it, the *shadow* ([`shadow`]). When the
//! user faults, level 1 does for level 2 what the microkernel does for level 1 ([`space`]):
//!
//! 1. It walks level 2's table, with the microkernel's own walker: every entry is read from a page of the object by way of the RAM, every page number
//!    is bounded by the object, A and D are set in it.
//! 2. It enters the page of the RAM that the result names into the shadow, with stores allowed only if the walk has seen the dirty bit
//!    set, so that the first store faults again and sets it.
//! 3. What the walk refuses goes to level 2 as the fault of its user, with the error code that its own table gives.
//!
//! When level 2 invalidates, the shadow's entries go first, then what the microkernel has made of them. Level 2 itself runs in a space of
//! the same kind, whose mappings are objects without a table.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod calls;
mod object;
mod program;
mod regression;
mod shadow;
mod space;
mod vkernel;

use alloc::string::String;
use dragonet_programs::checks::Checks;
use dragonet_programs::ledger::Ledger;
use dragonet_programs::options::Syntax;
use dragonet_rt::{Arguments, ExitCode, println};
use vkernel::Vkernel;

dragonet_rt::main!(main);

const HELP: &str = "\
usage: vpagetable-nested [PROGRAM [ARGUMENT...]]

Runs a program that acts as a vkernel as the user of a small vkernel; default: vpagetable-basic --alone.";

const SYNTAX: Syntax = Syntax {
    operands: (0, 16),
    stops_at_operand: true,
    flags: "r",
    ..Syntax::new(HELP)
};

/// Bytes of level 1's RAM; they are taken from the machine when touched.
const RAM: u64 = 128 << 20;

fn main(arguments: Arguments) -> ExitCode {
    let options = match SYNTAX.parse(&arguments) {
        Ok(options) => options,
        Err(status) => return status,
    };
    if options.has('r') {
        return regression::run();
    }
    match options.operands() {
        [] => default_run(),
        operands => match run(operands) {
            Ok(status) => ExitCode(status),
            Err(problem) => {
                println!("{problem}");
                ExitCode::FAILURE
            }
        },
    }
}

/// Runs the programs that check what level 2 sees, and whether everything comes back.
fn default_run() -> ExitCode {
    let mut checks = Checks::default();
    let mut before = Ledger::now();
    for (number, operands) in [["vpagetable-nested", "-r"], ["vpagetable-basic", "--alone"]]
        .into_iter()
        .enumerate()
    {
        let outcome = run(&operands);
        checks.report(
            operands[0],
            outcome == Ok(0),
            format_args!("level 2 ended with {outcome:?}"),
        );
        if number == 0 {
            before = Ledger::now();
        }
    }
    let left = before.settle();
    checks.report("everything came back", left.is_ok(), format_args!("{left:?}"));
    checks.finish()
}

/// Runs a program as level 2 and returns its exit status.
fn run(operands: &[&'static str]) -> Result<u8, String> {
    println!("level 1 runs {}", operands.join(" "));
    let mut vkernel = Vkernel::new(RAM).map_err(|errno| alloc::format!("making the vkernel: {errno}"))?;
    vkernel.load(operands)?;
    vkernel.run()
}
