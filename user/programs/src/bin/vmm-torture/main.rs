//! `vmm-torture`: guests that do everything wrong that a program at privilege level 3 can, beside guests and ordinary programs that do
//! right and see to it that they are not disturbed, see [`dragonet_programs::torture`].
//!
//! Each lap is a process, so a guest of its own. Its threads go in and out of guest mode all the time ([`guest_mode`]), whoever finds nobody
//! there is the master, and move from CPU to CPU. Inside they are vkernels, which build page tables for users ([`users`]) and run them.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod bench;
#[allow(unsafe_code)]
mod canary;
mod families;
mod guest_mode;
mod instructions;
#[allow(unsafe_code)]
mod raw;
mod users;
mod walk;

use dragonet_programs::guest::require_guest_mode;
use dragonet_programs::torture::Suite;
use dragonet_rt::{Arguments, ExitCode};

dragonet_rt::main!(main);

static SUITE: Suite = Suite {
    program: "vmm-torture",
    help: dragonet_programs::torture_help!(
        "vmm-torture",
        "Tortures guest mode, checks every answer, and sees that nothing is left. Status 69 if the machine has no guest mode."
    ),
    families: &families::ALL,
};

fn main(arguments: Arguments) -> ExitCode {
    match require_guest_mode() {
        Ok(()) => SUITE.run(&arguments),
        Err(status) => status,
    }
}
