//! Invalidations of a guest that is entered on several CPUs: those that run it are interrupted, each once, and no other.

use crate::Results;
use crate::meter::Meter;
use crate::processors::{Reached, helpers};
use alloc::format;
use alloc::sync::Arc;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use dragonet_abi::Errno;
use dragonet_abi::counters::Counter;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_programs::bench::Row;
use dragonet_rt::guest::IdentityMap;
use dragonet_rt::memory::Mapping;

const OPERATIONS: u64 = 16;
/// Pages invalidated by one call.
const MANY: u64 = 64;

pub fn measure(results: &mut Results, cpus: u32) -> Result<(), Errno> {
    let map = Arc::new(IdentityMap::new()?);
    let own = map.clone();
    map.run(true, || {
        let meter = Meter::new(cpus)?;
        for active in (1..=cpus).filter(|&active| active.is_power_of_two() || active == cpus) {
            guests(&meter, results, &own, active, cpus)?;
        }
        Ok(())
    })?
}

/// The guest runs on `active` CPUs: here and on those behind.
fn guests(
    meter: &Meter,
    results: &mut Results,
    map: &Arc<IdentityMap>,
    active: u32,
    cpus: u32,
) -> Result<(), Errno> {
    let ended = Arc::new(AtomicBool::new(false));
    let threads = helpers(active - 1, |running: Arc<AtomicU32>| {
        let (ended, map) = (ended.clone(), map.clone());
        move || {
            let _ = map.run(false, || {
                running.fetch_add(1, Ordering::Release);
                while !ended.load(Ordering::Relaxed) {
                    spin_loop();
                }
            });
        }
    })?;
    let mut rows = || {
        let mapping = Mapping::anonymous(MANY * PAGE_SIZE)?;
        for (name, pages) in [("guest-inval-1", 1), ("guest-inval-64", MANY)] {
            let reached = Reached::open(cpus)?;
            let mut calls = 0;
            let cost = meter.measure(
                OPERATIONS,
                || Ok(()),
                |(), _| {
                    calls += 1;
                    mapping.invalidate(0, pages * PAGE_SIZE)
                },
            )?;
            let name = format!("{name}-on-{active}");
            reached.check(results, &name, calls, active)?;
            results.exactly(
                &format!("{name}: an exit here and one on each other CPU"),
                cost.count(Counter::GuestExit),
                OPERATIONS * u64::from(active),
            );
            results.rows.push(Row::new(name, cost));
        }
        Ok(())
    };
    let outcome = rows();
    ended.store(true, Ordering::Relaxed);
    for thread in threads {
        let _ = thread.join();
    }
    outcome
}
