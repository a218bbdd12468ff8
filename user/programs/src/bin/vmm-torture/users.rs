//! What a vkernel needs for its users: memory, a page table in it, code, and a way to run them.

use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::Errno;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::{Protection, Vpte};
use dragonet_abi::vmspace::{RUN_EXCEPTION, RUN_SYSCALL, RegisterFrame, RunState};
use dragonet_programs::torture::problem::{Outcome, doing};
use dragonet_programs::vm::{ALLOW, PageTable, Ram, code};
use dragonet_rt::memory::Mapping;
use dragonet_rt::syscall;

/// Vectors.
pub const UNDEFINED_OPCODE: u32 = 6;
pub const PAGE_FAULT: u32 = 14;
/// The instruction by which users call their vkernel, and its length.
pub const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// Rights of pages that hold code.
pub const EXECUTE: u64 = Vpte::VALID | Vpte::USER;
/// Rights of pages that are only read.
pub const READ: u64 = Vpte::VALID | Vpte::USER | Vpte::NO_EXECUTE;

/// Memory that users can execute: whoever writes it has it elsewhere, since no mapping allows both.
#[derive(Debug)]
pub struct Text {
    ram: Ram,
    executable: Mapping,
}

impl Text {
    /// `size` bytes of zeroes.
    pub fn new(size: u64) -> Outcome<Self> {
        let ram = Ram::new(size).map_err(doing("making memory for code"))?;
        let executable = Mapping::of_object(ram.object(), 0, size, Protection::READ | Protection::EXECUTE)
            .map_err(doing("mapping code"))?;
        Ok(Text { ram, executable })
    }

    /// The page of [`code`].
    pub fn of_programs() -> Outcome<Self> {
        let text = Self::new(PAGE_SIZE)?;
        text.write(0, &code::page())?;
        Ok(text)
    }

    /// Stores code.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Outcome {
        self.ram.write(offset, bytes).map_err(doing("writing code"))
    }

    /// Guest-physical address of the first byte.
    pub const fn address(&self) -> u64 {
        self.executable.address()
    }
}

/// A page table of users, with the memory that it is in.
#[derive(Debug)]
pub struct Space {
    /// Physical addresses are the program's own.
    pub ram: Ram,
    table: PageTable,
}

impl Space {
    /// An empty table in a memory of so many pages.
    pub fn new(pages: u64) -> Outcome<Self> {
        let ram = Ram::for_guest_mode(pages * PAGE_SIZE).map_err(doing("making the memory"))?;
        let table = PageTable::new(&ram).map_err(doing("making the table"))?;
        Ok(Space { ram, table })
    }

    /// Another table in the same memory, whose root has the same entries.
    pub fn twin(&self) -> Outcome<u64> {
        let root = self.ram.page().map_err(doing("taking a page"))?;
        for offset in (0..PAGE_SIZE).step_by(8) {
            let entry = self
                .ram
                .load(self.root() + offset)
                .map_err(doing("reading a root"))?;
            self.ram
                .store(root + offset, entry)
                .map_err(doing("writing a root"))?;
        }
        Ok(root)
    }

    /// Address of the root.
    pub const fn root(&self) -> u64 {
        self.table.root().offset()
    }

    /// A new page of the memory.
    pub fn page(&self) -> Outcome<u64> {
        self.ram.page().map_err(doing("taking a page"))
    }

    /// The entry for `address` in the table of `level`.
    pub fn entry(&self, address: u64, level: u8) -> Outcome<&AtomicU64> {
        self.table
            .entry(&self.ram, address, level)
            .map_err(doing("finding an entry"))
    }

    /// Sets the entry of the page at `address`.
    pub fn map(&self, address: u64, entry: u64) -> Outcome {
        self.entry(address, 1)?.store(entry, Ordering::SeqCst);
        Ok(())
    }

    /// Maps `pages` pages from `physical` on.
    pub fn map_pages(&self, address: u64, physical: u64, pages: u64, rights: u64) -> Outcome {
        for offset in (0..pages * PAGE_SIZE).step_by(PAGE_SIZE as usize) {
            self.map(address + offset, physical + offset | rights)?;
        }
        Ok(())
    }

    /// Maps the page of [`code`] where its programs expect to be.
    pub fn map_programs(&self, text: &Text) -> Outcome {
        self.map(code::ADDRESS, text.address() | EXECUTE)
    }

    /// A page of the memory, mapped at `address`; where it is.
    pub fn map_new(&self, address: u64) -> Outcome<u64> {
        let page = self.page()?;
        self.map(address, page | ALLOW)?;
        Ok(page)
    }
}

/// Runs a user for at most `timeout` nanoseconds.
///
/// # Errors
/// Those of `vmspace_ctl`.
pub fn run_for(root: u64, registers: RegisterFrame, timeout: u64) -> Result<RunState, Errno> {
    let mut state = RunState {
        registers,
        timeout,
        ..RunState::default()
    };
    syscall::vmm_run_user(root, &mut state)?;
    Ok(state)
}

/// As [`run_for`], for users that execute [`code`]: a vkernel looks at an undefined opcode, and here it can only be a call.
///
/// # Errors
/// Those of `vmspace_ctl`.
pub fn run_program(root: u64, registers: RegisterFrame, timeout: u64) -> Result<RunState, Errno> {
    let mut state = run_for(root, registers, timeout)?;
    let page = code::ADDRESS..code::ADDRESS + code::SIZE as u64;
    if state.reason == RUN_EXCEPTION
        && state.vector == UNDEFINED_OPCODE
        && page.contains(&state.registers.rip)
    {
        state.reason = RUN_SYSCALL;
    }
    Ok(state)
}

/// Forgets translations of a range of linear addresses of this process's guest; the caller is in guest mode.
pub fn invalidate(address: u64, length: u64) -> Outcome {
    dragonet_rt::guest::invalidate(address, length).map_err(doing("invalidating"))
}
