//! Memory beyond 4 GiB: everything - tables, pages, addresses - lies where 32 bits do not reach, in a sparse object.

use crate::machine::{Machine, SPACE, expect, fault_at};
use dragonet_abi::Errno;
use dragonet_abi::memory::Vpte;
use dragonet_programs::checks::Checks;
use dragonet_programs::vm::{ALLOW, Seen};
use dragonet_rt::{println, syscall};

const GIB: u64 = 1 << 30;
/// Bytes of the object; a machine may have less memory by far.
const SIZE: u64 = 9 * GIB;
/// Tables are made from here on.
const TABLES: u64 = 5 * GIB;
/// Pages that may be taken for all of it.
const MOST_FRAMES: u64 = 256;

pub fn run(checks: &mut Checks) -> Result<(), Errno> {
    let before = syscall::system_info()?.frames_free;
    let machine = Machine::new(SIZE)?;
    // The machine's root table lies low; this test has one of its own above 4 GiB.
    machine.ram.allocate_from(TABLES);
    let table = dragonet_programs::vm::PageTable::new(&machine.ram)?;
    machine
        .guest
        .set_root(SPACE, crate::machine::LENGTH, table.root())?;
    expect(checks, "root above 4 GiB", table.root().offset() >= TABLES, true);

    // Pages that are the same in the low 32 bits of their offset, at addresses that are the same in theirs.
    let places = [
        (SPACE + 0x1234_5000, 0x7_6000),
        (SPACE + 4 * GIB + 0x1234_5000, 4 * GIB + 0x7_6000),
        (SPACE + 300 * GIB + 0x1234_5000, 8 * GIB + 0x7_6000),
    ];
    for (number, (address, offset)) in (1..).zip(places) {
        machine.fill(offset, number)?;
        table.map(&machine.ram, address, offset | ALLOW)?;
    }
    for (number, (address, offset)) in (1..).zip(places) {
        let seen = machine.guest.load(address)?;
        expect(checks, "load beyond 4 GiB", seen, Seen::Value(number));
        machine.guest.store(address, 100 + number)?;
        expect(
            checks,
            "store beyond 4 GiB",
            machine.ram.load(offset)?,
            100 + number,
        );
    }
    let between = SPACE + 2 * 4 * GIB + 0x1234_5000;
    expect(
        checks,
        "nothing between",
        machine.guest.load(between)?,
        fault_at(between, 0),
    );

    // A large page of 1 GiB in the last GiB of the object, and the object as it lies there.
    let large = SPACE + 400 * GIB;
    let entry = table.entry(&machine.ram, large, 3)?;
    entry.store(
        8 * GIB | ALLOW | Vpte::LARGE,
        core::sync::atomic::Ordering::SeqCst,
    );
    let seen = machine.guest.load(large + 0x7_6000)?;
    expect(checks, "large page beyond 4 GiB", seen, Seen::Value(103));
    let start = 4 * SPACE;
    let linear = Vpte(ALLOW | Vpte::LARGE);
    machine.guest.map_table(&machine.ram, start, SIZE, 0, linear)?;
    for (number, (_, offset)) in (1..).zip(places) {
        let seen = machine.guest.load(start + offset)?;
        expect(checks, "linear map of 9 GiB", seen, Seen::Value(100 + number));
    }

    let taken = before.saturating_sub(syscall::system_info()?.frames_free);
    println!("an object of {} GiB took {taken} frames", SIZE / GIB);
    checks.report(
        "the object is sparse",
        taken < MOST_FRAMES,
        format_args!("it took {taken} frames"),
    );
    Ok(())
}
