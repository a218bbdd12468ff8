//! What a thread in guest mode costs its kernel: exits, one CPU.

use crate::Results;
use crate::meter::{Meter, without};
use alloc::boxed::Box;
use core::hint::black_box;
use core::sync::atomic::Ordering;
use core::time::Duration;
use dragonet_abi::Errno;
use dragonet_abi::counters::Counter;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::time::{Clock, FOREVER};
use dragonet_abi::vmspace::{RUN_EXCEPTION, RegisterFrame, RunState};
use dragonet_programs::bench::Row;
use dragonet_rt::atomic_memory::AtomicMemory;
use dragonet_rt::guest::{IdentityMap, calling_user};
use dragonet_rt::memory::Mapping;
use dragonet_rt::{processor, syscall};

const OPERATIONS: u64 = 64;
/// Pages invalidated by one call.
const MANY: u64 = 64;
/// Interrupts that are waited for.
const INTERRUPTS: u64 = 32;
/// Between two of them: long enough to read the counters.
const PERIOD: Duration = Duration::from_millis(1);
/// A virtual interrupt that is not enabled: posting it disturbs nobody.
const QUIET: u32 = 63;
/// Rounds of a loop that nothing is to interrupt.
const UNDISTURBED: u64 = 400_000;
/// What the user's `syscall` is in guest mode. The user goes on where it was, so it meets the same instruction again.
const UNDEFINED_OPCODE: u32 = 6;

/// Measures in guest mode.
pub fn measure(cpus: u32, results: &mut Results) -> Result<(), Errno> {
    let map = IdentityMap::new()?;
    map.run(true, || {
        // Reading the counters costs other events here.
        let meter = Meter::new(cpus)?;
        calls(&meter, results)?;
        memory(&meter, results)?;
        users(&meter, results)?;
        interrupts(&meter, results)
    })?
}

fn calls(meter: &Meter, results: &mut Results) -> Result<(), Errno> {
    let null = meter.measure(OPERATIONS, || Ok(()), |(), _| syscall::null())?;
    results.exactly(
        "a host call is one exit",
        null.count(Counter::GuestExit),
        OPERATIONS,
    );
    results.exactly("a host call loads no CR3", null.count(Counter::Cr3Load), 0);
    results.rows.push(Row::new("host-call", null).goal(90));
    let cpuid = meter.measure(
        OPERATIONS,
        || Ok(()),
        |(), _| {
            black_box(processor::cpuid(black_box(0), 0));
            Ok(())
        },
    )?;
    results.exactly("CPUID is one exit", cpuid.count(Counter::GuestExit), OPERATIONS);
    results.rows.push(Row::new("cpuid", cpuid).goal(150).peer(973));
    Ok(())
}

fn memory(meter: &Meter, results: &mut Results) -> Result<(), Errno> {
    let clear = meter.measure(
        OPERATIONS,
        || Ok(Box::new([1_u8; PAGE_SIZE as usize])),
        |page, _| {
            black_box(&mut **page).fill(0);
            Ok(())
        },
    )?;
    let touch = meter.measure(
        OPERATIONS,
        || AtomicMemory::anonymous(OPERATIONS * PAGE_SIZE),
        |memory, page| {
            memory.word(page * PAGE_SIZE)?.store(1, Ordering::Relaxed);
            Ok(())
        },
    )?;
    results.exactly(
        "a first touch is one exit",
        touch.count(Counter::GuestExit),
        OPERATIONS,
    );
    results.exactly(
        "it is a fault of the nested table",
        touch.count(Counter::ExitNestedFault),
        OPERATIONS,
    );
    let flushes = [
        Counter::FlushPage,
        Counter::FlushAll,
        Counter::FlushGuest,
        Counter::FlushNested,
    ];
    let flushes = flushes.iter().map(|&kind| touch.count(kind)).sum();
    results.exactly("it flushes nothing", flushes, 0);
    let rest = without(&touch, &clear);
    results
        .rows
        .push(Row::new("nested-first-touch", touch).peer(3375));
    results.rows.push(Row::new("nested-less-clear", rest).goal(400));

    let mapping = Mapping::anonymous(MANY * PAGE_SIZE)?;
    for (name, pages) in [("guest-inval-1", 1), ("guest-inval-64", MANY)] {
        let cost = meter.measure(
            OPERATIONS,
            || Ok(()),
            |(), index| {
                mapping.invalidate(
                    (index * PAGE_SIZE) % (mapping.length() - pages * PAGE_SIZE + 1),
                    pages * PAGE_SIZE,
                )
            },
        )?;
        results.exactly(
            "MADV_INVAL of a guest is one exit",
            cost.count(Counter::GuestExit),
            OPERATIONS,
        );
        let interrupts = cost.count(Counter::IpiSent);
        results.exactly("on one CPU it sends no IPI", interrupts, 0);
        let host = cost.count(Counter::FlushPage) + cost.count(Counter::FlushAll);
        results.exactly("and flushes nothing of the host", host, 0);
        results.exactly(
            "nor anything that comes from the nested table",
            cost.count(Counter::FlushNested),
            0,
        );
        let row = Row::new(name, cost);
        results.rows.push(if pages == 1 { row.goal(150) } else { row });
    }
    Ok(())
}

/// RUN of a user that does nothing but trap.
fn users(meter: &Meter, results: &mut Results) -> Result<(), Errno> {
    let user = IdentityMap::new()?;
    let mut state = RunState {
        registers: RegisterFrame {
            rip: calling_user(),
            ..RegisterFrame::default()
        },
        timeout: FOREVER,
        ..RunState::default()
    };
    let trip = meter.measure(
        OPERATIONS,
        || Ok(()),
        |(), _| {
            state.timeout = FOREVER;
            syscall::vmm_run_user(user.root(), &mut state)?;
            if state.reason == RUN_EXCEPTION && state.vector == UNDEFINED_OPCODE {
                Ok(())
            } else {
                Err(Errno::EIO)
            }
        },
    )?;
    results.exactly(
        "RUN and the user's trap are two exits",
        trip.count(Counter::GuestExit),
        2 * OPERATIONS,
    );
    results.exactly("and load no CR3", trip.count(Counter::Cr3Load), 0);
    results.rows.push(Row::new("guest-run-round-trip", trip));
    Ok(())
}

fn interrupts(meter: &Meter, results: &mut Results) -> Result<(), Errno> {
    let quiet = meter.measure(
        1,
        || Ok(()),
        |(), _| {
            (0..UNDISTURBED).for_each(|round| {
                black_box(round);
            });
            Ok(())
        },
    )?;
    results.exactly(
        "the only thread that wants to run is not interrupted",
        quiet.count(Counter::TimerInterrupt),
        0,
    );
    let now = syscall::clock_get(Clock::Monotonic)?;
    syscall::timer_set(now, PERIOD.as_nanos() as u64, QUIET)?;
    let tick = meter.interruptions(INTERRUPTS)?;
    syscall::timer_set(FOREVER, 0, QUIET)?;
    results.exactly(
        "every interruption is a timer interrupt",
        tick.count(Counter::TimerInterrupt),
        tick.operations,
    );
    results.exactly(
        "a timer interrupt is one exit",
        tick.count(Counter::GuestExit),
        tick.operations,
    );
    results
        .rows
        .push(Row::new("guest-timer-interrupt", tick).goal(400));
    Ok(())
}
