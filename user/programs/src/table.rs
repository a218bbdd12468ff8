//! Tables about the machine, as `ps`, `top` and `vmstat` print them.

use dragonet_abi::process::{
    ProcessInfo, STATE_ENDED, STATE_ENDING, STATE_NEW, STATE_RUNNING, STATE_WAITING,
};
use dragonet_abi::system::SystemInfo;
use dragonet_rt::{println, system};

/// KiB of a page.
const PAGE_KIB: u64 = 4;

/// Prints the column titles of [`print_process`].
pub fn print_header() {
    println!("    ID PARENT STATE   THREADS HANDLES   RSS/K  TABLE/K  VMSPACES     CPU/s NAME");
}

/// Prints a process.
pub fn print_process(process: &ProcessInfo) {
    let state = match process.state {
        STATE_NEW => "new",
        STATE_RUNNING => "running",
        STATE_WAITING => "waiting",
        STATE_ENDING => "ending",
        STATE_ENDED => "ended",
        _ => "?",
    };
    println!(
        "{:6} {:6} {state:7} {:7} {:7} {:7} {:8} {:9} {:5}.{:03} {}",
        process.id,
        process.parent,
        process.threads,
        process.handles,
        process.resident_pages * PAGE_KIB,
        process.table_pages * PAGE_KIB,
        process.vmspaces,
        process.cpu_time / 1_000_000_000,
        process.cpu_time / 1_000_000 % 1000,
        system::text(&process.name),
    );
}

/// Prints memory and object counts.
pub fn print_summary(information: &SystemInfo) {
    let seconds = information.uptime / 1_000_000_000;
    println!(
        "up {}:{:02}:{:02}, {} CPUs, TSC {} MHz",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        information.cpus,
        information.tsc_frequency / 1_000_000
    );
    println!(
        "frames {} total, {} free",
        information.frames_total, information.frames_free
    );
    println!(
        "objects: {} processes, {} threads, {} vmspaces, {} memory objects, {} channels, {} handles",
        information.processes,
        information.threads,
        information.vmspaces,
        information.memory_objects,
        information.channels,
        information.handles
    );
}
