//! `service`: lists and restarts the services that `init` supervises.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

use dragonet_abi::Errno;
use dragonet_abi::startup::ROLE_SUPERVISOR;
use dragonet_programs::options::{Syntax, usage};
use dragonet_programs::text::fault;
use dragonet_rt::supervisor_protocol as protocol;
use dragonet_rt::{Arguments, ExitCode, channel, console_protocol, eprintln, println, startup, system};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: service [list]
       service restart NAME

Lists the services that init supervises (state, process, restarts, name), or has one started anew.";

const SYNTAX: Syntax = Syntax {
    operands: (0, 2),
    ..Syntax::new(HELP)
};

fn main(arguments: Arguments) -> ExitCode {
    let options = match SYNTAX.parse(&arguments) {
        Ok(options) => options,
        Err(status) => return status,
    };
    let outcome = match options.operands() {
        [] | ["list"] => list(),
        ["restart", name] => match restart(name) {
            Err(Errno::ENOENT) => {
                eprintln!("service: {name}: no such service");
                return ExitCode::FAILURE;
            }
            outcome => outcome,
        },
        _ => return usage(&arguments, format_args!("unknown request")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(errno) => fault("asking the supervisor", errno),
    }
}

fn ask(label: u32, words: [u64; 6]) -> Result<[u64; 6], Errno> {
    let supervisor = startup::role(ROLE_SUPERVISOR).ok_or(Errno::ENODEV)?;
    let reply = channel::call(supervisor, label, words)?;
    match reply.info.label() {
        0 => Ok(reply.words),
        number => Err(Errno::from_number(number as u16).unwrap_or(Errno::EIO)),
    }
}

fn list() -> Result<(), Errno> {
    println!("{:8} {:>8} {:>8}  NAME", "STATE", "PROCESS", "RESTARTS");
    for index in 0.. {
        let [state, process, restarts, name @ ..] = match ask(protocol::SERVICE, [index, 0, 0, 0, 0, 0]) {
            Err(Errno::ENOENT) => break,
            outcome => outcome?,
        };
        let state = match state {
            protocol::STATE_RUNNING => "running",
            protocol::STATE_WAITING => "waiting",
            protocol::STATE_FAILED => "failed",
            _ => "?",
        };
        let bytes = console_protocol::unpack(&[name[0], name[1], name[2], 0, 0, 0]);
        println!("{state:8} {process:8} {restarts:8}  {}", system::text(&bytes));
    }
    Ok(())
}

fn restart(name: &str) -> Result<(), Errno> {
    if name.len() > protocol::MAX_NAME {
        return Err(Errno::ENOENT);
    }
    ask(protocol::RESTART, console_protocol::pack(name.as_bytes())).map(drop)
}
