//! The test of 2006.
//!
//! It came with the announcement of `MAP_VPAGETABLE`, for two-level tables of a format of its own; this is the same for four-level tables in
//! the hardware's format. A block of "physical memory" is mapped through a table in its own first pages. Two pages of the
//! mapping are aliases of one page; a third shows the page with the table's own entries. Then the third entry is made
//! invalid, and the access must fault: in a vmspace, where the fault comes back, and in a process, which dies of it.

use crate::machine::{expect, fault_at};
use core::sync::atomic::Ordering;
use dragonet_abi::Errno;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::Vpte;
use dragonet_abi::process::ENDED_EXCEPTION;
use dragonet_programs::checks::Checks;
use dragonet_programs::vm::{ALLOW, Guest, Ram, Seen};
use dragonet_rt::memory::Mapping;
use dragonet_rt::process::Command;
use dragonet_rt::{ExitCode, println};

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

/// The first block: a linear map of the first 2 MiB, where the tables are.
const FIRST_BLOCK: u64 = ALLOW | Vpte::LARGE;
const VALUE: u64 = 23;
const PAGE_FAULT: u32 = 14;
/// Where the vmspace has the mapping.
const START: u64 = 0x5000_0000;

/// The root entry.
const fn root() -> Vpte {
    Vpte(ROOT | ALLOW)
}

/// The memory with its tables, and the same memory through them.
struct Memory {
    physical: Ram,
    space: Mapping,
}

impl Memory {
    fn new() -> Result<Self, Errno> {
        let physical = Ram::new(SIZE)?;
        for (table, index, entry) in [
            (ROOT, 0, POINTERS | ALLOW),
            (POINTERS, 0, DIRECTORY | ALLOW),
            (DIRECTORY, 0, FIRST_BLOCK),
            (DIRECTORY, 1, TABLE | ALLOW),
            (TABLE, 0, DATA | ALLOW),
            (TABLE, 1, DATA | ALLOW),
            (TABLE, 2, DIRECTORY | ALLOW),
        ] {
            physical.store(table + 8 * index, entry)?;
        }
        // The walk starts at the place of the mapping in the object, not at the mapping's address, so entry 0 of each level it is.
        let space = Mapping::of_page_table(physical.object(), SIZE)?;
        space.set_map(root())?;
        Ok(Memory { physical, space })
    }

    /// Reads through the table.
    fn read(&self, offset: u64) -> Result<u64, Errno> {
        Ok(self.space.word(offset)?.load(Ordering::SeqCst))
    }
}

pub fn run(checks: &mut Checks) -> Result<(), Errno> {
    let memory = Memory::new()?;
    println!(
        "memory of {} MiB through its own table at {:#x}",
        SIZE >> 20,
        memory.space.address()
    );

    memory.space.word(BLOCK)?.store(VALUE, Ordering::SeqCst);
    let first = memory.read(BLOCK)?;
    println!("test alias {first} (should be {VALUE})");
    expect(checks, "first alias", first, VALUE);
    let second = memory.read(BLOCK + PAGE_SIZE)?;
    println!("test alias {second} (should be {VALUE})");
    expect(checks, "second alias", second, VALUE);
    let third = memory.read(BLOCK + 2 * PAGE_SIZE)?;
    println!("test alias {third:#x} (should be the entry of the first block, {FIRST_BLOCK:#x}, used or not)");
    let unmarked = third & !(Vpte::ACCESSED | Vpte::DIRTY);
    expect(checks, "entry of the first block", unmarked, FIRST_BLOCK);
    expect(
        checks,
        "value in the memory itself",
        memory.physical.load(DATA)?,
        VALUE,
    );
    let used = DATA | ALLOW | Vpte::ACCESSED | Vpte::DIRTY;
    expect(checks, "accessed and dirty", memory.physical.load(TABLE)?, used);

    let guest = Guest::new()?;
    guest.map_table(&memory.physical, START, SIZE, 0, root())?;
    let (second, third) = (START + BLOCK + PAGE_SIZE, START + BLOCK + 2 * PAGE_SIZE);
    let seen = guest.load(second)?;
    expect(checks, "alias in a vmspace", seen, Seen::Value(VALUE));

    memory.physical.store(TABLE + 8 * 2, 0)?;
    memory.space.invalidate(BLOCK + 2 * PAGE_SIZE, PAGE_SIZE)?;
    guest.invalidate(third, PAGE_SIZE)?;
    let state = guest.run(dragonet_programs::vm::code::load(third))?;
    println!(
        "caught exception {} with error code {:#x} at {:#x} (should be a page fault, 14, at {third:#x})",
        state.vector, state.error_code, state.fault_address
    );
    expect(
        checks,
        "fault of the invalid entry",
        Seen::of(&state),
        fault_at(third, 0),
    );
    let seen = guest.load(second)?;
    expect(checks, "neighbour of the invalid entry", seen, Seen::Value(VALUE));
    memory.physical.store(TABLE + 8 * 2, DATA | ALLOW)?;
    let seen = guest.load(third)?;
    expect(checks, "entry made valid again", seen, Seen::Value(VALUE));
    Ok(())
}

/// The fault in a process, which dies of it.
pub fn in_a_process(checks: &mut Checks) -> Result<(), Errno> {
    let child = Command::new("vpagetable-basic").argument("-f").spawn();
    let ending = child.map_err(|_| Errno::ENOENT)?.wait()?;
    println!("a process that makes the access: {ending}");
    let died = ending.0.reason == ENDED_EXCEPTION && ending.0.status == PAGE_FAULT;
    checks.report("fault in a process", died, format_args!("got {ending}"));
    Ok(())
}

/// Makes the access that must fault in this process.
pub fn fault_here() -> Result<ExitCode, Errno> {
    let memory = Memory::new()?;
    memory.read(BLOCK + 2 * PAGE_SIZE)?;
    memory.physical.store(TABLE + 8 * 2, 0)?;
    memory.space.invalidate(BLOCK + 2 * PAGE_SIZE, PAGE_SIZE)?;
    let value = memory.read(BLOCK + 2 * PAGE_SIZE)?;
    println!("read {value:#x} where nothing is mapped");
    Ok(ExitCode::FAILURE)
}
