//! Files whose contents are made when they are opened: the few of `/proc` that programs and their C library read.

use crate::kernel::kernel;
use crate::memory::area::{Protection, Source};
use crate::process::Task;
use alloc::format;
use alloc::string::String;
use core::fmt::Write;

/// What a generated file tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The caller's memory areas.
    Maps,
    /// The CPUs.
    Processors,
    /// Memory in all, and free.
    Memory,
}

impl Report {
    /// The text for the task that opens the file.
    pub fn text(self, task: &Task) -> String {
        match self {
            Report::Maps => maps(task),
            Report::Processors => (0..kernel().options().cpus)
                .map(|cpu| format!("processor\t: {cpu}\nmodel name\t: Dragonet virtual CPU\n\n"))
                .collect(),
            Report::Memory => {
                let (total, free) = kernel().memory().statistics();
                let kib = |frames: u32| u64::from(frames) * 4;
                format!(
                    "MemTotal: {:12} kB\nMemFree: {:13} kB\nMemAvailable: {:8} kB\n",
                    kib(total),
                    kib(free),
                    kib(free)
                )
            }
        }
    }
}

/// As Linux has it (proc_pid_maps(5)); the C library looks for its stack there.
fn maps(task: &Task) -> String {
    let mut text = String::new();
    let stack = task.run_state.registers.rsp;
    for area in task.space.areas().iter() {
        let letter = |right, letter| {
            if area.protection.contains(right) {
                letter
            } else {
                '-'
            }
        };
        let (offset, inode) = match &area.source {
            Source::Anonymous => (0, 0),
            Source::Object { object, offset, .. } => (*offset, object.id()),
        };
        let name = if (area.start..area.end).contains(&stack) {
            "[stack]"
        } else {
            ""
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:08x}-{:08x} {}{}{}{} {offset:08x} 00:01 {inode:<10} {name}",
            area.start,
            area.end,
            letter(Protection::READ, 'r'),
            letter(Protection::WRITE, 'w'),
            letter(Protection::EXECUTE, 'x'),
            if area.shared { 's' } else { 'p' },
        );
    }
    text
}
