//! `two-vkernels`: two vkernels work at once, one is killed in the middle, the other must go on and finish, and nothing of
//! either may be left on the machine.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use core::time::Duration;
use dragonet_abi::process::{ENDED_EXIT, ENDED_KILLED};
use dragonet_programs::checks::Checks;
use dragonet_programs::ledger::Ledger;
use dragonet_programs::options::Syntax;
use dragonet_rt::process::{Child, Command};
use dragonet_rt::{Arguments, ExitCode, println, time};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: two-vkernels [--rounds ROUNDS]

Starts two vkernels, kills one in the middle of its work, lets the other finish, and checks that
everything of both came back.
  -n, --rounds ROUNDS  how often, after a first round that fills the kernel's caches; default 2";

const SYNTAX: Syntax = Syntax {
    values: "n",
    long: &[("rounds", 'n')],
    ..Syntax::new(HELP)
};

/// The status with which the victim is killed.
const KILLED: u8 = 77;
/// How long the victim works before it is killed.
const HEAD_START: Duration = Duration::from_millis(1500);
/// More work than any machine does before the kill.
const ENDLESS: &str = "/bin/work 1000000 2";
/// Work that outlives the kill.
const BOUNDED: &str = "/bin/work 6 2";

fn main(arguments: Arguments) -> ExitCode {
    let rounds = match SYNTAX
        .parse(&arguments)
        .and_then(|options| options.number('n', 2_u32))
    {
        Ok(rounds) => rounds,
        Err(status) => return status,
    };
    let mut checks = Checks::default();
    let mut before = Ledger::now();
    for round in 0..=rounds {
        let outcome = one_round();
        report(
            &mut checks,
            &format!("round {round}: one killed, the other finishes"),
            outcome,
        );
        if round == 0 {
            before = Ledger::now();
        } else {
            report(
                &mut checks,
                &format!("round {round}: everything came back"),
                before.settle(),
            );
        }
    }
    checks.finish()
}

fn report(checks: &mut Checks, name: &str, outcome: Result<(), String>) {
    match outcome {
        Ok(()) => checks.report(name, true, format_args!("")),
        Err(problem) => checks.report(name, false, format_args!("{problem}")),
    }
}

fn start(work: &str) -> Result<Child, String> {
    Command::new("vkernel")
        .arguments(["-n", "2", "-m", "32M", "-c", work])
        .spawn()
        .map_err(|error| format!("starting a vkernel: {error}"))
}

fn one_round() -> Result<(), String> {
    let victim = start(ENDLESS)?;
    let survivor = start(BOUNDED)?;
    time::sleep(HEAD_START);
    victim
        .kill(KILLED)
        .map_err(|errno| format!("killing one: {errno}"))?;
    let ending = victim
        .wait()
        .map_err(|errno| format!("waiting for the victim: {errno}"))?;
    let status = ending.0;
    if status.reason != ENDED_KILLED || status.status != u32::from(KILLED) {
        return Err(format!("the victim was to be killed, but: {ending}"));
    }
    println!("two-vkernels: the victim is gone, the other goes on");
    let ending = survivor
        .wait()
        .map_err(|errno| format!("waiting for the survivor: {errno}"))?;
    let status = ending.0;
    if status.reason == ENDED_EXIT && status.status == 0 {
        Ok(())
    } else {
        Err(format!("the survivor was to finish, but: {ending}"))
    }
}
