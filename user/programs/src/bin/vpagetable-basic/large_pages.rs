//! Large pages of 2 MiB and 1 GiB, and entries that are large where they must not be.

use crate::machine::{LANDING, LENGTH, Machine, PRESENT, RESERVED, SPACE, WRITE, expect, fault_at};
use dragonet_abi::Errno;
use dragonet_abi::memory::Vpte;
use dragonet_programs::checks::Checks;
use dragonet_programs::vm::{ALLOW, Seen};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// The last GiB is not whole.
const SIZE: u64 = 2 * GIB + 6 * MIB;
const LARGE: u64 = ALLOW | Vpte::LARGE;
/// Bit 12 of a large entry selects the memory type.
const MEMORY_TYPE: u64 = 1 << 12;

pub fn run(checks: &mut Checks) -> Result<(), Errno> {
    let machine = Machine::new(SIZE)?;
    for (level, span, frame) in [(2, 2 * MIB, 4 * MIB), (3, GIB, GIB)] {
        let start = SPACE + 10 * GIB;
        let names = if level == 2 {
            [
                "2 MiB: first page",
                "2 MiB: last page",
                "2 MiB: store",
                "2 MiB: fetch",
                "2 MiB: beyond",
            ]
        } else {
            [
                "1 GiB: first page",
                "1 GiB: last page",
                "1 GiB: store",
                "1 GiB: fetch",
                "1 GiB: beyond",
            ]
        };
        let last = span - 4096;
        machine.fill(frame, 1)?;
        machine.fill(frame + last, 2)?;
        machine.set(start, level, frame | LARGE)?;
        machine.guest.invalidate(start, GIB)?;
        expect(checks, names[0], machine.guest.load(start)?, Seen::Value(1));
        expect(
            checks,
            names[1],
            machine.guest.load(start + last)?,
            Seen::Value(2),
        );
        machine.guest.store(start + last, 3)?;
        expect(checks, names[2], machine.ram.load(frame + last)?, 3);
        let fetched = machine.guest.fetch(start + last + LANDING, 9)?;
        expect(checks, names[3], fetched, Seen::Value(9));
        let beyond = start + span;
        expect(checks, names[4], machine.guest.load(beyond)?, fault_at(beyond, 0));

        machine.set(start, level, frame | LARGE | MEMORY_TYPE)?;
        machine.guest.invalidate(start, span)?;
        let seen = machine.guest.load(start + last)?;
        expect(checks, "memory type is no address", seen, Seen::Value(3));
        machine.set(start, level, frame | LARGE & !Vpte::WRITE)?;
        machine.guest.invalidate(start, span)?;
        let seen = machine.guest.store(start, 4)?;
        let denied = fault_at(start, PRESENT | WRITE);
        expect(checks, "large page without W", seen, denied);
        let unaligned = frame + span / 2;
        machine.set(start, level, unaligned | LARGE)?;
        machine.guest.invalidate(start, span)?;
        let refused = fault_at(start, PRESENT | RESERVED);
        expect(
            checks,
            "unaligned large page",
            machine.guest.load(start)?,
            refused,
        );
        let entry = machine.entry(start, level)?;
        expect(checks, "a refused entry is not marked", entry, unaligned | LARGE);
        machine.set(start, level, 0)?;
    }
    beyond_the_end(checks, &machine)?;
    root_level(checks, &machine)
}

/// A large page of which only a part is in the object.
fn beyond_the_end(checks: &mut Checks, machine: &Machine) -> Result<(), Errno> {
    let start = SPACE + 20 * GIB;
    machine.set(start, 3, 2 * GIB | LARGE)?;
    machine.fill(SIZE - 4096, 5)?;
    let inside = start + 6 * MIB - 4096;
    expect(
        checks,
        "last page of the object",
        machine.guest.load(inside)?,
        Seen::Value(5),
    );
    let outside = start + 6 * MIB;
    let seen = machine.guest.load(outside)?;
    let refused = fault_at(outside, PRESENT | RESERVED);
    expect(checks, "large page beyond the object", seen, refused);
    Ok(())
}

/// No page is as large as an entry of level 4 spans; the root entry is large for the whole object.
fn root_level(checks: &mut Checks, machine: &Machine) -> Result<(), Errno> {
    let entry = machine.entry(SPACE, 4)?;
    machine.set(SPACE, 4, LARGE)?;
    machine.guest.invalidate(SPACE, LENGTH)?;
    let refused = fault_at(SPACE, PRESENT | RESERVED);
    expect(
        checks,
        "large entry of level 4",
        machine.guest.load(SPACE)?,
        refused,
    );
    machine.set(SPACE, 4, entry)?;

    let start = 4 * SPACE;
    machine
        .guest
        .map_table(&machine.ram, start, 4 * GIB, 0, Vpte(LARGE))?;
    machine.fill(GIB, 6)?;
    let seen = machine.guest.load(start + GIB)?;
    expect(checks, "large root", seen, Seen::Value(6));
    machine.guest.store(start + GIB, 7)?;
    expect(checks, "store through a large root", machine.ram.load(GIB)?, 7);
    let outside = start + SIZE;
    let refused = fault_at(outside, PRESENT | RESERVED);
    expect(
        checks,
        "large root beyond the object",
        machine.guest.load(outside)?,
        refused,
    );
    Ok(())
}
