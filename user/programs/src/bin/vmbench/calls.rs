//! Calls that do nothing, and switches between threads.

use crate::Results;
use crate::meter::{Meter, divided};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use dragonet_abi::Errno;
use dragonet_abi::counters::Counter;
use dragonet_programs::bench::Row;
use dragonet_rt::process::Command;
use dragonet_rt::{syscall, thread};

const OPERATIONS: u64 = 256;
const KILLED: u8 = 137;

pub fn measure(meter: &Meter, results: &mut Results) -> Result<(), Errno> {
    let null = meter.measure(OPERATIONS, || Ok(()), |(), _| syscall::null())?;
    results.exactly("a system call loads no CR3", null.count(Counter::Cr3Load), 0);
    results
        .rows
        .push(Row::new("null-syscall", null).goal(60).peer(340));

    let give_way = |_: &mut (), _| {
        thread::yield_now();
        Ok(())
    };
    let alone = meter.measure(OPERATIONS, || Ok(()), give_way)?;
    results.exactly(
        "giving way to nobody switches nothing",
        alone.count(Counter::ContextSwitch),
        0,
    );
    results.rows.push(Row::new("yield-alone", alone).peer(799));

    // There and back again, so two switches each.
    let ended = Arc::new(AtomicBool::new(false));
    let partner = {
        let ended = ended.clone();
        thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                thread::yield_now();
            }
        })?
    };
    let same = meter.measure(OPERATIONS, || Ok(()), give_way);
    ended.store(true, Ordering::Relaxed);
    let _ = partner.join();
    let same = divided(same?, 2);
    results.exactly(
        "threads of one vmspace switch",
        same.count(Counter::ContextSwitch),
        same.operations,
    );
    results.exactly(
        "a switch within a vmspace loads no CR3",
        same.count(Counter::Cr3Load),
        0,
    );
    results.rows.push(Row::new("yield-same-vmspace", same).goal(120));

    let partner = Command::new("vmbench")
        .argument("-y")
        .spawn()
        .map_err(|_| Errno::ENOENT)?;
    // It has to start before it gives way for the first time.
    (0..OPERATIONS).for_each(|_| thread::yield_now());
    let other = meter.measure(OPERATIONS, || Ok(()), give_way);
    partner.kill(KILLED)?;
    partner.wait()?;
    let other = divided(other?, 2);
    results.exactly(
        "threads of two vmspaces switch",
        other.count(Counter::ContextSwitch),
        other.operations,
    );
    results.exactly(
        "a switch to another vmspace loads CR3 once",
        other.count(Counter::Cr3Load),
        other.operations,
    );
    results
        .rows
        .push(Row::new("yield-other-vmspace", other).goal(250));
    Ok(())
}
