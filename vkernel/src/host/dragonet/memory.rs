//! RAM, and address spaces whose translations come from page tables in it.

use super::exit::{self, Guest};
use super::soft;
use crate::host::Mode;
use crate::linux::Errno;
use crate::memory::ram::Ram;
use core::ops::Range;
use core::ptr::{self, NonNull};
use dragonet_abi::layout::{PAGE_SIZE, USER_END, USER_START};
use dragonet_abi::memory::{Advice, MapFlags, MapRequest, Protection, Vpte};
use dragonet_abi::vmspace::RunState;
use dragonet_rt::{OwnedHandle, syscall};

/// Frames that are left to the host ...
const RESERVE: u64 = 512;
/// ... or this part of all, if that is more.
const RESERVE_PART: u64 = 32;

/// The RAM object, where the vkernel sees it, and who walks the page tables in it.
struct RamObject {
    object: OwnedHandle,
    base: u64,
    /// In exit mode.
    guest: Option<Guest>,
}

static RAM: spin::Once<RamObject> = spin::Once::new();

/// Makes the RAM object and maps it. Pages come when they are touched. Called once.
///
/// To the software walker, page-table entries count from the start of the object; to the MMU of a guest, from address 0 of this process.
pub fn map_ram(size: u64, mode: Mode) -> Result<Ram, Errno> {
    let object = syscall::object_create(size)?;
    let (flags, guest) = match mode {
        Mode::Soft => (MapFlags::SHARED, None),
        Mode::Exit => (MapFlags::SHARED | MapFlags::GUEST_MEMORY, Some(Guest::new()?)),
    };
    let request = MapRequest {
        address: 0,
        length: size,
        protection: (Protection::READ | Protection::WRITE).bits(),
        flags: flags.bits(),
        object: object.get(),
        reserved: 0,
        offset: 0,
    };
    // SAFETY: the host chooses addresses where nothing is mapped.
    let base = unsafe { syscall::mmap(&request)? };
    let physical_base = if guest.is_some() { base } else { 0 };
    RAM.call_once(|| RamObject { object, base, guest });
    let pointer = NonNull::new(ptr::with_exposed_provenance_mut(base as usize)).ok_or(Errno::ENOMEM)?;
    let frames = u32::try_from(size / PAGE_SIZE).map_err(|_| Errno::ENOMEM)?;
    // SAFETY: the mapping is page-aligned, has that size, is never undone, and nobody else knows its address.
    Ok(unsafe { Ram::new(pointer, frames, physical_base) })
}

/// Brings in the host's memory behind part of RAM. The host ends a process for whose fault it has no memory, so the last frames
/// of the host are not asked for: a program of ours is ended instead.
pub fn back_ram(offset: u64, length: u64) -> Result<(), Errno> {
    let ram = RAM.get().ok_or(Errno::ENOMEM)?;
    let information = syscall::system_info()?;
    let reserve = (information.frames_total / RESERVE_PART).max(RESERVE);
    if information.frames_free < reserve + length / PAGE_SIZE {
        return Err(Errno::ENOMEM);
    }
    // SAFETY: the advice changes no contents.
    unsafe { syscall::madvise(ram.base + offset, length, Advice::WillNeed)? };
    Ok(())
}

/// What the CPUs' threads are guests of; `None` in soft mode.
pub(super) fn guest() -> Option<&'static Guest> {
    RAM.get().and_then(|ram| ram.guest.as_ref())
}

/// Program addresses that are translated by a page table in RAM.
pub enum Vmspace {
    /// By the host's walker, into a vmspace.
    Soft(soft::Space),
    /// By the MMU.
    Exit(exit::Space),
}

impl Vmspace {
    /// The whole user range as the table of `root` says.
    pub fn new(root: Vpte) -> Result<Self, Errno> {
        let ram = RAM.get().ok_or(Errno::ENOMEM)?;
        Ok(match ram.guest {
            None => Vmspace::Soft(soft::Space::new(&ram.object, root)?),
            Some(_) => Vmspace::Exit(exit::Space::new(root)),
        })
    }

    /// Runs the calling thread as the program until something happens.
    pub fn run(&self, state: &mut RunState) -> Result<(), Errno> {
        match self {
            Vmspace::Soft(space) => space.run(state),
            Vmspace::Exit(space) => space.run(state),
        }
    }

    /// Makes every CPU forget translations of a range. When this returns, none can use an old one.
    pub fn invalidate(&self, range: Range<u64>) {
        let range = range.start.max(USER_START)..range.end.min(USER_END);
        let done = match self {
            Vmspace::Soft(space) => space.invalidate(range),
            Vmspace::Exit(_) => exit::invalidate(range),
        };
        // The range is aligned and a program's, so the host has nothing to refuse. If it did, frames would be reused while programs can still
        // reach them: better to stop.
        done.expect("the host invalidates a valid range");
    }
}
