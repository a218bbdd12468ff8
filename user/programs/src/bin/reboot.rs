//! `reboot`: resets the machine.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use dragonet_abi::system::PowerCommand;
use dragonet_programs::options::{Syntax, usage};
use dragonet_programs::text::fault;
use dragonet_rt::{Arguments, ExitCode, console, syscall, system};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: reboot [STATUS]

Resets the machine. The status, 0 to 255, appears in the kernel's last line; default 0.";

const SYNTAX: Syntax = Syntax {
    operands: (0, 1),
    ..Syntax::new(HELP)
};

fn main(arguments: Arguments) -> ExitCode {
    let options = match SYNTAX.parse(&arguments) {
        Ok(options) => options,
        Err(status) => return status,
    };
    let text = options.operands().first().copied().unwrap_or("0");
    let Ok(status) = text.parse() else {
        return usage(&arguments, format_args!("'{text}' is not a status of 0 to 255"));
    };
    console::flush();
    match system::handle() {
        Ok(system) => fault("power", syscall::power(system, PowerCommand::Reset, status)),
        Err(errno) => fault("power", errno),
    }
}
