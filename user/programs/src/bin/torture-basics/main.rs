//! `torture-basics`: hurries threads, waits, channels and processes, and checks that every step gives the right answer and
//! that nothing is left of them afterwards.
//!
//! Every random choice comes from a printed seed, so that a run can be repeated. Each part is in a file of its own.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod channels;
mod limits;
mod own_handles;
mod processes;
mod threads;
mod vmspaces;
mod waits;

use dragonet_abi::Errno;
use dragonet_programs::checks::Checks;
use dragonet_programs::ledger::Ledger;
use dragonet_programs::options::Syntax;
use dragonet_programs::random::Random;
use dragonet_rt::{Arguments, ExitCode, println, time};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: torture-basics [--seed SEED] [--rounds ROUNDS] [--part PART]

Creates and ends threads, processes and channels in a hurry and checks that nothing is left.
  -s, --seed SEED      repeat the run with this seed; default from the clock
  -n, --rounds ROUNDS  how often each part is run; default 4
  -p, --part PART      only this part: threads, waits, channels, handles, vmspaces,
                       limits or processes";

const SYNTAX: Syntax = Syntax {
    values: "snpc",
    long: &[("seed", 's'), ("rounds", 'n'), ("part", 'p')],
    ..Syntax::new(HELP)
};

type Part = fn(&mut Random) -> Result<(), Problem>;

const PARTS: [(&str, Part); 7] = [
    ("threads", threads::run),
    ("waits", waits::run),
    ("channels", channels::run),
    ("handles", own_handles::run),
    ("vmspaces", vmspaces::run),
    ("limits", limits::run),
    ("processes", processes::run),
];

/// What went wrong.
pub enum Problem {
    /// The kernel refused something.
    Refused(&'static str, Errno),
    /// An answer is wrong.
    Wrong(alloc::string::String),
}

impl core::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Problem::Refused(what, errno) => write!(formatter, "{what}: {errno}"),
            Problem::Wrong(what) => formatter.write_str(what),
        }
    }
}

/// Names what was being done when the kernel refused it.
pub fn doing(what: &'static str) -> impl Fn(Errno) -> Problem {
    move |errno| Problem::Refused(what, errno)
}

fn main(arguments: Arguments) -> ExitCode {
    let options = match SYNTAX.parse(&arguments) {
        Ok(options) => options,
        Err(status) => return status,
    };
    if let Some(mode) = options.value('c') {
        return processes::be_a_child(mode);
    }
    let (seed, rounds) = match (
        options.number('s', time::now_nanoseconds()),
        options.number('n', 4_u32),
    ) {
        (Ok(seed), Ok(rounds)) => (seed, rounds),
        (Err(status), _) | (_, Err(status)) => return status,
    };
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut checks = Checks::default();
    for (name, part) in PARTS
        .iter()
        .filter(|(name, _)| options.value('p').is_none_or(|wanted| wanted == *name))
    {
        // The first round makes what stays: heap, stacks to be reused, caches of the kernel.
        let mut outcome = part(&mut random);
        let before = Ledger::now();
        for _ in 0..rounds {
            outcome = outcome.and_then(|()| part(&mut random));
        }
        let left = outcome.and_then(|()| before.settle().map_err(Problem::Wrong));
        match left {
            Ok(()) => checks.report(name, true, format_args!("")),
            Err(problem) => checks.report(name, false, format_args!("{problem}")),
        }
    }
    checks.finish()
}
