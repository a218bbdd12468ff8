//! Limits of memory and of addresses, and who may set them.

use crate::{Board, Problem, copy, demand, doing, end_of, finish, verdict};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use dragonet_abi::layout::{MAX_OBJECT_SIZE, PAGE_SIZE};
use dragonet_abi::memory::{MapFlags, MapRequest, Protection};
use dragonet_abi::process::{ENDED_NO_MEMORY, LIMIT_READ, LimitKind, NO_LIMIT};
use dragonet_abi::{Errno, Handle, Rights};
use dragonet_rt::memory::Mapping;
use dragonet_rt::process::fork_into;
use dragonet_rt::{OwnedHandle, syscall};

const OWN: Handle = Handle::SELF_PROCESS;

fn ask(kind: LimitKind) -> Result<u64, Problem> {
    syscall::process_limit(OWN, kind, LIMIT_READ).map_err(doing("asking for a limit"))
}

fn set(kind: LimitKind, value: u64) -> Result<u64, Problem> {
    syscall::process_limit(OWN, kind, value).map_err(doing("setting a limit"))
}

fn touch(memory: &Mapping, page: u64) -> Result<(), Problem> {
    let word = memory.word(page * PAGE_SIZE).map_err(doing("touching a page"))?;
    word.store(page + 1, Ordering::Relaxed);
    Ok(())
}

/// A copy limits itself, uses all that is left, and dies of one page more.
pub fn memory() -> Result<(), Problem> {
    let board = Board::new()?;
    let report = Arc::clone(&board);
    let child = copy(move || {
        verdict((|| {
            const LEFT: u64 = 30;
            let memory = Mapping::anonymous(100 * PAGE_SIZE).map_err(doing("mapping memory"))?;
            let own = syscall::process_vmspace(OWN).map_err(doing("asking for a vmspace"))?;
            let object = syscall::object_create(10 * PAGE_SIZE).map_err(doing("making an object"))?;
            let shared = Mapping::of_object(
                object.get(),
                0,
                10 * PAGE_SIZE,
                Protection::READ | Protection::WRITE,
            )
            .map_err(doing("mapping an object"))?;
            // Once before, so that the stack is there.
            touch(&memory, 90)?;
            syscall::vmspace_pwrite(own.get(), &[1], memory.address()).map_err(doing("writing"))?;
            touch(&memory, 0)?;
            let used = ask(LimitKind::MemoryUsed)?;
            for page in 1..=LEFT - 10 {
                touch(&memory, page)?;
            }
            for page in 0..10 {
                touch(&shared, page)?;
            }
            demand(
                ask(LimitKind::MemoryUsed)? == used + LEFT,
                "pages are not counted",
            )?;
            set(LimitKind::Memory, used + LEFT)?;
            // Again to what is there, and for nothing new.
            for page in 0..LEFT - 10 {
                touch(&memory, page)?;
            }
            let above = memory.address() + 50 * PAGE_SIZE;
            demand(
                syscall::vmspace_pwrite(own.get(), &[1], above) == Err(Errno::ENOMEM),
                "a page above the limit was written by a call",
            )?;
            demand(
                ask(LimitKind::MemoryUsed)? == used + LEFT,
                "what was refused is counted",
            )?;
            report.set(0, 1);
            touch(&memory, 50)?;
            report.set(0, 2);
            Ok(())
        })())
    })?;
    let ending = end_of(&child)?;
    demand(board.get(0) != 2, "a page above the limit was there")?;
    demand(
        board.get(0) == 1 && ending.0.reason == ENDED_NO_MEMORY,
        "a copy did not die of the page above its limit",
    )
}

pub fn addresses() -> Result<(), Problem> {
    let child = copy(move || {
        verdict((|| {
            let used = ask(LimitKind::AddressSpaceUsed)?;
            set(LimitKind::AddressSpace, used + 64 * PAGE_SIZE)?;
            let map = |pages: u64| Mapping::anonymous(pages * PAGE_SIZE);
            let first = map(60).map_err(doing("mapping memory"))?;
            demand(
                map(5).err() == Some(Errno::ENOMEM),
                "a mapping above the limit was made",
            )?;
            let second = map(4).map_err(doing("mapping what is left"))?;
            demand(
                ask(LimitKind::AddressSpaceUsed)? == used + 64 * PAGE_SIZE,
                "bytes are not counted",
            )?;
            drop(first);
            demand(
                ask(LimitKind::AddressSpaceUsed)? == used + 4 * PAGE_SIZE,
                "what is unmapped stays counted",
            )?;
            let third = map(60).map_err(doing("mapping again"))?;
            drop((second, third));
            demand(
                ask(LimitKind::AddressSpaceUsed)? == used,
                "what is unmapped stays counted",
            )
        })())
    })?;
    finish(&child)
}

fn process() -> Result<OwnedHandle, Problem> {
    syscall::process_create("limited").map_err(doing("making a process"))
}

/// A limit is inherited, and never more than one's own can be given, not even to oneself.
pub fn authority() -> Result<(), Problem> {
    let child = copy(move || {
        verdict((|| {
            let limit = syscall::process_limit;
            for kind in [LimitKind::Memory, LimitKind::AddressSpace] {
                demand(
                    limit(OWN, kind, 1 << 40) == Ok(NO_LIMIT),
                    "there was a limit before",
                )?;
                demand(
                    limit(OWN, kind, (1 << 40) + 1) == Err(Errno::EPERM),
                    "a process gave itself more",
                )?;
                let other = process()?;
                demand(
                    limit(other.get(), kind, LIMIT_READ) == Ok(1 << 40),
                    "a limit is not inherited",
                )?;
                demand(
                    limit(other.get(), kind, NO_LIMIT) == Err(Errno::EPERM),
                    "a process gave another more than it has",
                )?;
                demand(
                    limit(other.get(), kind, 5) == Ok(1 << 40) && limit(other.get(), kind, 1 << 40) == Ok(5),
                    "a limit is not what was set",
                )?;
                demand(
                    limit(OWN, kind, LIMIT_READ) == Ok(1 << 40),
                    "another's limit is one's own",
                )?;
                let weak = other.duplicate(Rights::WAIT | Rights::KILL);
                let weak = weak.map_err(doing("duplicating a handle"))?;
                demand(
                    limit(weak.get(), kind, LIMIT_READ) == Err(Errno::EPERM),
                    "a limit without the right",
                )?;
            }
            for kind in [LimitKind::MemoryUsed, LimitKind::AddressSpaceUsed] {
                demand(limit(OWN, kind, 0) == Err(Errno::EINVAL), "what is used was set")?;
                let other = process()?;
                demand(
                    limit(other.get(), kind, LIMIT_READ) == Ok(0),
                    "a new process uses something",
                )?;
            }
            Ok(())
        })())
    })?;
    finish(&child)
}

/// A copy of this program for a process that may not have so much.
pub fn copies() -> Result<(), Problem> {
    for kind in [LimitKind::Memory, LimitKind::AddressSpace] {
        let process = process()?;
        let vmspace = syscall::process_vmspace(process.get()).map_err(doing("asking for a vmspace"))?;
        let set =
            |value| syscall::process_limit(process.get(), kind, value).map_err(doing("setting a limit"));
        set(7)?;
        demand(
            fork_into(vmspace.get()) == Err(Errno::ENOMEM),
            "a copy above the limit was made",
        )?;
        for used in [LimitKind::MemoryUsed, LimitKind::AddressSpaceUsed] {
            demand(
                syscall::process_limit(process.get(), used, LIMIT_READ) == Ok(0),
                "a copy that was refused left something",
            )?;
        }
        set(NO_LIMIT)?;
        // It is empty, so it can still be filled.
        fork_into(vmspace.get()).map_err(doing("making a copy"))?;
        demand(
            fork_into(vmspace.get()) == Err(Errno::EBUSY),
            "a process was filled twice",
        )?;
        let used = syscall::process_limit(process.get(), LimitKind::MemoryUsed, LIMIT_READ);
        demand(
            used.is_ok_and(|used| used > 10),
            "a copy is not counted for its process",
        )?;
    }
    Ok(())
}

/// Objects far larger than the machine, touched here and there.
pub fn sparse_objects() -> Result<(), Problem> {
    const SIXTEEN_TIB: u64 = 16 << 40;
    let before = ask(LimitKind::MemoryUsed)?;
    for size in [5 << 30, SIXTEEN_TIB, MAX_OBJECT_SIZE] {
        let object = syscall::object_create(size).map_err(doing("making a large object"))?;
        let last = Mapping::of_object(
            object.get(),
            size - PAGE_SIZE,
            PAGE_SIZE,
            Protection::READ | Protection::WRITE,
        );
        let last = last.map_err(doing("mapping the last page"))?;
        // All of it, in a process that has room.
        let process = process()?;
        let vmspace = syscall::process_vmspace(process.get()).map_err(doing("asking for a vmspace"))?;
        let request = MapRequest {
            address: 1 << 40,
            length: size,
            protection: (Protection::READ | Protection::WRITE).bits(),
            flags: (MapFlags::SHARED | MapFlags::FIXED).bits(),
            object: object.get(),
            reserved: 0,
            offset: 0,
        };
        syscall::vmspace_mmap(vmspace.get(), &request).map_err(doing("mapping a large object"))?;
        let places = [0, 4 << 30, size / 2, size - PAGE_SIZE];
        for place in places {
            let bytes = (place + 1).to_le_bytes();
            let written = syscall::vmspace_pwrite(vmspace.get(), &bytes, request.address + place);
            written.map_err(doing("writing far apart"))?;
        }
        for place in places {
            let mut bytes = [0; 8];
            let read = syscall::vmspace_pread(vmspace.get(), &mut bytes, request.address + place);
            read.map_err(doing("reading far apart"))?;
            demand(u64::from_le_bytes(bytes) == place + 1, "two places are one")?;
        }
        let seen = last.word(0).map_err(doing("reading the last page"))?;
        demand(
            seen.load(Ordering::Relaxed) == size - PAGE_SIZE + 1,
            "the last page is elsewhere",
        )?;
        demand(
            ask(LimitKind::MemoryUsed)? <= before + 4 + 8,
            "an object takes more than the pages that were touched",
        )?;
    }
    Ok(())
}
