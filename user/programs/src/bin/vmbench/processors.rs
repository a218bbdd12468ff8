//! Invalidations that reach other CPUs: exactly those that run the address space are interrupted, each once.

use crate::Results;
use crate::fixture::{FLAG_PAGE, Guest, Physical, load};
use crate::meter::{Meter, Window};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;
use dragonet_abi::Errno;
use dragonet_abi::counters::Counter;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_programs::bench::Row;
use dragonet_rt::thread::{Builder, JoinHandle};
use dragonet_rt::{thread, time};

const OPERATIONS: u64 = 16;
/// Pages invalidated by one call.
const MANY: u64 = 64;
/// How long everything else may take to come to rest.
const SETTLE: Duration = Duration::from_millis(50);

pub fn measure(meter: &Meter, results: &mut Results, cpus: u32) -> Result<(), Errno> {
    let physical = Arc::new(Physical::new()?);
    for active in (1..=cpus).filter(|&active| active.is_power_of_two() || active == cpus) {
        own_vmspace(meter, results, &physical, active, cpus)?;
    }
    for active in (1..cpus).filter(|&active| active.is_power_of_two() || active + 1 == cpus) {
        users_vmspace(meter, results, &physical, active, cpus)?;
    }
    Ok(())
}

/// Threads on CPUs 1 to `count`, each of which has said that it runs.
pub fn helpers<F: FnOnce() + Send + 'static>(
    count: u32,
    mut work: impl FnMut(Arc<AtomicU32>) -> F,
) -> Result<Vec<JoinHandle<()>>, Errno> {
    let running = Arc::new(AtomicU32::new(0));
    let start = |cpu: u32| Builder::new().affinity(1_u64 << cpu).spawn(work(running.clone()));
    let threads: Vec<_> = (1..=count).map(start).collect::<Result<_, _>>()?;
    while running.load(Ordering::Acquire) != count {
        thread::yield_now();
    }
    time::sleep(SETTLE);
    Ok(threads)
}

/// This process's own address space, active on `active` CPUs: here and on those behind.
fn own_vmspace(
    meter: &Meter,
    results: &mut Results,
    physical: &Physical,
    active: u32,
    cpus: u32,
) -> Result<(), Errno> {
    let mapping = physical.mapped()?;
    let ended = Arc::new(AtomicBool::new(false));
    let threads = helpers(active - 1, |running| {
        let ended = ended.clone();
        move || {
            running.fetch_add(1, Ordering::Release);
            while !ended.load(Ordering::Relaxed) {
                spin_loop();
            }
        }
    })?;
    let mut rows = || {
        for (name, pages) in [("inval-1", 1), ("inval-64", MANY)] {
            let reached = Reached::open(cpus)?;
            let mut calls = 0;
            let cost = meter.measure(
                OPERATIONS / pages.min(OPERATIONS / 4),
                || load(&mapping, OPERATIONS.max(4 * pages)),
                |(), index| {
                    calls += 1;
                    mapping.invalidate(index * pages * PAGE_SIZE, pages * PAGE_SIZE)
                },
            )?;
            let name = format!("{name}-on-{active}");
            reached.check(results, &name, calls, active)?;
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

/// The address space of users, active on `active` CPUs but not here.
fn users_vmspace(
    meter: &Meter,
    results: &mut Results,
    physical: &Physical,
    active: u32,
    cpus: u32,
) -> Result<(), Errno> {
    physical.set(FLAG_PAGE, 0)?;
    let guest = Arc::new(Guest::new(physical)?);
    let threads = helpers(active, |running| {
        let guest = guest.clone();
        move || {
            running.fetch_add(1, Ordering::Release);
            let mut state = guest.state();
            let _ = guest.run(&mut state);
        }
    })?;
    let mut row = || {
        let reached = Reached::open(cpus)?;
        let mut calls = 0;
        let cost = meter.measure(
            OPERATIONS,
            || guest.load(OPERATIONS),
            |(), page| {
                calls += 1;
                guest.invalidate(page, 1)
            },
        )?;
        let name = format!("inval-1-of-users-on-{active}");
        reached.check(results, &name, calls, active + 1)?;
        results.rows.push(Row::new(name, cost));
        Ok(())
    };
    let outcome = row();
    physical.set(FLAG_PAGE, 1)?;
    for thread in threads {
        let _ = thread.join();
    }
    outcome
}

/// IPIs from here, and to each other CPU.
pub struct Reached {
    sent: Window,
    received: Vec<Window>,
}

impl Reached {
    /// From now on.
    pub fn open(cpus: u32) -> Result<Self, Errno> {
        Ok(Reached {
            sent: Window::open(0)?,
            received: (1..cpus)
                .map(|cpu| Window::open(u64::from(cpu)))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Checks that `calls` invalidations have reached CPUs 1 to `active` - 1 once each, and no other.
    pub fn check(&self, results: &mut Results, name: &str, calls: u64, active: u32) -> Result<(), Errno> {
        let sent = self.sent.count(Counter::IpiSent)?;
        results.exactly(
            &format!("{name}: an IPI for each other CPU"),
            sent,
            calls * u64::from(active - 1),
        );
        for (cpu, window) in (1..).zip(&self.received) {
            let wanted = if cpu < active { calls } else { 0 };
            let received = window.count(Counter::IpiReceived)?;
            results.exactly(&format!("{name}: cpu {cpu}"), received, wanted);
        }
        Ok(())
    }
}
