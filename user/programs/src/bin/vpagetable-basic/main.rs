//! `vpagetable-basic`: what a virtual page table promises, checked from outside.
//!
//! It begins with the test that came with the announcement of `MAP_VPAGETABLE` for DragonFly BSD in September 2006 (module
//! [`aliases`]). The other modules go through the contract one concept at a time: memory beyond 4 GiB, rights at every level, large
//! pages, accessed and dirty bits, several vmspaces, tables that make no sense, roots, invalidation, copies by the kernel.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod aliases;
mod far_memory;
mod hostile;
mod invalidation;
mod large_pages;
mod machine;
mod marks;
mod rights;
mod roots;
mod sharing;
mod transfers;

use dragonet_abi::Errno;
use dragonet_programs::checks::Checks;
use dragonet_programs::ledger::Ledger;
use dragonet_programs::options::Syntax;
use dragonet_programs::text::fault;
use dragonet_rt::{Arguments, ExitCode};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: vpagetable-basic [--alone] [-f]

Maps memory through page tables stored in it, and checks what must be seen and what must fault.
  -a, --alone  without what needs other threads or processes
  -f           only make the access of the test of 2006 that must fault, and die of it";

const SYNTAX: Syntax = Syntax {
    flags: "af",
    long: &[("alone", 'a')],
    ..Syntax::new(HELP)
};

type Part = fn(&mut Checks) -> Result<(), Errno>;

const PARTS: [Part; 10] = [
    aliases::run,
    far_memory::run,
    rights::run,
    large_pages::run,
    marks::run,
    sharing::run,
    hostile::run,
    roots::run,
    invalidation::run,
    transfers::run,
];
/// Parts that need other threads or processes.
const IN_COMPANY: [Part; 2] = [aliases::in_a_process, roots::while_all_run];

fn main(arguments: Arguments) -> ExitCode {
    let options = match SYNTAX.parse(&arguments) {
        Ok(options) => options,
        Err(status) => return status,
    };
    if options.has('f') {
        return aliases::fault_here().unwrap_or_else(|errno| fault("preparing the test", errno));
    }
    let mut checks = Checks::default();
    // The first part makes what stays: heap, memory lent to the console.
    let mut before = Ledger::now();
    let company = if options.has('a') { &[][..] } else { &IN_COMPANY };
    for (number, part) in company.iter().chain(&PARTS).enumerate() {
        if let Err(errno) = part(&mut checks) {
            return fault("preparing a test", errno);
        }
        if number == 0 {
            before = Ledger::now();
        }
    }
    if !options.has('a') {
        let left = before.settle();
        checks.report("everything came back", left.is_ok(), format_args!("{left:?}"));
    }
    checks.finish()
}
