//! What level 2 checks of its own: the shortest tour through three levels, and a bug that only nesting shows.

use core::sync::atomic::Ordering;
use dragonet_abi::Errno;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::Vpte;
use dragonet_programs::checks::Checks;
use dragonet_programs::text::fault;
use dragonet_programs::vm::{ALLOW, Guest, PageTable, Ram, Seen};
use dragonet_rt::ExitCode;

const ADDRESS: u64 = 1 << 40;
const LENGTH: u64 = 2 << 20;
const MARKS: u64 = Vpte::ACCESSED | Vpte::DIRTY;

/// Runs at level 2.
pub fn run() -> ExitCode {
    let mut checks = Checks::default();
    let outcome = tour(&mut checks).and_then(|()| write_without_valid(&mut checks));
    match outcome {
        Ok(()) => checks.finish(),
        Err(errno) => fault("a call of level 2", errno),
    }
}

fn expect(checks: &mut Checks, name: &str, got: Seen, expected: Seen) {
    checks.report(
        name,
        got == expected,
        format_args!("got {got:?}, expected {expected:?}"),
    );
}

const fn fault_at(address: u64, error_code: u64) -> Seen {
    Seen::Fault { error_code, address }
}

/// Level 2's RAM, a table in it, and a user at level 3.
fn machine() -> Result<(Ram, PageTable, Guest), Errno> {
    let ram = Ram::new(16 << 20)?;
    let table = PageTable::new(&ram)?;
    let guest = Guest::new()?;
    guest.map_table(&ram, ADDRESS, LENGTH, ADDRESS, table.root())?;
    Ok((ram, table, guest))
}

/// A fault, a page, a load, a store, marks, an invalidation.
fn tour(checks: &mut Checks) -> Result<(), Errno> {
    let (ram, table, guest) = machine()?;
    let page = ram.page()?;
    ram.store(page, 23)?;
    expect(
        checks,
        "a fault of level 3 reaches level 2",
        guest.load(ADDRESS)?,
        fault_at(ADDRESS, 4),
    );
    table.map(&ram, ADDRESS, page | ALLOW)?;
    let entry = table.entry(&ram, ADDRESS, 1)?;
    let marks = || entry.load(Ordering::SeqCst) & MARKS;
    expect(
        checks,
        "level 3 loads and calls level 2",
        guest.load(ADDRESS)?,
        Seen::Value(23),
    );
    checks.report(
        "the load marks level 2's entry",
        marks() == Vpte::ACCESSED,
        format_args!("{:#x}", marks()),
    );
    guest.store(ADDRESS, 42)?;
    let stored = ram.load(page)?;
    checks.report(
        "a store of level 3 is in level 2's memory",
        stored == 42,
        format_args!("{stored}"),
    );
    checks.report(
        "and marks its entry dirty",
        marks() == MARKS,
        format_args!("{:#x}", marks()),
    );
    entry.fetch_and(!MARKS, Ordering::SeqCst);
    guest.invalidate(ADDRESS, PAGE_SIZE)?;
    guest.store(ADDRESS, 43)?;
    checks.report(
        "cleared, invalidated, stored: dirty again",
        marks() == MARKS,
        format_args!("{:#x}", marks()),
    );
    entry.store(0, Ordering::SeqCst);
    guest.invalidate(ADDRESS, PAGE_SIZE)?;
    expect(
        checks,
        "taken away, invalidated: a fault",
        guest.store(ADDRESS, 44)?,
        fault_at(ADDRESS, 6),
    );
    Ok(())
}

/// Regression: an entry that allows stores but no loads confused the parent of a nested vkernel (DragonFly BSD, commit a3c35df6c0). In the format
/// of that time there was a bit for each; today it is an entry with W and without V. It is no entry at all: nobody may take it for
/// one because stores are allowed, or mark it.
fn write_without_valid(checks: &mut Checks) -> Result<(), Errno> {
    let (ram, table, guest) = machine()?;
    let page = ram.page()?;
    for level in 1..=3 {
        let entry = table.entry(&ram, ADDRESS, level)?;
        let whole = match level {
            1 => page | ALLOW,
            _ => entry.load(Ordering::SeqCst) | ALLOW,
        };
        let broken = whole & !(Vpte::VALID | MARKS);
        entry.store(broken, Ordering::SeqCst);
        guest.invalidate(ADDRESS, LENGTH)?;
        expect(
            checks,
            "regression: W without V: load",
            guest.load(ADDRESS)?,
            fault_at(ADDRESS, 4),
        );
        expect(
            checks,
            "regression: W without V: store",
            guest.store(ADDRESS, 1)?,
            fault_at(ADDRESS, 6),
        );
        let now = entry.load(Ordering::SeqCst);
        checks.report(
            "regression: W without V: no mark",
            now == broken,
            format_args!("{broken:#x} became {now:#x}"),
        );
        entry.store(whole, Ordering::SeqCst);
        guest.store(ADDRESS, u64::from(level))?;
        expect(
            checks,
            "and with V",
            guest.load(ADDRESS)?,
            Seen::Value(u64::from(level)),
        );
    }
    Ok(())
}
