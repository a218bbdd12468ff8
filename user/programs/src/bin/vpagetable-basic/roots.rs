//! Roots: `MADV_SETMAP` on part of a mapping, and while every CPU runs in it.

use crate::machine::{LENGTH, Machine, SPACE, expect, fault_at};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::{Advice, Protection, Vpte};
use dragonet_abi::process::{PRIORITY_DEFAULT, ThreadControl};
use dragonet_abi::vmspace::RUN_SYSCALL;
use dragonet_abi::{Errno, Handle};
use dragonet_programs::checks::Checks;
use dragonet_programs::vm::{ALLOW, Guest, PageTable, Ram, Seen, code, fixed};
use dragonet_rt::{println, syscall, thread, time};

const ADDRESS: u64 = SPACE + 0x3000;
/// Where the guests find the limits of what they may see.
const LIMITS: u64 = 0x10_0000;
/// Tables that take turns.
const ROOTS: usize = 4;
/// New roots, at least.
const CHANGES: u64 = 1000;
/// Looks of each CPU that are enough ...
const MOST_LOOKS: u64 = 20 * LOOKS;
/// ... or the time after which there will not be more.
const PATIENCE: Duration = Duration::from_secs(10);
/// Looks that a guest takes in one run.
const LOOKS: u64 = 2000;

/// Once `MADV_SETMAP` has returned nobody sees what the old root shows.
pub fn while_all_run(checks: &mut Checks) -> Result<(), Errno> {
    let outcome = watched()?;
    checks.report(
        "a new root while all CPUs run",
        outcome.is_ok(),
        format_args!("{}", outcome.err().unwrap_or_default()),
    );
    Ok(())
}

/// A mapping in three parts, of which the one in the middle has a root of its own.
pub fn run(checks: &mut Checks) -> Result<(), Errno> {
    let machine = Machine::new(16 << 20)?;
    let other = PageTable::new(&machine.ram)?;
    for page in 0..6 {
        let address = SPACE + page * PAGE_SIZE;
        machine.map(address, machine.page_with(100 + page)? | ALLOW)?;
        other.map(&machine.ram, address, machine.page_with(200 + page)? | ALLOW)?;
    }
    machine
        .guest
        .set_root(SPACE + 2 * PAGE_SIZE, 2 * PAGE_SIZE, other.root())?;
    let look = || {
        let pages = (0..6).map(|page| machine.guest.load(SPACE + page * PAGE_SIZE));
        pages.collect::<Result<Vec<_>, _>>()
    };
    let values = [100, 101, 202, 203, 104, 105].map(Seen::Value);
    expect(
        checks,
        "a root for a part: the index is that of the whole",
        look()?,
        values.to_vec(),
    );

    // A hole in the middle of the part: both halves keep root and index.
    let hole = SPACE + 3 * PAGE_SIZE;
    syscall::vmspace_munmap(machine.guest.vmspace(), hole, PAGE_SIZE)?;
    let mut values = values.to_vec();
    values[3] = fault_at(hole, 0);
    expect(checks, "a hole moves no index", look()?, values.clone());
    let whole = machine.guest.set_root(SPACE, LENGTH, other.root());
    expect(
        checks,
        "a root for a range with a hole",
        whole,
        Err(Errno::EINVAL),
    );
    expect(checks, "changes nothing", look()?, values);
    let wrong = syscall::vmspace_mcontrol(
        machine.guest.vmspace(),
        code::ADDRESS,
        PAGE_SIZE,
        Advice::SetMap,
        other.root(),
    );
    expect(
        checks,
        "a root for an ordinary mapping",
        wrong,
        Err(Errno::EINVAL),
    );
    machine.guest.set_root(SPACE, PAGE_SIZE, Vpte(0))?;
    expect(checks, "no root", machine.guest.load(SPACE)?, fault_at(SPACE, 0));
    Ok(())
}

/// What the watching threads share.
struct Show {
    guest: Guest,
    stop: AtomicBool,
    /// Looks of each thread.
    looks: Vec<AtomicU64>,
}

impl Show {
    /// Looks of the CPU that had the fewest.
    fn least_looks(&self) -> u64 {
        let looks = self.looks.iter().map(|looks| looks.load(Ordering::Relaxed));
        looks.min().unwrap_or(0)
    }
}

/// A thread on each CPU looks at one page, in which each root shows its own number, and compares it with the last root that is known to be
/// set and the last one announced.
fn watched() -> Result<Result<(), &'static str>, Errno> {
    let cpus = syscall::system_info()?.cpus;
    let ram = Ram::new(16 << 20)?;
    let limits = ram.page()?;
    let (published, announced) = (ram.word(limits)?, ram.word(limits + 8)?);
    let mut roots = Vec::new();
    for _ in 0..ROOTS {
        let (table, page) = (PageTable::new(&ram)?, ram.page()?);
        table.map(&ram, ADDRESS, page | ALLOW)?;
        roots.push((table, page));
    }
    let guest = Guest::new()?;
    guest.map(&fixed(LIMITS, PAGE_SIZE, Protection::READ, ram.object(), limits))?;
    guest.map_table(&ram, SPACE, LENGTH, SPACE, roots[0].0.root())?;
    let looks = (0..cpus).map(|_| AtomicU64::new(0)).collect();
    let show = Arc::new(Show {
        guest,
        stop: AtomicBool::new(false),
        looks,
    });
    let mut watchers = Vec::new();
    for cpu in 0..cpus {
        let show = Arc::clone(&show);
        let watcher = thread::Builder::new().affinity(1 << cpu);
        watchers.push(watcher.spawn(move || watch(&show, cpu as usize))?);
    }
    // Above the watchers, which leave no CPU idle.
    set_priority(PRIORITY_DEFAULT + 1)?;
    let begin = time::now();
    let mut number = 0;
    // Until every CPU has looked for a while.
    while number < CHANGES || show.least_looks() < MOST_LOOKS && time::now() < begin + PATIENCE {
        number += 1;
        let (table, page) = roots[number as usize % ROOTS];
        announced.store(number, Ordering::SeqCst);
        ram.store(page, number)?;
        show.guest.set_root(SPACE, LENGTH, table.root())?;
        published.store(number, Ordering::SeqCst);
        if number % 16 == 0 {
            time::sleep(Duration::from_micros(500));
        }
    }
    set_priority(PRIORITY_DEFAULT)?;
    show.stop.store(true, Ordering::Relaxed);
    let outcomes: Vec<_> = watchers.into_iter().map(thread::JoinHandle::join).collect();
    println!(
        "{number} new roots, at least {} looks on each of {cpus} CPUs",
        show.least_looks()
    );
    if outcomes.iter().all(|outcome| *outcome == Some(Ok(()))) && show.least_looks() == 0 {
        return Ok(Err("a CPU did not look at all"));
    }
    let mut outcomes = outcomes.into_iter();
    Ok(outcomes.try_for_each(|outcome| outcome.unwrap_or(Err("a thread died"))))
}

fn set_priority(priority: u64) -> Result<(), Errno> {
    syscall::thread_control(Handle::SELF_THREAD, ThreadControl::SetPriority, priority).map(drop)
}

fn watch(show: &Show, number: usize) -> Result<(), &'static str> {
    while !show.stop.load(Ordering::Relaxed) {
        let state = show.guest.run(code::follow(ADDRESS, LIMITS, LOOKS));
        let state = state.map_err(|_| "RUN was refused")?;
        if state.reason != RUN_SYSCALL {
            return Err("a fault where every root has a page");
        }
        if state.registers.rbx != 0 {
            return Err("the page of an old root was seen");
        }
        show.looks[number].fetch_add(LOOKS, Ordering::Relaxed);
    }
    Ok(())
}
