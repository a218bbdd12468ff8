//! `vpagetable-basic`: the basic test of memory that is mapped by a page table stored in it.
//!
//! The first version of this test came with the announcement of `MAP_VPAGETABLE` for DragonFly BSD in September 2006,
//! with two-level tables of its own format; this is that test for four-level tables in the hardware's format. A block of
//! "physical memory" is mapped through a table in its own first pages. Two pages of the mapping are aliases of one page; a
//! third shows the page with the table's own entries. Then the third entry is made invalid, and the access must fault.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

use core::sync::atomic::Ordering;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::{Advice, MapFlags, MapRequest, Protection, Vpte};
use dragonet_abi::process::ENDED_EXCEPTION;
use dragonet_abi::time::FOREVER;
use dragonet_abi::vmspace::{RUN_EXCEPTION, RUN_SYSCALL, RegisterFrame, RunState};
use dragonet_abi::{Errno, Handle};
use dragonet_programs::checks::Checks;
use dragonet_programs::options::Syntax;
use dragonet_programs::text::fault;
use dragonet_rt::memory::Mapping;
use dragonet_rt::process::Command;
use dragonet_rt::{Arguments, ExitCode, OwnedHandle, println, syscall, system};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: vpagetable-basic [-f]

Maps memory through a page table stored in it, and checks aliases, the table itself and a fault.
  -f        only make the access that must fault, and die of it";

const SYNTAX: Syntax = Syntax {
    flags: "f",
    ..Syntax::new(HELP)
};

/// Bytes of the "physical memory", and of the mapping.
const SIZE: u64 = 16 << 20;
/// What an entry of the directory spans.
const BLOCK: u64 = 2 << 20;

// Where the tables lie in the memory. The directory is page 0, so that a page that shows offset 0 shows its first entry.
const DIRECTORY: u64 = 0;
const ROOT: u64 = PAGE_SIZE;
const POINTERS: u64 = 2 * PAGE_SIZE;
const TABLE: u64 = 3 * PAGE_SIZE;
/// The page that has aliases.
const DATA: u64 = BLOCK;

const ALLOW: u64 = Vpte::VALID | Vpte::WRITE | Vpte::USER;
/// The first block: a linear map of the first 2 MiB, where the tables are.
const FIRST_BLOCK: u64 = ALLOW | Vpte::LARGE;
const VALUE: u64 = 23;

const PAGE_FAULT: u32 = 14;
/// Where the vmspace has the program that makes one access.
const CODE: u64 = 0x4000_0000;
/// `mov rax, [rdi]` and `syscall`.
const ACCESS: [u8; 5] = [0x48, 0x8b, 0x07, 0x0f, 0x05];

fn main(arguments: Arguments) -> ExitCode {
    let options = match SYNTAX.parse(&arguments) {
        Ok(options) => options,
        Err(status) => return status,
    };
    let outcome = if options.has('f') { fault_here() } else { run() };
    outcome.unwrap_or_else(|errno| fault("preparing the test", errno))
}

/// The object with its tables, and the two ways to see it.
struct Memory {
    object: OwnedHandle,
    /// As it is: "physical".
    physical: Mapping,
    /// Through the table: "virtual".
    space: Mapping,
}

impl Memory {
    fn new() -> Result<Self, Errno> {
        let object = syscall::object_create(SIZE)?;
        let physical = Mapping::of_object(object.get(), 0, SIZE, Protection::READ | Protection::WRITE)?;
        let memory = Memory {
            space: Mapping::of_page_table(object.get(), SIZE)?,
            physical,
            object,
        };
        memory.set(ROOT, 0, POINTERS | ALLOW)?;
        memory.set(POINTERS, 0, DIRECTORY | ALLOW)?;
        memory.set(DIRECTORY, 0, FIRST_BLOCK)?;
        memory.set(DIRECTORY, 1, TABLE | ALLOW)?;
        memory.set(TABLE, 0, DATA | ALLOW)?;
        memory.set(TABLE, 1, DATA | ALLOW)?;
        memory.set(TABLE, 2, DIRECTORY | ALLOW)?;
        // The walk starts at the place of the mapping in the object, not at the mapping's address, so entry 0 of each level it is.
        memory.space.set_map(root())?;
        Ok(memory)
    }

    /// Sets an entry of a table.
    fn set(&self, table: u64, index: u64, entry: u64) -> Result<(), Errno> {
        self.physical
            .word(table + 8 * index)?
            .store(entry, Ordering::SeqCst);
        Ok(())
    }

    /// Reads through the table.
    fn read(&self, offset: u64) -> Result<u64, Errno> {
        Ok(self.space.word(offset)?.load(Ordering::SeqCst))
    }
}

/// The root entry.
const fn root() -> Vpte {
    Vpte(ROOT | ALLOW)
}

fn run() -> Result<ExitCode, Errno> {
    let mut checks = Checks::default();
    let memory = Memory::new()?;
    println!(
        "memory of {} MiB through its own table at {:#x}",
        SIZE >> 20,
        memory.space.address()
    );

    memory.space.word(BLOCK)?.store(VALUE, Ordering::SeqCst);
    let first = memory.read(BLOCK)?;
    println!("test alias {first} (should be {VALUE})");
    expect(&mut checks, "first alias", first, VALUE);
    let second = memory.read(BLOCK + PAGE_SIZE)?;
    println!("test alias {second} (should be {VALUE})");
    expect(&mut checks, "second alias", second, VALUE);
    let third = memory.read(BLOCK + 2 * PAGE_SIZE)?;
    println!("test alias {third:#x} (should be the entry of the first block, {FIRST_BLOCK:#x}, used or not)");
    expect(
        &mut checks,
        "entry of the first block",
        third & !(Vpte::ACCESSED | Vpte::DIRTY),
        FIRST_BLOCK,
    );
    let physical = memory.physical.word(DATA)?.load(Ordering::SeqCst);
    expect(&mut checks, "value in the memory itself", physical, VALUE);
    let used = memory.physical.word(TABLE)?.load(Ordering::SeqCst);
    expect(
        &mut checks,
        "accessed and dirty",
        used,
        DATA | ALLOW | Vpte::ACCESSED | Vpte::DIRTY,
    );

    let vmspace = Vmspace::new(&memory)?;
    expect_read(
        &mut checks,
        "alias in a vmspace",
        &vmspace.access(BLOCK + PAGE_SIZE)?,
        VALUE,
    );

    memory.set(TABLE, 2, 0)?;
    memory.space.invalidate(BLOCK + 2 * PAGE_SIZE, PAGE_SIZE)?;
    vmspace.invalidate(BLOCK + 2 * PAGE_SIZE, PAGE_SIZE)?;
    let address = vmspace.start + BLOCK + 2 * PAGE_SIZE;
    let state = vmspace.access(BLOCK + 2 * PAGE_SIZE)?;
    println!(
        "caught exception {} with error code {:#x} at {:#x} (should be a page fault, 14, at {address:#x})",
        state.vector, state.error_code, state.fault_address
    );
    let caught =
        state.reason == RUN_EXCEPTION && state.vector == PAGE_FAULT && state.fault_address == address;
    checks.report(
        "fault of the invalid entry",
        caught,
        format_args!("got {state:?}"),
    );
    expect_read(
        &mut checks,
        "neighbour of the invalid entry",
        &vmspace.access(BLOCK + PAGE_SIZE)?,
        VALUE,
    );
    memory.set(TABLE, 2, DATA | ALLOW)?;
    expect_read(
        &mut checks,
        "entry made valid again",
        &vmspace.access(BLOCK + 2 * PAGE_SIZE)?,
        VALUE,
    );

    let child = Command::new("vpagetable-basic")
        .argument("-f")
        .spawn()
        .map_err(|_| Errno::ENOENT)?;
    let ending = child.wait()?;
    println!("a process that makes the access: {ending}");
    let died = ending.0.reason == ENDED_EXCEPTION && ending.0.status == PAGE_FAULT;
    checks.report("fault in a process", died, format_args!("got {ending}"));
    Ok(checks.finish())
}

/// Makes the access that must fault in this process.
fn fault_here() -> Result<ExitCode, Errno> {
    let memory = Memory::new()?;
    memory.read(BLOCK + 2 * PAGE_SIZE)?;
    memory.set(TABLE, 2, 0)?;
    memory.space.invalidate(BLOCK + 2 * PAGE_SIZE, PAGE_SIZE)?;
    let value = memory.read(BLOCK + 2 * PAGE_SIZE)?;
    println!("read {value:#x} where nothing is mapped");
    Ok(ExitCode::FAILURE)
}

fn expect(checks: &mut Checks, name: &str, value: u64, expected: u64) {
    checks.report(
        name,
        value == expected,
        format_args!("got {value:#x}, expected {expected:#x}"),
    );
}

fn expect_read(checks: &mut Checks, name: &str, state: &RunState, expected: u64) {
    let good = state.reason == RUN_SYSCALL && state.registers.rax == expected;
    checks.report(name, good, format_args!("got {state:?}, expected {expected:#x}"));
}

/// A vmspace that sees the memory through the table, and has a program that makes one access.
struct Vmspace {
    handle: OwnedHandle,
    /// Address of the mapping.
    start: u64,
}

impl Vmspace {
    fn new(memory: &Memory) -> Result<Self, Errno> {
        let handle = syscall::vmspace_create(system::handle()?)?;
        let code = syscall::object_create(PAGE_SIZE)?;
        Mapping::of_object(code.get(), 0, PAGE_SIZE, Protection::READ | Protection::WRITE)?
            .write(0, &ACCESS)?;
        let map = |address, length, protection: Protection, flags: MapFlags, object: Handle| {
            let flags = flags.bits();
            let protection = protection.bits();
            syscall::vmspace_mmap(
                handle.get(),
                &MapRequest {
                    address,
                    length,
                    protection,
                    flags,
                    object,
                    reserved: 0,
                    offset: 0,
                },
            )
        };
        let fixed = MapFlags::SHARED | MapFlags::FIXED;
        map(
            CODE,
            PAGE_SIZE,
            Protection::READ | Protection::EXECUTE,
            fixed,
            code.get(),
        )?;
        let flags = MapFlags::SHARED | MapFlags::VPAGETABLE;
        let start = map(
            0,
            SIZE,
            Protection::READ | Protection::WRITE,
            flags,
            memory.object.get(),
        )?;
        syscall::vmspace_mcontrol(handle.get(), start, SIZE, Advice::SetMap, root())?;
        Ok(Vmspace { handle, start })
    }

    fn invalidate(&self, offset: u64, length: u64) -> Result<(), Errno> {
        syscall::vmspace_mcontrol(
            self.handle.get(),
            self.start + offset,
            length,
            Advice::Invalidate,
            Vpte(0),
        )
    }

    /// Reads a word of the mapping as a user of the vmspace.
    fn access(&self, offset: u64) -> Result<RunState, Errno> {
        let mut state = RunState {
            registers: RegisterFrame {
                rip: CODE,
                rdi: self.start + offset,
                ..RegisterFrame::default()
            },
            timeout: FOREVER,
            ..RunState::default()
        };
        syscall::vmspace_ctl_run(self.handle.get(), &mut state)?;
        Ok(state)
    }
}
