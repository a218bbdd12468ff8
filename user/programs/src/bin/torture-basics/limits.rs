//! What happens at the kernel's limits: a full handle table, long chains of objects, objects that would keep each other alive, a
//! CPU that is taken away from a busy thread.

use crate::{Problem, doing};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use dragonet_abi::process::ThreadControl;
use dragonet_abi::{Errno, Handle, Rights};
use dragonet_programs::random::Random;
use dragonet_rt::channel::{self, Server};
use dragonet_rt::{OwnedHandle, syscall, thread, time};

/// Far more than a kernel stack has room for, if the end of one took a piece of it for each.
const LINKS: u32 = 160;
const SECOND: u64 = 1_000_000_000;

pub fn run(_random: &mut Random) -> Result<(), Problem> {
    no_room_for_a_thread()?;
    no_room_for_a_message()?;
    chain_of_servers()?;
    processes_that_hold_each_other()?;
    busy_thread_moves()
}

fn wrong(problem: &str) -> Problem {
    Problem::Wrong(String::from(problem))
}

/// Takes every free slot of this program's handle table.
fn fill_table() -> Result<Vec<OwnedHandle>, Problem> {
    let object = syscall::object_create(4096).map_err(doing("making an object"))?;
    // First the memory for the list, which may itself be mapped by a call.
    let mut all = Vec::with_capacity(dragonet_abi::layout::MAX_HANDLES);
    let error = loop {
        match object.duplicate(Rights::empty()) {
            Ok(handle) => all.push(handle),
            Err(errno) => break errno,
        }
    };
    all.push(object);
    match error {
        Errno::EMFILE => Ok(all),
        other => Err(Problem::Refused("filling the handle table", other)),
    }
}

/// A thread for which there is no handle must not run: its creator has taken back its stack.
fn no_room_for_a_thread() -> Result<(), Problem> {
    let ran = Arc::new(AtomicU32::new(0));
    let flag = Arc::clone(&ran);
    let full = fill_table()?;
    let refused = thread::spawn(move || flag.store(1, Ordering::SeqCst)).err();
    time::sleep(Duration::from_millis(5));
    drop(full);
    match (refused, ran.load(Ordering::SeqCst)) {
        (Some(Errno::EMFILE), 0) => Ok(()),
        (Some(_), 0) => Err(wrong("a thread without a handle was refused for another reason")),
        (None, _) => Err(wrong("a thread was started without room for its handle")),
        (_, _) => Err(wrong(
            "a thread runs though its creator was told that it does not",
        )),
    }
}

/// A message that finds no room is refused as a whole: the caller is told, and nothing of it stays with the receiver.
fn no_room_for_a_message() -> Result<(), Problem> {
    for free in 0..3 {
        let (server, client) = channel::create().map_err(doing("making a channel"))?;
        let gift = syscall::object_create(4096).map_err(doing("making an object"))?;
        let caller = thread::spawn(move || channel::call_with_handle(client.get(), 1, [0; 6], gift).err())
            .map_err(doing("starting a caller"))?;
        // Its handle of the gift is gone when the table is filled.
        time::sleep(Duration::from_millis(5));
        let mut full = fill_table()?;
        full.truncate(full.len() - free);
        let received = server.receive(SECOND / 100);
        full.truncate(full.len() - 1);
        let outcome = match (free, &received) {
            (0, Err(Errno::EMFILE)) | (2, Ok(_)) => Ok(()),
            // Nobody else calls, and the caller goes, with its client end, when it is told.
            (1, Err(Errno::ETIMEDOUT | Errno::EPIPE)) => Ok(()),
            _ => Err(Problem::Wrong(alloc::format!(
                "receiving with {free} free handles gave {received:?}"
            ))),
        };
        if let Ok(call) = received {
            let _ = call.reply(0, [0; 6]);
        }
        drop(full);
        drop(server);
        outcome?;
        match (free, caller.join().flatten()) {
            (0 | 1, Some(Errno::EMFILE)) | (2, None) => {}
            (_, told) => {
                return Err(Problem::Wrong(alloc::format!(
                    "with {free} free handles the caller was told {told:?}"
                )));
            }
        }
    }
    Ok(())
}

/// Each waiting call carries the server end for which the next call waits.
fn chain_of_servers() -> Result<(), Problem> {
    let begun = Arc::new(AtomicU32::new(0));
    let mut callers = Vec::new();
    let (first, mut client) = channel::create().map_err(doing("making a channel"))?;
    for _ in 0..LINKS {
        let (next, next_client) = syscall::channel_create().map_err(doing("making a channel"))?;
        let begun = Arc::clone(&begun);
        let this = core::mem::replace(&mut client, next_client);
        let caller = thread::spawn(move || {
            begun.fetch_add(1, Ordering::SeqCst);
            channel::call_with_handle(this.get(), 1, [0; 6], next).err()
        });
        callers.push(caller.map_err(doing("starting a caller"))?);
    }
    while begun.load(Ordering::SeqCst) < LINKS {
        time::sleep(Duration::from_millis(1));
    }
    time::sleep(Duration::from_millis(10));
    let first: Server = first;
    drop(first);
    let told = callers.into_iter().map(|caller| caller.join().flatten());
    let wrong = told.filter(|told| *told != Some(Errno::EPIPE)).count();
    if wrong == 0 {
        Ok(())
    } else {
        Err(Problem::Wrong(alloc::format!(
            "{wrong} callers of dead servers were not told EPIPE"
        )))
    }
}

/// A process that was never started closes no handles, so it must not hold what keeps it alive.
fn processes_that_hold_each_other() -> Result<(), Problem> {
    let new = || syscall::process_create("unstarted").map_err(doing("making a process"));
    let (one, two) = (new()?, new()?);
    let give = |to: &OwnedHandle, what: &OwnedHandle| {
        syscall::process_give(to.get(), what.get(), Rights::WAIT | Rights::KILL)
    };
    for outcome in [give(&one, &one), give(&one, &two), give(&two, &one)] {
        if outcome != Err(Errno::EBUSY) {
            return Err(Problem::Wrong(alloc::format!(
                "a new process was given a new process: {outcome:?}"
            )));
        }
    }
    let object = syscall::object_create(4096).map_err(doing("making an object"))?;
    syscall::process_give(one.get(), object.get(), Rights::READ).map_err(doing("giving an object"))?;
    Ok(())
}

/// A thread that computes, alone on its CPU, leaves it when it may no longer run there.
fn busy_thread_moves() -> Result<(), Problem> {
    let information = syscall::system_info().map_err(doing("asking about the system"))?;
    if information.cpus < 2 {
        return Ok(());
    }
    let set = |thread: Handle, mask| {
        syscall::thread_control(thread, ThreadControl::SetAffinity, mask)
            .map_err(doing("setting an affinity"))
    };
    set(Handle::SELF_THREAD, 1 << 1)?;
    let stop = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&stop);
    let busy = thread::Builder::new().affinity(1 << 0).spawn(move || {
        while seen.load(Ordering::Relaxed) == 0 {
            core::hint::spin_loop();
        }
    });
    let busy = busy.map_err(doing("starting a thread"))?;
    time::sleep(Duration::from_millis(2));
    set(busy.handle(), 1 << 1)?;
    let deadline = time::now() + Duration::from_secs(5);
    let moved = loop {
        let cpu = syscall::thread_control(busy.handle(), ThreadControl::GetCpu, 0);
        if cpu == Ok(1) {
            break true;
        }
        if time::now() > deadline {
            break false;
        }
        time::sleep(Duration::from_millis(1));
    };
    stop.store(1, Ordering::Relaxed);
    let _ = busy.join();
    set(Handle::SELF_THREAD, u64::MAX)?;
    if moved {
        Ok(())
    } else {
        Err(wrong("a busy thread stayed on a CPU that was taken from it"))
    }
}
