//! In-kernel tests of handles and of processes without threads.

use super::{Entry, HandleTable, Object, PortRange, Process, processes_alive};
use crate::test::Test;
use dragonet_abi::layout::{MAX_HANDLES, MAX_NAME};
use dragonet_abi::process::{ENDED_KILLED, WaitStatus};
use dragonet_abi::{Errno, Handle, Rights};

/// See [`crate::test`].
pub const TESTS: &[Test] = &[
    Test {
        name: "proc::a_closed_handle_does_not_name_its_successor",
        run: generations,
    },
    Test {
        name: "proc::rights_are_checked_before_a_handle_is_taken",
        run: rights,
    },
    Test {
        name: "proc::a_full_table_refuses_and_recovers",
        run: full_table,
    },
    Test {
        name: "proc::a_process_that_never_started_is_freed",
        run: unstarted,
    },
];

fn entry(rights: Rights) -> Entry {
    Entry {
        object: Object::Ports(PortRange { base: 0, length: 1 }),
        rights,
    }
}

fn generations() -> Result<(), &'static str> {
    let table = HandleTable::new();
    let mut previous = Handle::NONE;
    for _ in 0..10_000 {
        let handle = table
            .insert(entry(Rights::READ))
            .map_err(|_| "an empty table refused")?;
        if handle == previous || handle == Handle::SELF_PROCESS || handle == Handle::SELF_THREAD {
            return Err("a slot gave out the same or a reserved handle");
        }
        if previous.is_some() && table.get(previous).is_ok() {
            return Err("a closed handle names an object");
        }
        drop(table.take(handle, Rights::empty()));
        previous = handle;
    }
    if table.len() == 0 {
        Ok(())
    } else {
        Err("closed handles are counted as open")
    }
}

fn rights() -> Result<(), &'static str> {
    let table = HandleTable::new();
    let handle = table
        .insert(entry(Rights::READ))
        .map_err(|_| "an empty table refused")?;
    if !matches!(table.take(handle, Rights::WRITE), Err(Errno::EPERM)) {
        return Err("a handle was taken without the right");
    }
    if table.get_with(handle, Rights::READ).is_err() {
        return Err("a refused take changed the table");
    }
    table.close_all();
    match table.insert(entry(Rights::READ)) {
        Err(Errno::ESRCH) => Ok(()),
        _ => Err("a closed table took a handle"),
    }
}

fn full_table() -> Result<(), &'static str> {
    let table = HandleTable::new();
    let mut last = Handle::NONE;
    for _ in 0..MAX_HANDLES {
        last = table
            .insert(entry(Rights::READ))
            .map_err(|_| "the table refused below its limit")?;
    }
    if !matches!(table.insert(entry(Rights::READ)), Err(Errno::EMFILE)) {
        return Err("the table went beyond its limit");
    }
    drop(table.take(last, Rights::empty()));
    table
        .insert(entry(Rights::READ))
        .map(|_| ())
        .map_err(|_| "a freed slot was not used again")
}

fn unstarted() -> Result<(), &'static str> {
    let before = processes_alive();
    let process = Process::new([0; MAX_NAME], 0).map_err(|_| "no memory for a process")?;
    process.end(WaitStatus {
        reason: ENDED_KILLED,
        ..WaitStatus::default()
    });
    if !process.is_ending() {
        return Err("a killed process does not say so");
    }
    drop(process);
    if processes_alive() == before {
        Ok(())
    } else {
        Err("a process without threads and handles is still there")
    }
}
