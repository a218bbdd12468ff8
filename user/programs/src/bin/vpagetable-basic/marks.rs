//! Accessed and dirty bits: set when they must be, and never otherwise.

use crate::machine::{FETCH, LANDING, Machine, PRESENT, SPACE, WRITE, expect, fault_at};
use dragonet_abi::Errno;
use dragonet_abi::memory::Vpte;
use dragonet_programs::checks::Checks;
use dragonet_programs::vm::{ALLOW, Seen};

const A: u64 = Vpte::ACCESSED;
const D: u64 = Vpte::DIRTY;
const ADDRESS: u64 = SPACE + 0x8000_3000;
const NEIGHBOUR: u64 = ADDRESS + 4096;

pub fn run(checks: &mut Checks) -> Result<(), Errno> {
    let machine = Machine::new(16 << 20)?;
    let page = machine.page_with(1)?;
    machine.map(ADDRESS, page | ALLOW)?;
    machine.map(NEIGHBOUR, page | ALLOW)?;

    expect(checks, "untouched: no marks", marks(&machine, ADDRESS)?, [0; 4]);
    machine.guest.load(ADDRESS)?;
    expect(
        checks,
        "load: A at every level",
        marks(&machine, ADDRESS)?,
        [A; 4],
    );
    machine.guest.store(ADDRESS, 2)?;
    expect(
        checks,
        "store: A everywhere, D in the last",
        marks(&machine, ADDRESS)?,
        [A | D, A, A, A],
    );
    expect(
        checks,
        "the neighbour has no marks",
        marks(&machine, NEIGHBOUR)?,
        [0, A, A, A],
    );
    machine.guest.fetch(NEIGHBOUR + LANDING, 3)?;
    expect(checks, "fetch: A alone", marks(&machine, NEIGHBOUR)?, [A; 4]);

    clear(&machine)?;
    machine.guest.store(ADDRESS, 4)?;
    expect(
        checks,
        "store at first: A and D at once",
        marks(&machine, ADDRESS)?,
        [A | D, A, A, A],
    );

    // What was harvested comes again.
    machine.map(ADDRESS, page | ALLOW | A)?;
    machine.invalidate(ADDRESS)?;
    machine.guest.load(ADDRESS)?;
    expect(
        checks,
        "load after D was cleared",
        marks(&machine, ADDRESS)?,
        [A; 4],
    );
    machine.guest.store(ADDRESS, 5)?;
    expect(
        checks,
        "D cleared and invalidated: a store sets it again",
        marks(&machine, ADDRESS)?,
        [A | D, A, A, A],
    );
    clear(&machine)?;
    machine.guest.load(ADDRESS)?;
    expect(
        checks,
        "A cleared at all levels: a load sets it again",
        marks(&machine, ADDRESS)?,
        [A; 4],
    );

    refused(checks, &machine, page)?;
    large(checks, &machine)
}

/// Accesses that are not made leave no marks in the last entry.
fn refused(checks: &mut Checks, machine: &Machine, page: u64) -> Result<(), Errno> {
    for (name, entry, cause) in [
        ("store without W", page | ALLOW & !Vpte::WRITE, PRESENT | WRITE),
        ("store without U", page | ALLOW & !Vpte::USER, PRESENT | WRITE),
        ("store to an invalid entry", page | ALLOW & !Vpte::VALID, WRITE),
    ] {
        machine.map(ADDRESS, entry)?;
        machine.invalidate(ADDRESS)?;
        expect(
            checks,
            name,
            machine.guest.store(ADDRESS, 6)?,
            fault_at(ADDRESS, cause),
        );
        expect(checks, "it leaves no mark", machine.entry(ADDRESS, 1)?, entry);
    }
    let entry = page | ALLOW | Vpte::NO_EXECUTE;
    machine.map(ADDRESS, entry)?;
    let seen = machine.guest.fetch(ADDRESS + LANDING, 7)?;
    let denied = fault_at(ADDRESS + LANDING, PRESENT | FETCH);
    expect(checks, "fetch with NX", seen, denied);
    expect(checks, "it leaves no mark", machine.entry(ADDRESS, 1)?, entry);
    Ok(())
}

/// Entries of large pages are marked like others.
fn large(checks: &mut Checks, machine: &Machine) -> Result<(), Errno> {
    let start = SPACE + 0x1_0000_0000;
    machine.set(start, 2, 2 << 20 | ALLOW | Vpte::LARGE)?;
    let marks = || Ok::<_, Errno>(machine.entry(start, 2)? & (A | D));
    expect(
        checks,
        "large page: load",
        (machine.guest.load(start + 4096)?, marks()?),
        (Seen::Value(0), A),
    );
    machine.guest.store(start + 8192, 8)?;
    expect(checks, "large page: store", marks()?, A | D);
    Ok(())
}

/// The marks at levels 1 to 4.
fn marks(machine: &Machine, address: u64) -> Result<[u64; 4], Errno> {
    let mut marks = [0; 4];
    for (mark, level) in marks.iter_mut().zip(1..) {
        *mark = machine.entry(address, level)? & (A | D);
    }
    Ok(marks)
}

/// Clears all marks of both pages and makes that visible.
fn clear(machine: &Machine) -> Result<(), Errno> {
    for address in [ADDRESS, NEIGHBOUR] {
        for level in 1..=4 {
            machine.set(address, level, machine.entry(address, level)? & !(A | D))?;
        }
        machine.invalidate(address)?;
    }
    Ok(())
}
