//! `reboot`: resets the machine.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use dragonet_abi::system::PowerCommand;
use dragonet_programs::power::end_machine;
use dragonet_rt::{Arguments, ExitCode};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: reboot [STATUS]

Resets the machine. The status, 0 to 255, appears in the kernel's last line; default 0.";

fn main(arguments: Arguments) -> ExitCode {
    end_machine(&arguments, HELP, PowerCommand::Reset)
}
