//! In-kernel tests of handles and of processes without threads.

use super::thread::next_deadline;
use super::{Entry, GuestVmspace, HandleTable, Object, PortRange, Process, Thread, processes_alive};
use crate::arch::trap::TrapFrame;
use crate::arch::{clock, cpu};
use crate::debug::counters;
use crate::mm::tests::{free_frames, free_frames_settle_at};
use crate::sync::{Rank, SpinLock};
use crate::test::Test;
use crate::vm::{MapArguments, Vmspace};
use crate::{ipc, sched};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};
use dragonet_abi::counters::Counter;
use dragonet_abi::layout::{MAX_HANDLES, MAX_NAME, PAGE_SIZE};
use dragonet_abi::memory::{MapFlags, Protection};
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
        name: "proc::98e80c6197_1e0d343fbe_a_vmspace_destroyed_in_use_is_emptied_once_by_the_last_to_leave",
        run: destroyed_in_use,
    },
    Test {
        name: "proc::an_idle_vmspace_is_emptied_when_it_is_destroyed",
        run: destroyed_while_idle,
    },
    Test {
        name: "proc::a_vmspace_is_destroyed_while_all_cpus_enter_leave_and_map",
        run: destroyed_by_many,
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

/// Anonymous memory at [`PLACE`], three pages of it touched.
fn map_something(vmspace: &Vmspace) -> Result<u64, Errno> {
    let address = vmspace.map(&MapArguments {
        address: PLACE,
        length: 8 * PAGE_SIZE,
        protection: Protection::READ | Protection::WRITE,
        flags: MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED,
        object: None,
        maximum: Protection::all(),
        offset: 0,
    })?;
    for page in 0..3 {
        vmspace.write(address + page * PAGE_SIZE, &[1])?;
    }
    Ok(address)
}

const PLACE: u64 = 0x1000_0000;

/// A count that outlived what it counted, and a second free of it, are what DragonFly's entries suffered from (98e80c6197, 1e0d343fbe).
fn destroyed_in_use() -> Result<(), &'static str> {
    let (vmspaces, objects) = crate::vm::live_counts();
    let before = free_frames();
    let creator = Process::new([0; MAX_NAME], 0).map_err(|_| "no memory for a process")?;
    let guest = GuestVmspace::new(&creator).map_err(|_| "no memory for a vmspace")?;
    let vmspace = guest.vmspace().map_err(|_| "a new vmspace is gone")?.clone();
    let entries = || vmspace.statistics().entries;
    map_something(&vmspace).map_err(|_| "no memory for a mapping")?;
    for _ in 0..2 {
        guest.enter().map_err(|_| "a vmspace cannot be entered")?;
    }
    // Whoever got the handle may destroy it even when its creator is gone.
    drop(creator);
    if guest.destroy() != Ok(()) || guest.destroy() != Err(Errno::EBADF) {
        return Err("a vmspace was not destroyed exactly once");
    }
    if guest.enter() != Err(Errno::EBADF) || guest.vmspace().is_ok() {
        return Err("a destroyed vmspace was entered, or can be named");
    }
    if entries() != 1 || vmspace.read(PLACE, &mut [0]) != Ok(1) {
        return Err("a vmspace was emptied while a thread runs in it");
    }
    // Somebody who had it before it was destroyed maps something, as late as possible.
    if map_something(&vmspace).is_err() || !guest.leave() || entries() != 1 {
        return Err("a thread that leaves is not told, or empties it under another one");
    }
    if !guest.leave() || !is_empty(&vmspace) || crate::vm::live_counts().1 != objects {
        return Err("the last one to leave did not empty it");
    }
    if map_something(&vmspace) != Err(Errno::EBADF) || guest.destroy() != Err(Errno::EBADF) {
        return Err("something was mapped in a destroyed vmspace");
    }
    drop(guest);
    drop(vmspace);
    if crate::vm::live_counts() != (vmspaces, objects) {
        return Err("a vmspace or an object is left over");
    }
    free_frames_settle_at(before)
}

/// True if nothing is mapped and the page table is only a root.
fn is_empty(vmspace: &Vmspace) -> bool {
    let statistics = vmspace.statistics();
    (
        statistics.entries,
        statistics.resident_pages,
        statistics.table_pages,
    ) == (0, 0, 1)
}

fn destroyed_while_idle() -> Result<(), &'static str> {
    let creator = Process::new([0; MAX_NAME], 0).map_err(|_| "no memory for a process")?;
    let guest = GuestVmspace::new(&creator).map_err(|_| "no memory for a vmspace")?;
    let vmspace = guest.vmspace().map_err(|_| "a new vmspace is gone")?.clone();
    map_something(&vmspace).map_err(|_| "no memory for a mapping")?;
    guest.enter().map_err(|_| "a vmspace cannot be entered")?;
    if guest.leave() || is_empty(&vmspace) {
        return Err("a vmspace that nobody destroyed says that it is, or was emptied");
    }
    if guest.destroy() != Ok(()) || !is_empty(&vmspace) {
        return Err("a vmspace that nobody runs in is not emptied at once");
    }
    let own = GuestVmspace::of_process(&creator);
    if own.destroy() == Err(Errno::EINVAL) && own.vmspace().is_ok() {
        Ok(())
    } else {
        Err("a process's own vmspace was destroyed")
    }
}

/// Threads on all CPUs enter and leave, and map in it meanwhile, until somebody destroys it: exactly one of them empties it.
fn destroyed_by_many() -> Result<(), &'static str> {
    let creator = Process::new([0; MAX_NAME], 0).map_err(|_| "no memory for a process")?;
    let (vmspaces, objects) = crate::vm::live_counts();
    for round in 0..25 {
        let guest = GuestVmspace::new(&creator).map_err(|_| "no memory for a vmspace")?;
        let weak = Arc::downgrade(guest.vmspace().map_err(|_| "a new vmspace is gone")?);
        *SHARED.lock() = Some(guest);
        ENTERED.store(0, Ordering::SeqCst);
        LEFT.store(0, Ordering::SeqCst);
        let cpus = cpu::count();
        for index in 0..cpus {
            sched::spawn_kernel_thread(enter_and_leave, 16, 1 << index)
                .map_err(|_| "no memory for a thread")?;
        }
        let started = || ENTERED.load(Ordering::SeqCst) >= cpus;
        let limit = clock::now() + 20_000_000_000;
        while !started() && clock::now() < limit {
            sched::park(clock::now() + 100_000);
        }
        sched::park(clock::now() + 20_000 * (round % 7));
        let guest = SHARED.lock().take().ok_or("the vmspace is gone")?;
        let destroyed = guest.destroy();
        drop(guest);
        while LEFT.load(Ordering::SeqCst) < cpus && clock::now() < limit {
            sched::park(clock::now() + 100_000);
        }
        if destroyed != Ok(()) || LEFT.load(Ordering::SeqCst) != cpus {
            return Err("a vmspace in use was not destroyed, or threads stay in it");
        }
        if weak.upgrade().is_some() {
            return Err("a vmspace that nobody has is still there");
        }
    }
    if crate::vm::live_counts() == (vmspaces, objects) {
        Ok(())
    } else {
        Err("vmspaces or objects are left over")
    }
}

static SHARED: SpinLock<Option<Arc<GuestVmspace>>> = SpinLock::new(Rank::Umtx, None);
static ENTERED: AtomicUsize = AtomicUsize::new(0);
static LEFT: AtomicUsize = AtomicUsize::new(0);

/// What each CPU does with the shared vmspace until it has been destroyed.
fn enter_and_leave() {
    let Some(guest) = SHARED.lock().clone() else {
        return;
    };
    let mut first = true;
    while guest.enter().is_ok() {
        if core::mem::take(&mut first) {
            ENTERED.fetch_add(1, Ordering::SeqCst);
        }
        let _refused_once_it_is_closed = map_something(guest.entered());
        if guest.leave() {
            break;
        }
        // Kernel code is not preempted, and the test's own thread has to run as well.
        sched::yield_now();
    }
    drop(guest);
    LEFT.fetch_add(1, Ordering::SeqCst);
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
