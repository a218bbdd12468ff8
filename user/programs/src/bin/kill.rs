//! `kill`: ends processes.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use core::time::Duration;
use dragonet_abi::Errno;
use dragonet_programs::options::{Syntax, usage};
use dragonet_rt::{Arguments, ExitCode, eprintln, syscall, system, time};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: kill [-s STATUS] PROCESS...

Ends processes at once and waits until everything they owned is freed. PROCESS is an id from 'ps',
or in the shell %N for job N.
  -s STATUS  the status with which they end, 0 to 255; default 137";

const SYNTAX: Syntax = Syntax {
    values: "s",
    operands: (1, usize::MAX),
    ..Syntax::new(HELP)
};

/// How long a process may take to go before that is reported.
const PATIENCE: Duration = Duration::from_secs(10);

fn main(arguments: Arguments) -> ExitCode {
    let options = match SYNTAX.parse(&arguments) {
        Ok(options) => options,
        Err(status) => return status,
    };
    let status = match options.number('s', 137) {
        Ok(status) => status,
        Err(status) => return status,
    };
    let mut outcome = ExitCode::SUCCESS;
    for text in options.operands() {
        let Ok(process) = text.parse() else {
            return usage(&arguments, format_args!("'{text}' is not a process id"));
        };
        if let Err(errno) = kill(process, status) {
            eprintln!("kill: process {process}: {errno}");
            outcome = ExitCode::FAILURE;
        }
    }
    outcome
}

fn kill(process: u64, status: u8) -> Result<(), Errno> {
    let process = syscall::process_open(system::handle()?, process)?;
    syscall::process_kill(process.get(), status)?;
    syscall::process_wait(process.get(), time::nanoseconds(PATIENCE)).map(drop)
}
