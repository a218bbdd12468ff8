//! vmspaces that are destroyed while threads run in them and others read, write and map.
//!
//! Each vmspace has a user program that loads the vmspace's own number and then loops, or makes a system call; whoever sees another
//! number than the one that belongs to his handle has reached another vmspace.

use crate::{Problem, doing};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::{Advice, MapFlags, MapRequest, Protection, Vpte};
use dragonet_abi::process::ThreadControl;
use dragonet_abi::time::FOREVER;
use dragonet_abi::vmspace::{RUN_DESTROYED, RUN_SYSCALL, RUN_TIMEOUT, RegisterFrame, RunState};
use dragonet_abi::{Errno, Handle, Rights};
use dragonet_programs::random::Random;
use dragonet_rt::{OwnedHandle, syscall, system, thread, time};

/// vmspaces that are there at once.
const SLOTS: usize = 2;
/// How often each is replaced.
const ROUNDS: u64 = 12;

/// Where each has its programs, and its number.
const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x50_0000;
/// `mov rax, [rdi]; syscall`.
const LOAD: [u8; 5] = [0x48, 0x8b, 0x07, 0x0f, 0x05];
/// `mov rax, [rdi]; pause; jmp` back to the pause.
const LOOP: [u8; 7] = [0x48, 0x8b, 0x07, 0xf3, 0x90, 0xeb, 0xfc];
/// Where the loop is, behind the other program.
const LOOP_AT: u64 = CODE + 16;
/// The loop, but it tells that it is there: `mov rax, [rdi]; mov [rdi + 8], rax; pause; jmp` back to the pause.
const TELLING_LOOP: [u8; 11] = [0x48, 0x8b, 0x07, 0x48, 0x89, 0x47, 0x08, 0xf3, 0x90, 0xeb, 0xfc];
/// Where that is.
const TELLING_LOOP_AT: u64 = CODE + 32;

pub fn run(random: &mut Random) -> Result<(), Problem> {
    destroyed_in_use()?;
    destroyed_while_waiting_for_a_cpu()?;
    number_given_again()?;
    all_at_once(random)
}

fn wrong(problem: &str) -> Problem {
    Problem::Wrong(problem.into())
}

/// A vmspace with both programs and a number.
fn create(number: u64) -> Result<OwnedHandle, Errno> {
    let vmspace = syscall::vmspace_create(system::handle()?)?;
    map(vmspace.get(), CODE, 1)?;
    map(vmspace.get(), DATA, 1)?;
    syscall::vmspace_pwrite(vmspace.get(), &LOAD, CODE)?;
    syscall::vmspace_pwrite(vmspace.get(), &LOOP, LOOP_AT)?;
    syscall::vmspace_pwrite(vmspace.get(), &TELLING_LOOP, TELLING_LOOP_AT)?;
    syscall::vmspace_pwrite(vmspace.get(), &number.to_le_bytes(), DATA)?;
    let execute = Protection::READ | Protection::EXECUTE;
    syscall::vmspace_mprotect(vmspace.get(), CODE, PAGE_SIZE, execute)?;
    Ok(vmspace)
}

/// Maps private memory.
fn map(vmspace: Handle, address: u64, pages: u64) -> Result<u64, Errno> {
    let request = MapRequest {
        address,
        length: pages * PAGE_SIZE,
        protection: (Protection::READ | Protection::WRITE).bits(),
        flags: (MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED).bits(),
        object: Handle::NONE,
        reserved: 0,
        offset: 0,
    };
    syscall::vmspace_mmap(vmspace, &request)
}

/// Runs one of the programs.
fn run_program(vmspace: Handle, rip: u64, timeout: u64) -> Result<RunState, Errno> {
    let mut state = RunState {
        registers: RegisterFrame {
            rip,
            rdi: DATA,
            ..RegisterFrame::default()
        },
        timeout,
        ..RunState::default()
    };
    syscall::vmspace_ctl_run(vmspace, &mut state)?;
    Ok(state)
}

/// A destroyed vmspace is used no more and freed once (98e80c6197, 1e0d343fbe): the thread in it comes back, and then its memory has.
fn destroyed_in_use() -> Result<(), Problem> {
    const PAGES: u64 = 256;
    let vmspace = create(1).map_err(doing("making a vmspace"))?;
    let other = vmspace
        .duplicate(Rights::MANAGE | Rights::RUN | Rights::READ | Rights::WRITE)
        .map_err(doing("duplicating a vmspace"))?;
    let free = || {
        syscall::system_info()
            .map(|info| info.frames_free)
            .map_err(doing("asking"))
    };
    let before = free()?;
    map(vmspace.get(), DATA + PAGE_SIZE, PAGES).map_err(doing("mapping"))?;
    for page in 1..=PAGES {
        syscall::vmspace_pwrite(vmspace.get(), &[1], DATA + page * PAGE_SIZE).map_err(doing("writing"))?;
    }
    let handle = vmspace.get();
    let runner = thread::spawn(move || {
        let state = run_program(handle, TELLING_LOOP_AT, FOREVER);
        (state, syscall::system_info().map_or(0, |info| info.frames_free))
    });
    let runner = runner.map_err(doing("starting a thread"))?;
    // Only what the program itself stored shows that the thread is inside; no time does.
    let mut told = [0; 8];
    while told == [0; 8] {
        thread::yield_now();
        syscall::vmspace_pread(handle, &mut told, DATA + 8).map_err(doing("reading what the user told"))?;
    }
    syscall::vmspace_destroy(vmspace).map_err(|(_, errno)| Problem::Refused("destroying", errno))?;
    // From now on every call is refused, by whatever handle.
    let mut state = RunState::default();
    let buffer = &mut [0; 8];
    let other = other.get();
    let refused = [
        ("RUN", syscall::vmspace_ctl_run(other, &mut state).err()),
        ("mmap", map(other, DATA, 1).err()),
        ("munmap", syscall::vmspace_munmap(other, DATA, PAGE_SIZE).err()),
        (
            "mprotect",
            syscall::vmspace_mprotect(other, DATA, PAGE_SIZE, Protection::READ).err(),
        ),
        (
            "mcontrol",
            syscall::vmspace_mcontrol(other, DATA, PAGE_SIZE, Advice::DontNeed, Vpte(0)).err(),
        ),
        ("pread", syscall::vmspace_pread(other, buffer, DATA).err()),
        ("pwrite", syscall::vmspace_pwrite(other, buffer, DATA).err()),
        ("the old handle", syscall::handle_info(handle).err()),
    ];
    let (outcome, after) = runner.join().ok_or_else(|| wrong("a runner ended itself"))?;
    if let Some((call, result)) = refused.iter().find(|(_, result)| *result != Some(Errno::EBADF)) {
        return Err(Problem::Wrong(alloc::format!(
            "{call} of a destroyed vmspace gave {result:?}"
        )));
    }
    match outcome {
        Ok(state) if state.reason == RUN_DESTROYED && state.registers.rax == 1 => {}
        other => {
            return Err(Problem::Wrong(alloc::format!(
                "RUN in a vmspace that was destroyed gave {other:x?}"
            )));
        }
    }
    // Others may have taken a few meanwhile.
    if after + PAGES / 2 < before {
        return Err(Problem::Wrong(alloc::format!(
            "{before} frames were free, {after} when RUN had returned"
        )));
    }
    Ok(())
}

/// A thread that wants to go on in the vmspace but has no CPU hears of its end when it gets one.
fn destroyed_while_waiting_for_a_cpu() -> Result<(), Problem> {
    let pin = |mask| {
        syscall::thread_control(Handle::SELF_THREAD, ThreadControl::SetAffinity, mask)
            .map_err(doing("setting an affinity"))
    };
    pin(1)?;
    let outcome = (0..4).try_for_each(|round| {
        let vmspace = create(round).map_err(doing("making a vmspace"))?;
        let handle = vmspace.get();
        let runner = thread::Builder::new()
            .affinity(1)
            .spawn(move || run_program(handle, LOOP_AT, FOREVER));
        let runner = runner.map_err(doing("starting a thread"))?;
        // It loops on this CPU until its time is over; then this thread goes on, and it waits.
        time::sleep(Duration::from_millis(1));
        syscall::vmspace_destroy(vmspace).map_err(|(_, errno)| Problem::Refused("destroying", errno))?;
        match runner.join() {
            Some(Ok(state)) if state.reason == RUN_DESTROYED => Ok(()),
            Some(Err(Errno::EBADF)) => Ok(()),
            other => Err(Problem::Wrong(alloc::format!(
                "RUN in a vmspace that was destroyed gave {other:x?}"
            ))),
        }
    });
    pin(u64::MAX)?;
    outcome
}

/// The user's own number for a vmspace is no key to it (e1ea8b243e): given again, it names the new one and never the old.
fn number_given_again() -> Result<(), Problem> {
    for round in 0..6 {
        let old = create(2 * round).map_err(doing("making a vmspace"))?;
        let number = old.get();
        let runner = thread::spawn(move || run_program(number, LOOP_AT, FOREVER));
        let runner = runner.map_err(doing("starting a thread"))?;
        time::sleep(Duration::from_micros(200 * round));
        syscall::vmspace_destroy(old).map_err(|(_, errno)| Problem::Refused("destroying", errno))?;
        let new = create(2 * round + 1).map_err(doing("making a vmspace"))?;
        let seen = run_program(new.get(), CODE, FOREVER).map_err(doing("running"))?;
        let again = syscall::vmspace_destroy(OwnedHandle::from_raw(number)).map_err(|(handle, errno)| {
            let _closed = handle.into_raw();
            errno
        });
        let old = runner.join().ok_or_else(|| wrong("a runner ended itself"))?;
        // It may have come too late to enter.
        let left = old.map_or_else(
            |errno| errno == Errno::EBADF,
            |state| state.reason == RUN_DESTROYED,
        );
        if !left || again != Err(Errno::EBADF) {
            return Err(wrong("a handle of a destroyed vmspace reached something"));
        }
        if seen.reason != RUN_SYSCALL || seen.registers.rax != 2 * round + 1 {
            return Err(wrong("a new vmspace is not the one that was made"));
        }
        let still = run_program(new.get(), CODE, FOREVER).map_err(doing("running"))?;
        if still.registers.rax != 2 * round + 1 {
            return Err(wrong("a new vmspace was changed by what befell the old one"));
        }
    }
    Ok(())
}

/// What is in each slot: the vmspace's number and its handle, in one word.
static PUBLISHED: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];
static STOP: AtomicBool = AtomicBool::new(false);

/// Threads on all CPUs run in vmspaces that are made and destroyed under them (S1 of the stress suite).
fn all_at_once(random: &mut Random) -> Result<(), Problem> {
    let cpus = syscall::system_info()
        .map_err(doing("asking about the system"))?
        .cpus;
    STOP.store(false, Ordering::SeqCst);
    let mut numbers = [0; SLOTS];
    let mut owned = Vec::new();
    let mut next = 100;
    let mut publish = |slot: usize, number: &mut u64| -> Result<OwnedHandle, Problem> {
        next += 1;
        *number = next;
        let vmspace = create(next).map_err(doing("making a vmspace"))?;
        PUBLISHED[slot].store(next << 32 | u64::from(vmspace.get().0), Ordering::SeqCst);
        Ok(vmspace)
    };
    for (slot, number) in numbers.iter_mut().enumerate() {
        owned.push(publish(slot, number)?);
    }
    let mut threads = Vec::new();
    for index in 0..cpus as usize + 1 {
        let seed = random.next_number();
        let begun = thread::spawn(move || {
            let mut random = Random::new(seed);
            let mut outcome = Ok(0);
            while !STOP.load(Ordering::SeqCst) && outcome.is_ok() {
                let published = PUBLISHED[random.below(SLOTS as u64) as usize].load(Ordering::SeqCst);
                let (number, handle) = (published >> 32, Handle(published as u32));
                let once = if index == 0 {
                    change(&mut random, number, handle)
                } else {
                    enter(&mut random, number, handle)
                };
                outcome = outcome.and_then(|count: u64| once.map(|destroyed| count + u64::from(destroyed)));
            }
            outcome
        });
        threads.push(begun.map_err(doing("starting a thread"))?);
    }
    let mut outcome = Ok(());
    for _ in 0..ROUNDS {
        time::sleep(Duration::from_micros(random.below(3000)));
        let slot = random.below(SLOTS as u64) as usize;
        // The new one is there before the old one is gone, and the other way round.
        let early = random.below(2) == 0;
        let mut replacement = None;
        if early {
            replacement = Some(publish(slot, &mut numbers[slot]));
        }
        let old = owned.remove(slot);
        outcome = outcome
            .and(syscall::vmspace_destroy(old).map_err(|(_, errno)| Problem::Refused("destroying", errno)));
        let replacement = replacement.unwrap_or_else(|| publish(slot, &mut numbers[slot]));
        match replacement {
            Ok(new) => owned.insert(slot, new),
            Err(problem) => {
                outcome = outcome.and(Err(problem));
                break;
            }
        }
    }
    STOP.store(true, Ordering::SeqCst);
    // Whoever still runs comes back because what he runs in is destroyed.
    for vmspace in owned {
        outcome = outcome.and(
            syscall::vmspace_destroy(vmspace).map_err(|(_, errno)| Problem::Refused("destroying", errno)),
        );
    }
    let mut destroyed = 0;
    for thread in threads {
        match thread.join() {
            Some(Ok(count)) => destroyed += count,
            Some(Err(problem)) => outcome = outcome.and(Err(Problem::Wrong(problem))),
            None => outcome = outcome.and(Err(wrong("a thread ended itself"))),
        }
    }
    outcome?;
    if destroyed == 0 {
        return Err(wrong("nobody was in a vmspace when it was destroyed"));
    }
    Ok(())
}

/// Runs in a vmspace. True if it was destroyed meanwhile.
fn enter(random: &mut Random, number: u64, handle: Handle) -> Result<bool, alloc::string::String> {
    let (rip, timeout) = match random.below(4) {
        0 => (CODE, FOREVER),
        1 => (LOOP_AT, random.below(2_000_000)),
        _ => (LOOP_AT, FOREVER),
    };
    match run_program(handle, rip, timeout) {
        Err(Errno::EBADF) => Ok(false),
        // RUN with a time-out of 0 never begins.
        Ok(state) if state.reason == RUN_TIMEOUT && timeout != FOREVER => Ok(false),
        Ok(state) if state.reason == RUN_SYSCALL && rip == CODE && state.registers.rax == number => Ok(false),
        Ok(state) if state.reason == RUN_DESTROYED && [0, number].contains(&state.registers.rax) => Ok(true),
        other => Err(alloc::format!("RUN in vmspace {number} gave {other:x?}")),
    }
}

/// Changes, reads and writes a vmspace in which others run. Each call does its work or finds that there is no such vmspace.
fn change(random: &mut Random, number: u64, handle: Handle) -> Result<bool, alloc::string::String> {
    let place = DATA + PAGE_SIZE + random.below(8) * PAGE_SIZE;
    let mut buffer = [0; 3 * PAGE_SIZE as usize];
    let result = match random.below(5) {
        0 => map(handle, place, 4).map(drop),
        1 => syscall::vmspace_munmap(handle, place, 2 * PAGE_SIZE),
        2 => syscall::vmspace_mcontrol(handle, place, 4 * PAGE_SIZE, Advice::WillNeed, Vpte(0)),
        3 => syscall::vmspace_pwrite(handle, &buffer, place).map(drop),
        _ => match syscall::vmspace_pread(handle, &mut buffer, DATA) {
            Ok(count) if count >= 8 => {
                let seen = u64::from_le_bytes(core::array::from_fn(|index| buffer[index]));
                if seen != number {
                    return Err(alloc::format!("vmspace {number} has the number {seen}"));
                }
                Ok(())
            }
            other => other.map(drop),
        },
    };
    match result {
        // What is in the way of a transfer may just have been unmapped, or the whole vmspace.
        Ok(()) | Err(Errno::EBADF | Errno::EFAULT) => Ok(false),
        Err(errno) => Err(alloc::format!("a change of vmspace {number}: {errno}")),
    }
}
