//! The contract of `MADV_INVAL`: what needs it, what does not, and where it may be used.

use crate::machine::{Machine, PRESENT, SPACE, WRITE, expect, fault_at};
use dragonet_abi::Errno;
use dragonet_abi::layout::{PAGE_SIZE, USER_END};
use dragonet_abi::memory::{Advice, Protection, Vpte};
use dragonet_programs::checks::Checks;
use dragonet_programs::vm::{ALLOW, Seen, code, fixed};
use dragonet_rt::syscall;

const ADDRESS: u64 = SPACE + 0x20_0000;

pub fn run(checks: &mut Checks) -> Result<(), Errno> {
    let machine = Machine::new(16 << 20)?;
    let (old, new) = (machine.page_with(1)?, machine.page_with(2)?);
    let guest = &machine.guest;

    // More is seen at once.
    expect(checks, "not there", guest.load(ADDRESS)?, fault_at(ADDRESS, 0));
    machine.map(ADDRESS, old | ALLOW & !Vpte::WRITE)?;
    expect(
        checks,
        "a new entry needs no invalidation",
        guest.load(ADDRESS)?,
        Seen::Value(1),
    );
    expect(
        checks,
        "it is read-only",
        guest.store(ADDRESS, 3)?,
        fault_at(ADDRESS, PRESENT | WRITE),
    );
    machine.map(ADDRESS, old | ALLOW)?;
    guest.store(ADDRESS, 3)?;
    expect(
        checks,
        "more rights need no invalidation",
        machine.ram.load(old)?,
        3,
    );

    // Less, or another page, once it is invalidated: at each level.
    machine.map(ADDRESS, new | ALLOW)?;
    machine.invalidate(ADDRESS)?;
    expect(checks, "another page", guest.load(ADDRESS)?, Seen::Value(2));
    machine.map(ADDRESS, 0)?;
    machine.invalidate(ADDRESS)?;
    expect(checks, "no page", guest.load(ADDRESS)?, fault_at(ADDRESS, 0));
    machine.map(ADDRESS, new | ALLOW)?;
    for (level, name) in [
        (2, "no table"),
        (3, "no directory"),
        (4, "no directory of directories"),
    ] {
        expect(checks, "the page is there", guest.load(ADDRESS)?, Seen::Value(2));
        let entry = machine.entry(ADDRESS, level)?;
        machine.set(ADDRESS, level, 0)?;
        machine.invalidate(ADDRESS)?;
        expect(checks, name, guest.load(ADDRESS)?, fault_at(ADDRESS, 0));
        machine.set(ADDRESS, level, entry)?;
    }

    // A range; its neighbours keep what they have, which is theirs to keep or to lose.
    for page in 0..64 {
        machine.map(ADDRESS + page * PAGE_SIZE, old | ALLOW)?;
        guest.load(ADDRESS + page * PAGE_SIZE)?;
        machine.map(ADDRESS + page * PAGE_SIZE, new | ALLOW)?;
    }
    guest.invalidate(ADDRESS + 8 * PAGE_SIZE, 48 * PAGE_SIZE)?;
    let mut others = 0;
    for page in 8..56 {
        others += u32::from(guest.load(ADDRESS + page * PAGE_SIZE)? != Seen::Value(2));
    }
    expect(checks, "pages of a range that still show the old page", others, 0);
    arguments(checks, &machine)
}

fn arguments(checks: &mut Checks, machine: &Machine) -> Result<(), Errno> {
    let guest = &machine.guest;
    let hole = 0x3000_0000;
    for (name, address, length, outcome) in [
        ("of nothing", ADDRESS, 0, Ok(())),
        ("of a hole", hole, PAGE_SIZE, Ok(())),
        (
            "of an ordinary mapping",
            code::ADDRESS,
            PAGE_SIZE,
            Err(Errno::EINVAL),
        ),
        (
            "of a misaligned range",
            ADDRESS + 8,
            PAGE_SIZE,
            Err(Errno::EINVAL),
        ),
        ("of what no program has", USER_END, PAGE_SIZE, Err(Errno::EINVAL)),
        (
            "of a range that wraps",
            ADDRESS,
            u64::MAX - 0xfff,
            Err(Errno::EINVAL),
        ),
    ] {
        expect(
            checks,
            &alloc::format!("invalidation {name}"),
            guest.invalidate(address, length),
            outcome,
        );
    }
    // Part ordinary, part not.
    let next = fixed(
        SPACE - PAGE_SIZE,
        PAGE_SIZE,
        Protection::READ,
        machine.ram.object(),
        0,
    );
    guest.map(&next)?;
    let mixed = guest.invalidate(SPACE - PAGE_SIZE, 2 * PAGE_SIZE);
    expect(checks, "invalidation of a mixed range", mixed, Err(Errno::EINVAL));
    let advised = syscall::vmspace_mcontrol(guest.vmspace(), SPACE, 0, Advice::SetMap, Vpte(0));
    expect(checks, "a root for nothing", advised, Err(Errno::EINVAL));
    Ok(())
}
