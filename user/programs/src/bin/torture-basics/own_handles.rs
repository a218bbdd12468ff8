//! Handles that a thread makes of itself and of its process, and gives away.

use crate::{Problem, doing};
use dragonet_abi::process::ENDED_KILLED;
use dragonet_abi::{Errno, Handle, ObjectKind, Rights};
use dragonet_programs::random::Random;
use dragonet_rt::process::Command;
use dragonet_rt::{syscall, thread};

const SECOND: u64 = 1_000_000_000;
const BIT: u64 = 1 << 9;
/// The status with which the child ends itself.
const KILLED: u8 = 55;
/// What a creator may do with the process, and with the thread, that he created.
const PROCESS_RIGHTS: Rights = Rights::WAIT
    .union(Rights::KILL)
    .union(Rights::MANAGE)
    .union(Rights::READ)
    .union(Rights::WRITE)
    .union(Rights::DUPLICATE)
    .union(Rights::TRANSFER);
const THREAD_RIGHTS: Rights = Rights::WAIT
    .union(Rights::MANAGE)
    .union(Rights::POST)
    .union(Rights::READ)
    .union(Rights::DUPLICATE)
    .union(Rights::TRANSFER);

pub fn run(_random: &mut Random) -> Result<(), Problem> {
    rights()?;
    first_thread()?;
    child_that_holds_itself()
}

fn wrong(problem: &str) -> Problem {
    Problem::Wrong(problem.into())
}

/// Such a handle has the rights that were asked for, of those that a creator has.
fn rights() -> Result<(), Problem> {
    for (own, kind, rights) in [
        (Handle::SELF_PROCESS, ObjectKind::Process, PROCESS_RIGHTS),
        (Handle::SELF_THREAD, ObjectKind::Thread, THREAD_RIGHTS),
    ] {
        let all = syscall::handle_duplicate(own, rights).map_err(doing("duplicating oneself"))?;
        let info = all.info().map_err(doing("asking about a handle"))?;
        let itself = syscall::handle_info(own).map_err(doing("asking about oneself"))?;
        if info != itself || info.kind != kind as u32 || info.rights != rights.bits() {
            return Err(Problem::Wrong(alloc::format!(
                "a handle of oneself is {info:?}, oneself is {itself:?}"
            )));
        }
        let fewer = syscall::handle_duplicate(own, Rights::READ).map_err(doing("duplicating oneself"))?;
        if fewer.duplicate(Rights::READ) != Err(Errno::EPERM) {
            return Err(wrong("a handle of oneself has rights that were not asked for"));
        }
        for more in [Rights::POWER, Rights::RUN, rights | Rights::EXECUTE] {
            if syscall::handle_duplicate(own, more) != Err(Errno::EPERM) {
                return Err(wrong("a handle of oneself has rights that no creator has"));
            }
        }
    }
    Ok(())
}

/// The first thread, of which nobody in the process has a handle, lets another thread post to it.
fn first_thread() -> Result<(), Problem> {
    let handle = syscall::handle_duplicate(Handle::SELF_THREAD, Rights::POST | Rights::READ)
        .map_err(doing("duplicating oneself"))?;
    let poster = thread::spawn(move || {
        let own = thread::current_id();
        let id = handle.info().map(|info| info.id);
        // The id is the first thread's, whoever asks.
        (
            id.is_ok_and(|id| id != own),
            syscall::virq_post(handle.get(), BIT),
        )
    });
    let poster = poster.map_err(doing("starting a thread"))?;
    let taken = syscall::virq_wait(BIT, 5 * SECOND).map_err(doing("waiting to be posted to"))?;
    match poster.join() {
        Some((true, Ok(()))) if taken == BIT => Ok(()),
        other => Err(Problem::Wrong(alloc::format!(
            "posting by a handle that the first thread made gave {other:?}"
        ))),
    }
}

/// A process that holds handles of itself and of its thread is freed all the same.
fn child_that_holds_itself() -> Result<(), Problem> {
    let child = Command::new("torture-basics")
        .argument("-c")
        .argument("self")
        .spawn()
        .map_err(|error| Problem::Wrong(alloc::format!("starting a child: {error}")))?;
    let ending = child.wait().map_err(doing("waiting for a child"))?;
    if ending.0.reason != ENDED_KILLED || ending.0.status != u32::from(KILLED) {
        return Err(Problem::Wrong(alloc::format!(
            "a child that kills itself by its own handle ended with: {ending}"
        )));
    }
    // A process that was never started is given its maker and the thread that makes it.
    let unstarted = syscall::process_create("unstarted").map_err(doing("making a process"))?;
    for own in [Handle::SELF_PROCESS, Handle::SELF_THREAD] {
        syscall::process_give(unstarted.get(), own, Rights::WAIT).map_err(doing("giving oneself"))?;
        if syscall::process_give(unstarted.get(), own, Rights::POWER) != Err(Errno::EPERM) {
            return Err(wrong("oneself was given away with rights that no creator has"));
        }
    }
    Ok(())
}

/// What the child does: takes handles of itself, which it never closes, and ends itself by one.
pub fn be_a_child() -> Result<(), Errno> {
    let process = syscall::handle_duplicate(Handle::SELF_PROCESS, PROCESS_RIGHTS)?.into_raw();
    let thread = syscall::handle_duplicate(Handle::SELF_THREAD, THREAD_RIGHTS)?.into_raw();
    // They name the caller: nobody waits for his own end.
    if syscall::process_wait(process, 0).err() != Some(Errno::EINVAL)
        || syscall::thread_wait(thread, 0) != Err(Errno::EINVAL)
    {
        return Err(Errno::EIO);
    }
    syscall::process_kill(process, KILLED)
}
