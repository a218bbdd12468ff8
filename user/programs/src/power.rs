//! The end of the machine's run: what `poweroff` and `reboot` share.

use crate::options::{Syntax, usage};
use crate::text::fault;
use dragonet_abi::system::PowerCommand;
use dragonet_rt::{Arguments, ExitCode, console, syscall, system};

/// Takes the optional operand, a status of 0 to 255, and gives the command to the kernel. Returns only if it was refused.
pub fn end_machine(arguments: &Arguments, help: &'static str, command: PowerCommand) -> ExitCode {
    let syntax = Syntax {
        operands: (0, 1),
        ..Syntax::new(help)
    };
    let options = match syntax.parse(arguments) {
        Ok(options) => options,
        Err(status) => return status,
    };
    let text = options.operands().first().copied().unwrap_or("0");
    let Ok(status) = text.parse() else {
        return usage(arguments, format_args!("'{text}' is not a status of 0 to 255"));
    };
    console::flush();
    match system::handle() {
        Ok(system) => fault("power", syscall::power(system, command, status)),
        Err(errno) => fault("power", errno),
    }
}
