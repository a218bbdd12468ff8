//! Tables that make no sense: each is its owner's problem and gives a page fault at worst.

use crate::machine::{LENGTH, Machine, PRESENT, RESERVED, SPACE, WRITE, expect, fault_at};
use alloc::format;
use dragonet_abi::Errno;
use dragonet_abi::memory::Vpte;
use dragonet_programs::checks::Checks;
use dragonet_programs::vm::{ALLOW, Seen};

const SIZE: u64 = 16 << 20;
const ADDRESS: u64 = SPACE + 0x20_0000;

pub fn run(checks: &mut Checks) -> Result<(), Errno> {
    outside(checks)?;
    itself(checks)
}

/// Entries that lead out of the object.
fn outside(checks: &mut Checks) -> Result<(), Errno> {
    let machine = Machine::new(SIZE)?;
    let page = machine.page_with(1)?;
    machine.map(ADDRESS, page | ALLOW)?;
    for level in (1..=4).rev() {
        let before = machine.entry(ADDRESS, level)?;
        for (what, frame) in [
            ("first page beyond", SIZE),
            ("4 GiB", 1 << 32),
            ("last frame", Vpte::FRAME),
        ] {
            machine.set(ADDRESS, level, frame | ALLOW)?;
            machine.guest.invalidate(SPACE, LENGTH)?;
            let name = format!("level {level} leads out of the object: {what}");
            let refused = fault_at(ADDRESS, PRESENT | RESERVED | WRITE);
            expect(checks, &name, machine.guest.store(ADDRESS, 2)?, refused);
        }
        machine.set(ADDRESS, level, before)?;
    }
    for (name, root) in [
        ("root leads out of the object", SIZE | ALLOW),
        (
            "large root leads out of the object",
            Vpte::FRAME | ALLOW | Vpte::LARGE,
        ),
    ] {
        machine.guest.set_root(SPACE, LENGTH, Vpte(root))?;
        let refused = fault_at(ADDRESS, PRESENT | RESERVED);
        expect(checks, name, machine.guest.load(ADDRESS)?, refused);
    }
    machine.guest.set_root(SPACE, LENGTH, machine.table.root())?;
    expect(
        checks,
        "and all is well again",
        machine.guest.load(ADDRESS)?,
        Seen::Value(1),
    );
    Ok(())
}

/// A table that names itself, so that it is a table of every level and a page as well.
fn itself(checks: &mut Checks) -> Result<(), Errno> {
    let machine = Machine::new(SIZE)?;
    let table = machine.table.root().offset();
    let marked = table | ALLOW | Vpte::ACCESSED;
    let first = page_table::index(SPACE, 4) as u64;
    machine.ram.store(table + 8 * first, table | ALLOW)?;
    // The address whose index is the same at all levels.
    let address = SPACE + first * (1 << 30 | 1 << 21 | 1 << 12);
    let seen = machine.guest.load(address + 8 * first)?;
    expect(checks, "a table that is its own page", seen, Seen::Value(marked));
    // The page can be written, and with it the entry by which it was reached.
    let seen = machine.guest.store(address + 8 * first, 0)?;
    expect(
        checks,
        "a store to the entry that allows it",
        seen,
        Seen::Value(0),
    );
    expect(checks, "reaches it", machine.ram.load(table + 8 * first)?, 0);
    machine.guest.invalidate(SPACE, LENGTH)?;
    expect(
        checks,
        "and ends it",
        machine.guest.load(address)?,
        fault_at(address, 0),
    );

    // Two tables that name each other: the walk ends after four steps.
    let other = machine.ram.page()?;
    machine.ram.store(table + 8 * first, other | ALLOW)?;
    machine.ram.store(other + 8 * first, table | ALLOW)?;
    machine.ram.store(table, Vpte::FRAME)?;
    let seen = machine.guest.load(address)?;
    expect(
        checks,
        "two tables that name each other",
        seen,
        Seen::Value(Vpte::FRAME),
    );
    Ok(())
}
