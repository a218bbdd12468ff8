//! `crash`: does something fatal, in one of many ways.
//!
//! `crash all` does each of them in a process of its own and checks that it died of the right exception and alone. The ways
//! are in `kinds`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod kinds;

use dragonet_abi::process::{ENDED_EXCEPTION, ENDED_EXIT};
use dragonet_programs::checks::Checks;
use dragonet_programs::options::{Syntax, usage};
use dragonet_rt::process::{Command, Ending, SpawnError};
use dragonet_rt::{Arguments, ExitCode, console, eprintln, println};
use kinds::{End, KINDS, Kind};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: crash KIND
       crash all
       crash list

Does something fatal. 'crash all' does each kind in a process of its own and checks how it died;
'crash list' names the kinds.";

const SYNTAX: Syntax = Syntax {
    operands: (1, 1),
    ..Syntax::new(HELP)
};

fn main(arguments: Arguments) -> ExitCode {
    let options = match SYNTAX.parse(&arguments) {
        Ok(options) => options,
        Err(status) => return status,
    };
    match options.operands()[0] {
        "all" => run_all(),
        "list" => {
            KINDS.iter().for_each(|kind| println!("{}", kind.name));
            ExitCode::SUCCESS
        }
        name => match KINDS.iter().find(|kind| kind.name == name) {
            Some(kind) => {
                console::flush();
                (kind.act)();
                eprintln!("crash: {name}: still alive");
                ExitCode::FAILURE
            }
            None => usage(&arguments, format_args!("no kind '{name}'")),
        },
    }
}

fn run_all() -> ExitCode {
    let mut checks = Checks::default();
    for kind in KINDS {
        match run_child(kind) {
            Ok(ending) => {
                println!("crash {}: {ending}", kind.name);
                checks.report(
                    kind.name,
                    is_expected(kind, ending),
                    format_args!("should be {:?}", kind.end),
                );
            }
            Err(problem) => checks.report(kind.name, false, format_args!("could not be run: {problem}")),
        }
    }
    checks.finish()
}

fn run_child(kind: &Kind) -> Result<Ending, SpawnError> {
    Ok(Command::new("crash").argument(kind.name).spawn()?.wait()?)
}

fn is_expected(kind: &Kind, ending: Ending) -> bool {
    match kind.end {
        End::Exception(vectors) => ending.0.reason == ENDED_EXCEPTION && vectors.contains(&ending.0.status),
        End::Status(status) => ending.0.reason == ENDED_EXIT && ending.0.status == status,
    }
}
