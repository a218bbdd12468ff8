//! `vmstat`: memory, object counts, event counters.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;
use dragonet_abi::Errno;
use dragonet_abi::counters::{ALL_CPUS, Counter, LONGEST_NAME};
use dragonet_programs::options::Syntax;
use dragonet_programs::table;
use dragonet_programs::text::fault;
use dragonet_rt::{Arguments, ExitCode, print, println, syscall, system};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: vmstat [-c] [-v]

Shows how many frames of memory are free, how many kernel objects of each kind exist, and the
event counters that are not zero.
  -c        a column of counters for each CPU
  -v        all counters, zero or not, in groups";

const SYNTAX: Syntax = Syntax {
    flags: "cv",
    ..Syntax::new(HELP)
};

/// Width of the column with the names.
const NAMES: usize = LONGEST_NAME + 2;

fn main(arguments: Arguments) -> ExitCode {
    let options = match SYNTAX.parse(&arguments) {
        Ok(options) => options,
        Err(status) => return status,
    };
    match show(options.has('c'), options.has('v')) {
        Ok(()) => ExitCode::SUCCESS,
        Err(errno) => fault("reading the machine's state", errno),
    }
}

fn show(per_cpu: bool, all: bool) -> Result<(), Errno> {
    let information = syscall::system_info()?;
    table::print_summary(&information);
    let total = system::counters(ALL_CPUS)?;
    let mut columns = Vec::new();
    if per_cpu {
        print!("{:NAMES$}{:>14}", "", "all");
        for cpu in 0..u64::from(information.cpus) {
            columns.push(system::counters(cpu)?);
            print!("{:>12}", alloc::format!("cpu{cpu}"));
        }
        println!();
    }
    let indent = if all { 2 } else { 0 };
    let mut group = None;
    for counter in Counter::ALL {
        if all && group != Some(counter.group()) {
            group = Some(counter.group());
            println!("{}:", counter.group().title());
        }
        let index = *counter as usize;
        if all || total[index] != 0 {
            let name = alloc::format!("{:indent$}{}", "", counter.name());
            print!("{name:NAMES$}{:14}", total[index]);
            for column in &columns {
                print!("{:12}", column[index]);
            }
            println!();
        }
    }
    Ok(())
}
