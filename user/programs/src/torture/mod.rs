//! Torture: programs that play with one part of the kernel, many threads at once, and check every answer.
//!
//! The first process is the supervisor: it prints the seed, starts one process after the other, each of which runs a *lap*, kills some of
//! them in the middle, and sees that everything came back. A lap is a row of *rounds*; in a round the threads are dealt into *teams*
//! ([`team`]), each of which tortures one thing, its *family* ([`Suite::families`]), all teams at once. Every random choice comes from seed,
//! round and place in the team, so that a round that failed can be repeated by its number.
//!
//! Every family has an oracle of its own: signatures, canaries, words that only grow, a model of what each access must come to.
//! `--self-test` has each family leave out the very thing that it is about - an invalidation, an unmapping - and passes if
//! the oracle finds that.

mod lap;
pub mod problem;
mod rounds;
mod self_test;
pub mod signature;
pub mod stage;
mod supervisor;
pub mod team;
mod watch;

use crate::options::{Options, Syntax, usage};
use crate::text;
use core::time::Duration;
use dragonet_rt::{Arguments, ExitCode, syscall, time};
use lap::Lap;
use problem::Outcome;
use team::Team;

/// A family: its name, and what plays it.
pub type Family = (&'static str, fn(&mut Team) -> Outcome);

/// A torture program.
#[derive(Debug)]
pub struct Suite {
    /// Its name, by which it starts itself.
    pub program: &'static str,
    /// What `--help` says.
    pub help: &'static str,
    /// What it plays.
    pub families: &'static [Family],
}

/// Help for the options that all torture programs have.
#[macro_export]
macro_rules! torture_help {
    ($program:literal, $about:literal) => {
        concat!(
            "usage: ",
            $program,
            " [-m MINUTES | -t SECONDS] [-s SEED] [-n THREADS] [-f FAMILY] [-r ROUND]\n       ",
            $program,
            " --self-test\n\n",
            $about,
            "
  -m, --minutes MINUTES  how long; default 1
  -t, --seconds SECONDS  how long
  -s, --seed SEED        repeat the run with this seed; default from the clock
  -n, --threads THREADS  default two for each CPU, at least 4
  -f, --family FAMILY    only this family
  -r, --round ROUND      begin with this round
      --self-test        check that every oracle finds what it is there to find"
        )
    };
}

impl Suite {
    /// Does what the command line asks for.
    pub fn run(&'static self, arguments: &Arguments) -> ExitCode {
        let syntax = Syntax {
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
            ..Syntax::new(self.help)
        };
        let options = match syntax.parse(arguments) {
            Ok(options) => options,
            Err(status) => return status,
        };
        let lap = match self.lap(arguments, &options) {
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
    fn lap(&'static self, arguments: &Arguments, options: &Options) -> Result<Lap, ExitCode> {
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
                let found = self.families.iter().position(|(name, _)| *name == wanted);
                Some(found.ok_or_else(|| self.unknown_family(arguments, wanted))?)
            }
        };
        Ok(Lap {
            suite: self,
            seed: options.number('s', time::now_nanoseconds())?,
            first: options.number('r', 0)?,
            threads: options.number('n', (2 * cpus).max(4))?.clamp(2, 256),
            only,
            duration: seconds,
            cpus,
        })
    }

    fn unknown_family(&self, arguments: &Arguments, wanted: &str) -> ExitCode {
        let names: alloc::vec::Vec<&str> = self.families.iter().map(|(name, _)| *name).collect();
        usage(
            arguments,
            format_args!("no family is called {wanted}, but {}", names.join(", ")),
        )
    }
}
