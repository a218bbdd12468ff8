//! Virtual page tables on one CPU: invalidation, the fault that follows, and running a user.

use crate::Results;
use crate::fixture::{FLAG_PAGE, Guest, Physical, load};
use crate::meter::Meter;
use core::sync::atomic::Ordering;
use dragonet_abi::Errno;
use dragonet_abi::counters::Counter;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_programs::bench::Row;

const OPERATIONS: u64 = 64;
/// Pages invalidated by one call.
const MANY: u64 = 64;
const MANY_OPERATIONS: u64 = 4;

pub fn measure(meter: &Meter, results: &mut Results) -> Result<(), Errno> {
    let physical = Physical::new()?;
    let own = physical.mapped()?;
    let one = meter.measure(
        OPERATIONS,
        || load(&own, OPERATIONS),
        |(), page| own.invalidate(page * PAGE_SIZE, PAGE_SIZE),
    )?;
    results.exactly(
        "MADV_INVAL of a page flushes a page",
        one.count(Counter::FlushPage),
        OPERATIONS,
    );
    results.exactly(
        "MADV_INVAL on one CPU sends no IPI",
        one.count(Counter::IpiSent),
        0,
    );
    results.rows.push(Row::new("inval-1", one).goal(500));
    let many = meter.measure(
        MANY_OPERATIONS,
        || load(&own, MANY * MANY_OPERATIONS),
        |(), index| own.invalidate(index * MANY * PAGE_SIZE, MANY * PAGE_SIZE),
    )?;
    results.rows.push(Row::new("inval-64", many));
    let fault = meter.measure(
        OPERATIONS,
        || own.invalidate(0, own.length()),
        |(), page| {
            own.word(page * PAGE_SIZE)?.load(Ordering::Relaxed);
            Ok(())
        },
    )?;
    results.exactly(
        "a touch through a virtual page table is one fault",
        fault.count(Counter::PageFault),
        OPERATIONS,
    );
    results.exactly(
        "its walk takes four steps",
        fault.count(Counter::VpagetableStep),
        4 * OPERATIONS,
    );
    let flushes = fault.count(Counter::FlushPage) + fault.count(Counter::FlushAll);
    results.exactly("it flushes nothing", flushes, 0);
    results.rows.push(Row::new("vpagetable-fault", fault));

    let guest = Guest::new(&physical)?;
    let idle = meter.measure(
        OPERATIONS,
        || guest.load(OPERATIONS),
        |(), page| guest.invalidate(page, 1),
    )?;
    results.exactly(
        "MADV_INVAL of a vmspace that nobody runs sends no IPI",
        idle.count(Counter::IpiSent),
        0,
    );
    results
        .rows
        .push(Row::new("inval-1-idle-vmspace", idle).goal(500));

    physical.set(FLAG_PAGE, 1)?;
    let mut state = guest.state();
    let trip = meter.measure(OPERATIONS, || Ok(()), |(), _| guest.run(&mut state))?;
    results.exactly(
        "RUN and the user's system call load CR3 twice",
        trip.count(Counter::Cr3Load),
        2 * OPERATIONS,
    );
    results.rows.push(Row::new("run-round-trip", trip));
    Ok(())
}
