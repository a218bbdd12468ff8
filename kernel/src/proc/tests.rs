//! In-kernel tests of handles and of processes without threads.

use super::thread::next_deadline;
use super::{Entry, GuestVmspace, HandleTable, Object, PortRange, Process, Thread, processes_alive};
use crate::arch::clock;
use crate::arch::trap::TrapFrame;
use crate::debug::counters;
use crate::test::Test;
use crate::{ipc, sched};
use alloc::sync::Arc;
use dragonet_abi::counters::Counter;
use dragonet_abi::layout::{MAX_HANDLES, MAX_NAME};
use dragonet_abi::process::{ENDED_KILLED, WaitStatus};
use dragonet_abi::time::FOREVER;
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
    Test {
        name: "proc::a_long_chain_of_objects_is_freed_on_one_stack",
        run: long_chain,
    },
    Test {
        name: "proc::several_handles_are_taken_together_or_not_at_all",
        run: all_or_none,
    },
    Test {
        name: "proc::a_timer_that_begins_in_the_past_skips_what_is_over",
        run: late_timer,
    },
    Test {
        name: "proc::a_timer_set_anew_in_the_past_fires_once_a_period",
        run: timer_set_anew,
    },
    Test {
        name: "proc::a_destroyed_vmspace_cannot_be_entered",
        run: destroyed_vmspace,
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

/// Each process holds the next one and a server end; the kernel's stack has room for a few dozen nested drops.
fn long_chain() -> Result<(), &'static str> {
    const LINKS: usize = 400;
    let (processes, handles) = (processes_alive(), HandleTable::open_in_all());
    let channels = ipc::channels_alive();
    let new = || Process::new([0; MAX_NAME], 0).map_err(|_| "no memory for a process");
    let mut first = new()?;
    for _ in 0..LINKS {
        let holder = new()?;
        let (server, client) = ipc::create().map_err(|_| "no memory for a channel")?;
        drop(client);
        for object in [Object::Process(first), Object::ChannelServer(server)] {
            let rights = Rights::empty();
            let inserted = holder.handles().insert(Entry { object, rights });
            inserted.map_err(|_| "an empty table refused")?;
        }
        first = holder;
    }
    drop(first);
    if (
        processes_alive(),
        HandleTable::open_in_all(),
        ipc::channels_alive(),
    ) == (processes, handles, channels)
    {
        Ok(())
    } else {
        Err("objects are left of the chain, or are still counted")
    }
}

fn all_or_none() -> Result<(), &'static str> {
    let table = HandleTable::new();
    let insert = |rights| table.insert(entry(rights)).map_err(|_| "an empty table refused");
    let (one, two) = (insert(Rights::READ)?, insert(Rights::READ)?);
    let weak = insert(Rights::empty())?;
    let refused = |handles: &[Handle], errno| {
        matches!(table.take_all::<3>(handles, Rights::READ), Err(error) if error == errno) && table.len() == 3
    };
    if !refused(&[one, two, one], Errno::EBADF) {
        return Err("a handle named twice was taken, or took another along");
    }
    if !refused(&[one, weak], Errno::EPERM) || !refused(&[one, Handle::NONE], Errno::EBADF) {
        return Err("a refused handle did not keep the one before it");
    }
    match table.take_all::<3>(&[one, two], Rights::READ) {
        Ok(taken) if taken.len() == 2 && table.len() == 1 && table.get(one).is_err() => Ok(()),
        _ => Err("two good handles were not taken"),
    }
}

fn late_timer() -> Result<(), &'static str> {
    let cases = [
        ((1000, 0, 5000), FOREVER),
        ((1000, 300, 1000), 1300),
        ((1000, 300, 1299), 1300),
        ((1000, 300, 1300), 1600),
        ((0, 100_000, 3_600_000_000_050), 3_600_000_100_000),
        ((1000, u64::MAX - 1, 2000), FOREVER),
        ((0, 1, u64::MAX), FOREVER),
    ];
    for ((deadline, period, now), expected) in cases {
        if next_deadline(deadline, period, now) != expected {
            return Err("the next deadline is not the first one to come");
        }
    }
    Ok(())
}

/// A thread that is never started: it has all that its timer needs.
fn idle_thread() -> Result<Arc<Thread>, &'static str> {
    let process = Process::new([0; MAX_NAME], 0).map_err(|_| "no memory for a process")?;
    Thread::new(&process, TrapFrame::new_user(0, 0, 0), 16, u64::MAX).map_err(|_| "no memory for a thread")
}

fn timer_set_anew() -> Result<(), &'static str> {
    const PERIOD: u64 = 10_000_000;
    let thread = idle_thread()?;
    let posted = || counters::total(Counter::VirtualInterruptPosted);
    let (before, began) = (posted(), clock::now());
    for _ in 0..20 {
        thread.set_timer(1, PERIOD, 3);
        sched::park(clock::now() + 1_000_000);
    }
    while clock::now() < began + 20 * PERIOD {
        sched::park(began + 20 * PERIOD);
    }
    let (fired, elapsed) = (posted() - before, clock::now() - began);
    thread.set_timer(FOREVER, 0, 0);
    if fired < 20 || thread.virtual_interrupts().take(u64::MAX) != 1 << 3 {
        return Err("the timer did not fire");
    }
    // Twenty times at once, then by the period.
    if fired > 20 + elapsed / PERIOD + 1 {
        return Err("the timer fired more often than its period says");
    }
    Ok(())
}

fn destroyed_vmspace() -> Result<(), &'static str> {
    let creator = Process::new([0; MAX_NAME], 0).map_err(|_| "no memory for a process")?;
    let guest = GuestVmspace::new(&creator).map_err(|_| "no memory for a vmspace")?;
    guest.enter().map_err(|_| "a vmspace cannot be entered")?;
    if guest.destroy() != Err(Errno::EBUSY) || guest.vmspace().is_err() {
        return Err("a vmspace in use was destroyed, or says so");
    }
    guest.enter().map_err(|_| "a refused destroy keeps threads out")?;
    guest.leave();
    guest.leave();
    // Whoever got the handle may destroy it even when its creator is gone.
    drop(creator);
    if guest.destroy() != Ok(()) || guest.destroy() != Err(Errno::EBADF) {
        return Err("a vmspace was not destroyed exactly once");
    }
    if guest.enter() == Err(Errno::EBADF) && guest.vmspace().is_err() {
        Ok(())
    } else {
        Err("a destroyed vmspace was entered")
    }
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
