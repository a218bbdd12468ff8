//! Aliases between vmspaces: one memory, two tables, two addresses.

use crate::machine::{Machine, SPACE, expect, fault_at};
use dragonet_abi::Errno;
use dragonet_abi::memory::Vpte;
use dragonet_programs::checks::Checks;
use dragonet_programs::vm::{ALLOW, Guest, PageTable, Seen};

const HERE: u64 = SPACE + 0x5000;
const THERE: u64 = 0x7777_7000;
/// Where the second vmspace has its mapping.
const START: u64 = 0x7000_0000;
const LENGTH: u64 = 256 << 20;

pub fn run(checks: &mut Checks) -> Result<(), Errno> {
    let machine = Machine::new(16 << 20)?;
    let page = machine.page_with(1)?;
    machine.map(HERE, page | ALLOW)?;
    let other = Guest::new()?;
    let table = PageTable::new(&machine.ram)?;
    table.map(&machine.ram, THERE, page | ALLOW)?;
    other.map_table(&machine.ram, START, LENGTH, START, table.root())?;

    expect(
        checks,
        "both see the page",
        [machine.guest.load(HERE)?, other.load(THERE)?],
        [Seen::Value(1); 2],
    );
    machine.guest.store(HERE, 2)?;
    expect(
        checks,
        "a store is seen in the other vmspace",
        other.load(THERE)?,
        Seen::Value(2),
    );
    other.store(THERE + 8, 3)?;
    expect(checks, "and back", machine.guest.load(HERE + 8)?, Seen::Value(3));

    // Each table is its own: what one forbids the other may allow.
    machine.map(HERE, 0)?;
    machine.invalidate(HERE)?;
    expect(
        checks,
        "taken from one",
        machine.guest.load(HERE)?,
        fault_at(HERE, 0),
    );
    expect(checks, "kept by the other", other.load(THERE)?, Seen::Value(2));

    // One table for both, as threads of one process of a vkernel on several CPUs would have it.
    other.set_root(START, LENGTH, machine.table.root())?;
    machine.map(THERE, page | ALLOW)?;
    expect(
        checks,
        "one table in two vmspaces",
        other.load(THERE)?,
        Seen::Value(2),
    );
    let marks = machine.entry(THERE, 1)? & (Vpte::ACCESSED | Vpte::DIRTY);
    expect(checks, "is marked by either", marks, Vpte::ACCESSED);
    Ok(())
}
