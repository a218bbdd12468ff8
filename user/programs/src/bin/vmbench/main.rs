//! `vmbench`: what operations on memory and threads cost, in instructions and events, and whether nothing happens that must
//! not.
//!
//! On one CPU whose ticks are instructions (QEMU with `--icount`, Bochs) it counts both; on several it counts the events of
//! invalidations that reach other CPUs. `cargo xtask bench` runs it both ways and compares with the budgets.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod calls;
mod fixture;
mod guest_processors;
mod guests;
mod mappings;
mod meter;
mod processors;
mod virtual_tables;

use alloc::string::String;
use alloc::vec::Vec;
use dragonet_abi::process::ThreadControl;
use dragonet_abi::{Errno, Handle};
use dragonet_programs::bench::{Row, Table};
use dragonet_programs::checks::Checks;
use dragonet_programs::guest::{has_guest_mode, require_guest_mode};
use dragonet_programs::options::Syntax;
use dragonet_programs::text::fault;
use dragonet_rt::{Arguments, ExitCode, println, syscall, thread};
use meter::Meter;

dragonet_rt::main!(main);

const HELP: &str = "\
usage: vmbench [-g | -y]

Measures operations on memory and threads, and of threads in guest mode where there is one. On one CPU
whose ticks are instructions (QEMU with --icount, Bochs) each row has instructions (I), events,
modelled cycles, the goal and what Linux takes (in guest mode: KVM); on several CPUs it has the events
of invalidations. Events: exits of guests (X), loads of CR3 (C), flushes of a page, of everything, of
guests by INVVPID and INVEPT (T), IPIs (P), page faults (F), faults of nested page tables (N), reads and
writes of VMCS fields (V). What must not happen at all is a failed test.
  -g        only in guest mode; status 69 if the machine has none
  -y        only give way to other threads, until killed";

const SYNTAX: Syntax = Syntax {
    flags: "gy",
    ..Syntax::new(HELP)
};

fn main(arguments: Arguments) -> ExitCode {
    let options = match SYNTAX.parse(&arguments) {
        Ok(options) => options,
        Err(status) => return status,
    };
    if options.has('y') {
        loop {
            thread::yield_now();
        }
    }
    let only_guests = options.has('g');
    if only_guests && let Err(status) = require_guest_mode() {
        return status;
    }
    match run(only_guests) {
        Ok(status) => status,
        Err(errno) => fault("measuring", errno),
    }
}

/// What is measured, and what must be.
#[derive(Default)]
struct Results {
    rows: Vec<Row>,
    /// What happened how often, and how often it had to. Said at the end: printing makes other CPUs work.
    expectations: Vec<(String, u64, u64)>,
}

impl Results {
    /// Checks that an event happened exactly so often.
    fn exactly(&mut self, name: &str, seen: u64, wanted: u64) {
        self.expectations.push((String::from(name), seen, wanted));
    }

    /// Says whether everything happened as often as it had to.
    fn check(&self) -> ExitCode {
        let mut checks = Checks::default();
        for (name, seen, wanted) in &self.expectations {
            checks.report(name, seen == wanted, format_args!("{seen} instead of {wanted}"));
        }
        checks.finish()
    }
}

fn run(only_guests: bool) -> Result<ExitCode, Errno> {
    let cpus = syscall::system_info()?.cpus;
    // On one CPU of several, so that counters and IPIs are those of this thread.
    syscall::thread_control(Handle::SELF_THREAD, ThreadControl::SetAffinity, 1)?;
    println!(
        "vmbench: {}, {cpus} CPUs, {} build, nothing is random",
        processor(),
        if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        }
    );
    let meter = Meter::new(cpus)?;
    let mut results = Results::default();
    if !only_guests {
        if cpus == 1 {
            calls::measure(&meter, &mut results)?;
            mappings::measure(&meter, &mut results)?;
            virtual_tables::measure(&meter, &mut results)?;
        } else {
            processors::measure(&meter, &mut results, cpus)?;
        }
        print(&meter, &Table::HOST, &results.rows);
        results.rows.clear();
    }
    if has_guest_mode() {
        if cpus == 1 {
            guests::measure(cpus, &mut results)?;
        } else {
            guest_processors::measure(&mut results, cpus)?;
        }
        print(&meter, &Table::GUEST, &results.rows);
    } else {
        println!("nothing is measured in guest mode: this machine has none, 'vmm' says why");
    }
    Ok(results.check())
}

fn print(meter: &Meter, table: &Table, rows: &[Row]) {
    println!("{}", table.titles());
    rows.iter().for_each(|row| println!("{}", table.line(row)));
    if meter.counts() {
        println!("{}", table.weights);
    } else {
        println!("no instructions: the ticks of this machine do not count those of one CPU");
    }
}

fn processor() -> String {
    raw_cpuid::CpuId::new().get_processor_brand_string().map_or_else(
        || String::from("unknown CPU"),
        |name| String::from(name.as_str().trim()),
    )
}
