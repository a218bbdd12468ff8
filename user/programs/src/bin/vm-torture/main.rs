//! `vm-torture`: tortures the virtual memory system and checks every answer.
//!
//! The first process is the supervisor: it prints the seed, starts one process after the other, each of which runs a *lap*, kills some of
//! them in the middle, and sees that everything came back. A lap is a row of *rounds*; in a round the threads are dealt into *teams*
//! ([`team`]), each of which tortures one thing, its *family* ([`families`]), all teams at once. Every random choice comes from seed,
//! round and place in the team, so that a round that failed can be repeated by its number.
//!
//! Every family has an oracle of its own: signatures, canaries, words that only grow, a model of what each access must come to.
//! `--self-test` has each family leave out the very thing that it is about - an invalidation, an unmapping - and passes if
//! the oracle finds that.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod families;
mod lap;
mod problem;
mod rounds;
mod self_test;
mod signature;
mod stage;
mod supervisor;
mod team;
mod watch;

use core::time::Duration;
use dragonet_programs::options::{Options, Syntax, usage};
use dragonet_programs::text;
use dragonet_rt::{Arguments, ExitCode, syscall, time};
use lap::Lap;

dragonet_rt::main!(main);

const HELP: &str = "\
usage: vm-torture [-m MINUTES | -t SECONDS] [-s SEED] [-n THREADS] [-f FAMILY] [-r ROUND]
       vm-torture --self-test

Tortures mappings, virtual page tables and vmspaces, checks every answer, and sees that nothing is left.
  -m, --minutes MINUTES  how long; default 1
  -t, --seconds SECONDS  how long
  -s, --seed SEED        repeat the run with this seed; default from the clock
  -n, --threads THREADS  default two for each CPU, at least 4
  -f, --family FAMILY    only this family
  -r, --round ROUND      begin with this round
      --self-test        check that every oracle finds what it is there to find";

const SYNTAX: Syntax = Syntax {
    values: "mtsnfrc",
    flags: "x",
    long: &[
        ("minutes", 'm'),
        ("seconds", 't'),
        ("seed", 's'),
        ("threads", 'n'),
        ("family", 'f'),
        ("round", 'r'),
        ("self-test", 'x'),
    ],
    ..Syntax::new(HELP)
};

fn main(arguments: Arguments) -> ExitCode {
    let options = match SYNTAX.parse(&arguments) {
        Ok(options) => options,
        Err(status) => return status,
    };
    let lap = match lap(&arguments, &options) {
        Ok(lap) => lap,
        Err(status) => return status,
    };
    if options.has('x') {
        self_test::run(&lap)
    } else if options.has('c') {
        lap.run()
    } else {
        supervisor::run(&lap)
    }
}

/// What the command line asks for.
fn lap(arguments: &Arguments, options: &Options) -> Result<Lap, ExitCode> {
    let cpus = syscall::system_info().map_or(1, |information| u64::from(information.cpus));
    let seconds = match options.value('t') {
        Some(text) => {
            text::seconds(text).ok_or_else(|| usage(arguments, format_args!("-t needs seconds")))?
        }
        None => Duration::from_secs(60).saturating_mul(options.number('m', 1)?),
    };
    let only = match options.value('f') {
        None => None,
        Some(wanted) => {
            let found = families::ALL.iter().position(|(name, _)| *name == wanted);
            Some(found.ok_or_else(|| unknown_family(arguments, wanted))?)
        }
    };
    Ok(Lap {
        seed: options.number('s', time::now_nanoseconds())?,
        first: options.number('r', 0)?,
        threads: options.number('n', (2 * cpus).max(4))?.clamp(2, 256),
        only,
        duration: seconds,
        cpus,
    })
}

fn unknown_family(arguments: &Arguments, wanted: &str) -> ExitCode {
    let names: alloc::vec::Vec<&str> = families::ALL.iter().map(|(name, _)| *name).collect();
    usage(
        arguments,
        format_args!("no family is called {wanted}, but {}", names.join(", ")),
    )
}
