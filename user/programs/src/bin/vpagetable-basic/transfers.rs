//! `vmspace_pread` and `vmspace_pwrite` go through the table as the user's own accesses do.

use crate::machine::{Machine, SPACE, expect};
use dragonet_abi::Errno;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::Vpte;
use dragonet_programs::checks::Checks;
use dragonet_programs::vm::{ALLOW, Guest, Seen};
use dragonet_rt::syscall;

const A: u64 = Vpte::ACCESSED;
const D: u64 = Vpte::DIRTY;
const ADDRESS: u64 = SPACE + 0x7000;

pub fn run(checks: &mut Checks) -> Result<(), Errno> {
    let machine = Machine::new(16 << 20)?;
    let page = machine.page_with(0x1122)?;
    machine.map(ADDRESS, page | ALLOW)?;
    let marks = || Ok::<_, Errno>(machine.entry(ADDRESS, 1)? & (A | D));

    expect(checks, "read: value", read(&machine.guest, ADDRESS)?, 0x1122);
    expect(checks, "read: A alone", marks()?, A);
    write(&machine.guest, ADDRESS, 0x3344)?;
    expect(checks, "write: value", machine.ram.load(page)?, 0x3344);
    expect(checks, "write: A and D", marks()?, A | D);
    expect(
        checks,
        "write: seen by the user",
        machine.guest.load(ADDRESS)?,
        Seen::Value(0x3344),
    );
    let directories = [2, 3, 4].map(|level| machine.entry(ADDRESS, level).unwrap_or(0) & (A | D));
    expect(checks, "directories: A alone", directories, [A; 3]);

    machine.map(ADDRESS, page | ALLOW)?;
    machine.invalidate(ADDRESS)?;
    write(&machine.guest, ADDRESS, 0x5566)?;
    expect(checks, "harvested, written: A and D again", marks()?, A | D);

    for (name, entry, readable, writable) in [
        ("without W", page | ALLOW & !Vpte::WRITE, true, false),
        ("without U", page | ALLOW & !Vpte::USER, false, false),
        ("without V", page | ALLOW & !Vpte::VALID, false, false),
        ("beyond the object", machine.ram.size() | ALLOW, false, false),
    ] {
        machine.map(ADDRESS, entry)?;
        machine.invalidate(ADDRESS)?;
        let seen = (
            read(&machine.guest, ADDRESS).is_ok(),
            write(&machine.guest, ADDRESS, 1).is_ok(),
        );
        expect(checks, name, seen, (readable, writable));
        let marked = if readable { entry | A } else { entry };
        expect(checks, "its marks", machine.entry(ADDRESS, 1)?, marked);
    }

    // A run of bytes is cut off at the first bad page.
    machine.map(ADDRESS, page | ALLOW)?;
    machine.map(ADDRESS + PAGE_SIZE, 0)?;
    machine.guest.invalidate(ADDRESS, 2 * PAGE_SIZE)?;
    let mut bytes = [0; 64];
    let vmspace = machine.guest.vmspace();
    let last = ADDRESS + PAGE_SIZE - 24;
    expect(
        checks,
        "a read is cut off",
        syscall::vmspace_pread(vmspace, &mut bytes, last),
        Ok(24),
    );
    expect(
        checks,
        "a write is cut off",
        syscall::vmspace_pwrite(vmspace, &bytes, last),
        Ok(24),
    );
    let beyond = syscall::vmspace_pread(vmspace, &mut bytes, ADDRESS + PAGE_SIZE);
    expect(checks, "a read of a bad page", beyond, Err(Errno::EFAULT));
    Ok(())
}

fn read(guest: &Guest, address: u64) -> Result<u64, Errno> {
    let mut bytes = [0; 8];
    syscall::vmspace_pread(guest.vmspace(), &mut bytes, address)?;
    Ok(u64::from_le_bytes(bytes))
}

fn write(guest: &Guest, address: u64, value: u64) -> Result<(), Errno> {
    syscall::vmspace_pwrite(guest.vmspace(), &value.to_le_bytes(), address).map(drop)
}
