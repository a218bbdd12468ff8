//! `vm-torture`: tortures the virtual memory system and checks every answer, see [`dragonet_programs::torture`].
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod families;

use dragonet_programs::torture::Suite;
use dragonet_rt::{Arguments, ExitCode};

dragonet_rt::main!(main);

static SUITE: Suite = Suite {
    program: "vm-torture",
    help: dragonet_programs::torture_help!(
        "vm-torture",
        "Tortures mappings, virtual page tables and vmspaces, checks every answer, and sees that nothing is left."
    ),
    families: &families::ALL,
};

fn main(arguments: Arguments) -> ExitCode {
    SUITE.run(&arguments)
}
