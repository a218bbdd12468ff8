//! `time`: runs a command and says how long it took.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use dragonet_programs::options::Syntax;
use dragonet_programs::text::{as_seconds, fault};
use dragonet_rt::process::{Command, SpawnError};
use dragonet_rt::{Arguments, ExitCode, console, eprintln, system, time};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: time COMMAND [ARGUMENT...]

Runs a command and prints how long it took, and how many system calls and context switches the
whole machine made meanwhile. The status is the command's.";

const SYNTAX: Syntax = Syntax {
    operands: (1, usize::MAX),
    stops_at_operand: true,
    ..Syntax::new(HELP)
};

fn main(arguments: Arguments) -> ExitCode {
    let options = match SYNTAX.parse(&arguments) {
        Ok(options) => options,
        Err(status) => return status,
    };
    let name = options.operands()[0];
    let before = system::counters(dragonet_abi::counters::ALL_CPUS);
    let start = time::now();
    let child = match Command::new(name)
        .arguments(options.operands()[1..].iter().copied())
        .spawn()
    {
        Ok(child) => child,
        Err(SpawnError::NotFound) => {
            eprintln!("time: {name}: command not found");
            return ExitCode(127);
        }
        Err(problem) => {
            eprintln!("time: {name}: {problem}");
            return ExitCode(126);
        }
    };
    // The interrupt key ends the command and not this program, which still has something to say.
    let _ = console::set_foreground(child.handle());
    let ending = child.wait();
    let elapsed = time::now() - start;
    let _ = console::clear_foreground();
    let ending = match ending {
        Ok(ending) => ending,
        Err(errno) => return fault("waiting", errno),
    };
    if !ending.is_exit() {
        eprintln!("time: {name}: {ending}");
    }
    eprintln!("{} seconds", as_seconds(elapsed));
    if let (Ok(before), Ok(after)) = (before, system::counters(dragonet_abi::counters::ALL_CPUS)) {
        use dragonet_abi::counters::Counter;
        let count = |counter: Counter| after[counter as usize] - before[counter as usize];
        let (calls, switches) = (count(Counter::Syscall), count(Counter::ContextSwitch));
        eprintln!("{calls} system calls, {switches} context switches");
    }
    ExitCode(ending.status())
}
