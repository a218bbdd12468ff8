//! Rights: stores, user mode and fetches, each forbidden at each level in turn.

use crate::machine::{FETCH, LANDING, LENGTH, Machine, PRESENT, SPACE, WRITE, expect, fault_at};
use alloc::format;
use dragonet_abi::Errno;
use dragonet_abi::memory::Vpte;
use dragonet_programs::checks::Checks;
use dragonet_programs::vm::Seen;

/// The root entry counts as one more level.
const ROOT: u8 = 5;
const ADDRESS: u64 = SPACE + 0x40_2000;
const VALUE: u64 = 7;
const MARK: u64 = 99;

/// What the three accesses see.
type Sights = [Seen; 3];

pub fn run(checks: &mut Checks) -> Result<(), Errno> {
    let machine = Machine::new(16 << 20)?;
    let page = machine.page_with(VALUE)?;
    machine.map(ADDRESS, page | dragonet_programs::vm::ALLOW)?;

    let all = [Seen::Value(VALUE), Seen::Value(VALUE), Seen::Value(MARK)];
    let store = fault_at(ADDRESS, PRESENT | WRITE);
    let fetch = fault_at(ADDRESS + LANDING, PRESENT | FETCH);
    let read_only = [all[0], store, all[2]];
    let no_fetch = [all[0], all[1], fetch];
    let nothing = [fault_at(ADDRESS, PRESENT), store, fetch];

    expect(checks, "everything allowed", accesses(&machine)?, all);
    for level in (1..=ROOT).rev() {
        for (what, clear, set, expected) in [
            ("W clear", Vpte::WRITE, 0, read_only),
            ("U clear", Vpte::USER, 0, nothing),
            ("NX set", 0, Vpte::NO_EXECUTE, no_fetch),
        ] {
            let before = entry(&machine, level)?;
            change(&machine, level, before & !clear | set)?;
            machine.invalidate(ADDRESS)?;
            let name = format!("{what} at level {level}");
            expect(checks, &name, accesses(&machine)?, expected);
            // More rights need no invalidation. A new root is one in itself.
            change(&machine, level, before)?;
            let name = format!("{what} at level {level}, taken back");
            expect(checks, &name, accesses(&machine)?, all);
        }
    }
    Ok(())
}

/// Loads, stores and fetches from the page.
fn accesses(machine: &Machine) -> Result<Sights, Errno> {
    let stored = match machine.guest.store(ADDRESS, VALUE)? {
        Seen::Value(_) => Seen::Value(machine.ram.load(page_of(machine)?)?),
        other => other,
    };
    Ok([
        machine.guest.load(ADDRESS)?,
        stored,
        machine.guest.fetch(ADDRESS + LANDING, MARK)?,
    ])
}

fn page_of(machine: &Machine) -> Result<u64, Errno> {
    Ok(Vpte(machine.entry(ADDRESS, 1)?).offset())
}

fn entry(machine: &Machine, level: u8) -> Result<u64, Errno> {
    if level == ROOT {
        Ok(machine.table.root().0)
    } else {
        machine.entry(ADDRESS, level)
    }
}

fn change(machine: &Machine, level: u8, entry: u64) -> Result<(), Errno> {
    if level == ROOT {
        machine.guest.set_root(SPACE, LENGTH, Vpte(entry))
    } else {
        machine.set(ADDRESS, level, entry)
    }
}
