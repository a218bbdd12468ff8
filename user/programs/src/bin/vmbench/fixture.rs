//! Memory that is mapped through a page table stored in it, here and in a vmspace with a program that does nothing.

use core::sync::atomic::Ordering;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::{Advice, MapFlags, MapRequest, Protection, Vpte};
use dragonet_abi::time::FOREVER;
use dragonet_abi::vmspace::{RUN_SYSCALL, RegisterFrame, RunState};
use dragonet_abi::{Errno, Handle};
use dragonet_rt::memory::Mapping;
use dragonet_rt::{OwnedHandle, syscall, system};

/// Pages that the table maps: what one table of the lowest level can.
pub const PAGES: u64 = 512;
const SIZE: u64 = PAGES * PAGE_SIZE;
/// Tables, one of each level, at the beginning of the object.
const TABLES: u64 = 4;
const ALLOW: u64 = Vpte::VALID | Vpte::WRITE | Vpte::USER;
const ROOT: Vpte = Vpte(ALLOW);

/// The memory and its table.
pub struct Physical {
    object: OwnedHandle,
    /// As it is, without the table.
    view: Mapping,
}

impl Physical {
    /// A table of four levels that maps [`PAGES`] pages of the same object.
    pub fn new() -> Result<Self, Errno> {
        let size = TABLES * PAGE_SIZE + SIZE;
        let object = syscall::object_create(size)?;
        let view = Mapping::of_object(object.get(), 0, size, Protection::READ | Protection::WRITE)?;
        for level in 1..TABLES {
            view.word((level - 1) * PAGE_SIZE)?
                .store(level * PAGE_SIZE | ALLOW, Ordering::Relaxed);
        }
        for page in 0..PAGES {
            let entry = (TABLES + page) * PAGE_SIZE | ALLOW;
            view.word((TABLES - 1) * PAGE_SIZE + 8 * page)?
                .store(entry, Ordering::Relaxed);
            // So that the page is there.
            view.word((TABLES + page) * PAGE_SIZE)?
                .store(0, Ordering::Relaxed);
        }
        Ok(Physical { object, view })
    }

    /// A mapping here, through the table.
    pub fn mapped(&self) -> Result<Mapping, Errno> {
        let mapping = Mapping::of_page_table(self.object.get(), SIZE)?;
        mapping.set_map(ROOT)?;
        Ok(mapping)
    }

    /// Sets the first word of a mapped page.
    pub fn set(&self, page: u64, value: u64) -> Result<(), Errno> {
        self.view
            .word((TABLES + page) * PAGE_SIZE)?
            .store(value, Ordering::SeqCst);
        Ok(())
    }
}

/// Loads the first word of the mapping's first pages, so that they have translations.
pub fn load(mapping: &Mapping, pages: u64) -> Result<(), Errno> {
    for page in 0..pages {
        mapping.word(page * PAGE_SIZE)?.load(Ordering::Relaxed);
    }
    Ok(())
}

/// Where a guest has its program.
const CODE: u64 = 0x4000_0000;
/// Where a guest has the memory with the table.
const DATA: u64 = 0x5000_0000;
/// The page whose first word the program looks at.
pub const FLAG_PAGE: u64 = PAGES - 1;
/// Waits until the word at `rdi` is not zero, makes a system call, and begins anew:
/// `mov rax, [rdi]; test rax, rax; jz -8; syscall; jmp -12`.
const PROGRAM: [u8; 12] = [
    0x48, 0x8b, 0x07, 0x48, 0x85, 0xc0, 0x74, 0xf8, 0x0f, 0x05, 0xeb, 0xf4,
];

/// A vmspace with the memory and a program.
pub struct Guest {
    handle: OwnedHandle,
}

impl Guest {
    /// A guest whose program waits for the first word of [`FLAG_PAGE`].
    pub fn new(physical: &Physical) -> Result<Self, Errno> {
        let code = syscall::object_create(PAGE_SIZE)?;
        Mapping::of_object(code.get(), 0, PAGE_SIZE, Protection::READ | Protection::WRITE)?
            .write(0, &PROGRAM)?;
        let handle = syscall::vmspace_create(system::handle()?)?;
        let map = |address, length, protection: Protection, flags: MapFlags, object: Handle| {
            let request = MapRequest {
                address,
                length,
                protection: protection.bits(),
                flags: (flags | MapFlags::SHARED | MapFlags::FIXED).bits(),
                object,
                reserved: 0,
                offset: 0,
            };
            syscall::vmspace_mmap(handle.get(), &request)
        };
        let (read, write, execute) = (Protection::READ, Protection::WRITE, Protection::EXECUTE);
        map(CODE, PAGE_SIZE, read | execute, MapFlags::empty(), code.get())?;
        map(
            DATA,
            SIZE,
            read | write,
            MapFlags::VPAGETABLE,
            physical.object.get(),
        )?;
        syscall::vmspace_mcontrol(handle.get(), DATA, SIZE, Advice::SetMap, ROOT)?;
        Ok(Guest { handle })
    }

    /// Registers with which the program begins.
    pub fn state(&self) -> RunState {
        RunState {
            registers: RegisterFrame {
                rip: CODE,
                rdi: DATA + FLAG_PAGE * PAGE_SIZE,
                ..RegisterFrame::default()
            },
            ..RunState::default()
        }
    }

    /// Runs the program until its next system call.
    ///
    /// # Errors
    /// EIO if something else ended it.
    pub fn run(&self, state: &mut RunState) -> Result<(), Errno> {
        state.timeout = FOREVER;
        syscall::vmspace_ctl_run(self.handle.get(), state)?;
        if state.reason == RUN_SYSCALL {
            Ok(())
        } else {
            Err(Errno::EIO)
        }
    }

    /// Has the host forget its translations of some pages.
    pub fn invalidate(&self, page: u64, pages: u64) -> Result<(), Errno> {
        let (address, length) = (DATA + page * PAGE_SIZE, pages * PAGE_SIZE);
        syscall::vmspace_mcontrol(self.handle.get(), address, length, Advice::Invalidate, Vpte(0))
    }

    /// Reads a byte of each of the first pages through the guest's translations, so that they exist.
    pub fn load(&self, pages: u64) -> Result<(), Errno> {
        (0..pages).try_for_each(|page| {
            syscall::vmspace_pread(self.handle.get(), &mut [0], DATA + page * PAGE_SIZE).map(drop)
        })
    }
}
