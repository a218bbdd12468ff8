//! `top`: shows the busiest processes, again and again.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;
use dragonet_abi::Errno;
use dragonet_programs::options::{Syntax, usage};
use dragonet_programs::table;
use dragonet_programs::text::{fault, seconds};
use dragonet_rt::{Arguments, ExitCode, console, print, println, syscall, system, time};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: top [-n COUNT] [-d SECONDS]

Shows memory, object counts and the busiest processes of the last interval. 'q' ends it.
  -n COUNT    show so many pictures and end; the screen is then not cleared between them
  -d SECONDS  time between two pictures, may have a fraction; default 2";

const SYNTAX: Syntax = Syntax {
    values: "nd",
    ..Syntax::new(HELP)
};
/// Processes shown at most.
const ROWS: usize = 20;

fn main(arguments: Arguments) -> ExitCode {
    let options = match SYNTAX.parse(&arguments) {
        Ok(options) => options,
        Err(status) => return status,
    };
    let count = match options.number('n', 0_u64) {
        Ok(count) => count,
        Err(status) => return status,
    };
    let Some(interval) = options.value('d').map_or(Some(Duration::from_secs(2)), seconds) else {
        return usage(
            &arguments,
            format_args!(
                "'{}' is not a number of seconds",
                options.value('d').unwrap_or("")
            ),
        );
    };
    let mut before = BTreeMap::new();
    let mut since = Duration::ZERO;
    let mut shown = 0;
    loop {
        if count == 0 {
            print!("\x1b[H\x1b[2J");
        }
        let now = time::now();
        before = match show(&before, now - since) {
            Ok(times) => times,
            Err(errno) => return fault("looking at processes", errno),
        };
        since = now;
        shown += 1;
        if shown == count {
            return ExitCode::SUCCESS;
        }
        if count > 0 {
            println!();
            time::sleep(interval);
        } else if wants_to_quit(interval) {
            return ExitCode::SUCCESS;
        }
    }
}

/// Shows one picture. `before` has every process's CPU time `interval` ago; the result has those of now.
fn show(before: &BTreeMap<u64, u64>, interval: Duration) -> Result<BTreeMap<u64, u64>, Errno> {
    let information = syscall::system_info()?;
    let processes = system::processes()?;
    table::print_summary(&information);
    let mut busy: Vec<_> = processes
        .iter()
        .map(|process| {
            (
                process
                    .cpu_time
                    .saturating_sub(before.get(&process.id).copied().unwrap_or(0)),
                process,
            )
        })
        .collect();
    busy.sort_by_key(|(used, process)| (Reverse(*used), process.id));
    print!("  %CPU");
    table::print_header();
    for (used, process) in busy.into_iter().take(ROWS) {
        let tenths = u128::from(used) * 1000 / interval.as_nanos().max(1);
        print!("{:4}.{}", tenths / 10, tenths % 10);
        table::print_process(process);
    }
    Ok(processes
        .iter()
        .map(|process| (process.id, process.cpu_time))
        .collect())
}

/// Waits for the interval or for a key; true if the key was `q`.
fn wants_to_quit(interval: Duration) -> bool {
    let end = time::now() + interval;
    let mut key = [0];
    loop {
        let rest = end.saturating_sub(time::now());
        if rest.is_zero() {
            return false;
        }
        match console::read(&mut key, time::nanoseconds(rest)) {
            Ok(_) if key == *b"q" => return true,
            Ok(_) | Err(Errno::ETIMEDOUT | Errno::EINTR) => {}
            Err(_) => return true,
        }
    }
}
