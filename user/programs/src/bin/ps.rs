//! `ps`: lists processes.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use dragonet_programs::options::Syntax;
use dragonet_programs::table;
use dragonet_programs::text::fault;
use dragonet_rt::{Arguments, ExitCode, system};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: ps

Lists the processes: id, id of the creator, state, threads, open handles, resident memory and page
tables in KiB, vmspaces created as a vkernel, CPU time in seconds, name.";

fn main(arguments: Arguments) -> ExitCode {
    if let Err(status) = Syntax::new(HELP).parse(&arguments) {
        return status;
    }
    match system::processes() {
        Ok(processes) => {
            table::print_header();
            processes.iter().for_each(table::print_process);
            ExitCode::SUCCESS
        }
        Err(errno) => fault("listing processes", errno),
    }
}
