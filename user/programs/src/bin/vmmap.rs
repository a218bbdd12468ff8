//! `vmmap`: what a process has mapped.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use dragonet_abi::Errno;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::Protection;
use dragonet_abi::process::ProcessInfo;
use dragonet_abi::vmspace::{EntryFlags, EntryInfo, EntryKind, VmspaceInfo};
use dragonet_programs::options::{Syntax, usage};
use dragonet_programs::text::fault;
use dragonet_rt::{Arguments, ExitCode, OwnedHandle, eprintln, println, syscall, system};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: vmmap PROCESS

Shows the mappings of a process's address space: first address and the one above the last, accesses
allowed now and at most, kind, what backs it, the object's id, offset in the object, KiB in all, KiB
with a translation now, KiB of memory that the object and the private copies own (wherever mapped),
and the root entry of a virtual page table. Then the memory that page tables take, and totals. If the
process is a vkernel, each vmspace that it has made for its users: threads that run in it, mappings,
KiB in all, KiB with a translation now, KiB of its page table.
The status is 3 if there is no such process.";

const SYNTAX: Syntax = Syntax {
    operands: (1, 1),
    ..Syntax::new(HELP)
};

/// The status if there is no such process.
const NO_PROCESS: ExitCode = ExitCode(3);
const PAGE_KIB: u64 = PAGE_SIZE >> 10;

fn main(arguments: Arguments) -> ExitCode {
    let options = match SYNTAX.parse(&arguments) {
        Ok(options) => options,
        Err(status) => return status,
    };
    let text = options.operands()[0];
    let Ok(process) = text.parse() else {
        return usage(&arguments, format_args!("'{text}' is not a process id"));
    };
    match open(process).and_then(|opened| show(process, &opened)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Errno::ESRCH) => {
            eprintln!("vmmap: there is no process {process}; 'ps' lists those that there are");
            NO_PROCESS
        }
        Err(errno) => fault("looking at the process", errno),
    }
}

fn open(process: u64) -> Result<OwnedHandle, Errno> {
    syscall::process_open(system::handle()?, process)
}

fn show(id: u64, opened: &OwnedHandle) -> Result<(), Errno> {
    let process = information(id)?;
    let vmspace = syscall::process_vmspace(opened.get())?;
    let mappings = system::mappings(vmspace.get())?;
    println!("process {id}, {}", system::text(&process.name));
    println!(
        "           START             END RIGHTS MOST KIND       BACKING  OBJECT         OFFSET      SIZE/K  MAPPED/K  MEMORY/K"
    );
    mappings.iter().for_each(print);
    let total = |of: fn(&EntryInfo) -> u64| {
        mappings
            .iter()
            .map(of)
            .fold(0, |sum: u64, one| sum.saturating_add(one))
    };
    println!(
        "{} mappings, {} KiB, of which {} KiB have a translation; page table: {} KiB",
        mappings.len(),
        total(|mapping| (mapping.end - mapping.start) >> 10),
        total(|mapping| mapping.mapped_pages) * PAGE_KIB,
        process.table_pages * PAGE_KIB
    );
    show_guests(&system::guest_vmspaces(opened.get())?);
    Ok(())
}

/// What it has made for its users; nothing if it is no vkernel.
fn show_guests(guests: &[VmspaceInfo]) {
    if guests.is_empty() {
        return;
    }
    println!("    USERS' VMSPACE  THREADS  MAPPINGS          SIZE/K  MAPPED/K   TABLE/K");
    for guest in guests {
        println!(
            "{:18}{:9}{:10}{:16}{:10}{:10}",
            guest.id,
            guest.running,
            guest.mappings,
            guest.mapped_bytes >> 10,
            guest.resident_pages * PAGE_KIB,
            guest.table_pages * PAGE_KIB,
        );
    }
}

fn information(id: u64) -> Result<ProcessInfo, Errno> {
    let processes = system::processes()?;
    processes
        .into_iter()
        .find(|process| process.id == id)
        .ok_or(Errno::ESRCH)
}

fn print(mapping: &EntryInfo) {
    let kind = match EntryKind::from_number(mapping.kind) {
        Some(EntryKind::Shared) => "shared",
        Some(EntryKind::Private) => "private",
        Some(EntryKind::Vpagetable) => "vpagetable",
        Some(EntryKind::Ungrown) => "ungrown",
        Some(EntryKind::Guard) => "guard",
        None => "?",
    };
    let flags = EntryFlags::from_bits_truncate(mapping.flags);
    let backing = if flags.contains(EntryFlags::DEVICE) {
        "device"
    } else if flags.contains(EntryFlags::MODULE) {
        "module"
    } else if flags.contains(EntryFlags::STACK) {
        "stack"
    } else if flags.contains(EntryFlags::ANONYMOUS) {
        "own"
    } else {
        "object"
    };
    let root = if mapping.root.0 == 0 {
        String::new()
    } else {
        format!("  root {:#x}", mapping.root.0)
    };
    println!(
        "{:#16x}{:#16x} {:6} {:4} {kind:10} {backing:7} {:7} {:#14x}{:12}{:10}{:10}{root}",
        mapping.start,
        mapping.end,
        letters(mapping.protection),
        letters(mapping.maximum),
        mapping.object,
        mapping.offset,
        (mapping.end - mapping.start) >> 10,
        mapping.mapped_pages * PAGE_KIB,
        (mapping.object_pages + mapping.copied_pages) * PAGE_KIB,
    );
}

fn letters(protection: u32) -> String {
    let protection = Protection::from_bits_truncate(protection);
    [
        (Protection::READ, 'r'),
        (Protection::WRITE, 'w'),
        (Protection::EXECUTE, 'x'),
    ]
    .iter()
    .map(
        |&(access, letter)| {
            if protection.contains(access) { letter } else { '-' }
        },
    )
    .collect()
}
