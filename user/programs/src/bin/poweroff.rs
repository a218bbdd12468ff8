//! `poweroff`: turns the machine off.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use dragonet_abi::system::PowerCommand;
use dragonet_programs::power::end_machine;
use dragonet_rt::{Arguments, ExitCode};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: poweroff [STATUS]

Turns the machine off. The status, 0 to 255, is what the emulator's runner reports; default 0.";

fn main(arguments: Arguments) -> ExitCode {
    end_machine(&arguments, HELP, PowerCommand::Off)
}
