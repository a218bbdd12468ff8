//! Forks while other CPUs fault and store, through the MMU. The model is scenario S3 of the stress suite: both sides are compared
//! by checksum, and no store is ever seen on the other side.

use super::fork::{checksum, child_of, fork};
use super::shootdown::{STALE, STOP, enter, load, oracle, pause, store, wait_for, work};
use super::*;
use crate::arch::{clock, cpu};
use crate::sync::{Rank, SpinLock};
use crate::vm::copy;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::memory::Advice;

const BASE: u64 = 0x1000_0000;

/// DragonFly's `vm_fault_page` gave a page for writing without copying it (7a45978d5d). Every way in which the kernel or the program
/// writes, to a page that was read before and to one that was not.
pub fn ways_to_write() -> Result<(), &'static str> {
    type Way = fn(&Vmspace, u64, u64) -> bool;
    let ways: [Way; 4] = [
        // `vmspace_pwrite`.
        write,
        // A store of the program, or a copy to it by a system call.
        |space, address, value| {
            enter(Some(space));
            let good = store(space, address, value);
            enter(None);
            good
        },
        // The same without trying again: the first store must not go through to the shared page.
        |space, address, value| {
            enter(Some(space));
            let first = copy::write(address, &value).is_err();
            let good = first && store(space, address, value);
            enter(None);
            good
        },
        // Across a border of pages.
        |space, address, value| {
            let bytes = value.to_le_bytes();
            space.write(address - 4, &[bytes, bytes].concat()) == Ok(16) && write(space, address, value)
        },
    ];
    accounted(|| {
        for (writer, read_first) in [(0, false), (0, true), (1, false), (1, true)] {
            for way in ways {
                let parent = space()?;
                let object = MemoryObject::anonymous(4 * PAGE).map_err(|_| "no object")?;
                map(&parent, &anonymous(BASE, 4))?;
                map(&parent, &of_object(2 * BASE, 4, &object, MapFlags::PRIVATE))?;
                for page in 0..4 {
                    demand!(
                        write(&parent, BASE + page * PAGE, 10 + page)
                            && write(&parent, 2 * BASE + page * PAGE, 20 + page),
                        "a write failed"
                    );
                }
                let child = child_of(&parent)?;
                let sides = [&parent, &child];
                let (here, there) = (sides[writer], sides[1 - writer]);
                for base in [BASE, 2 * BASE] {
                    if read_first {
                        demand!(
                            checksum(here, base, 4) == checksum(there, base, 4),
                            "the two sides differ"
                        );
                    }
                    let before = checksum(there, base, 4);
                    demand!(way(here, base + 2 * PAGE, 99), "a write failed");
                    demand!(read(here, base + 2 * PAGE) == Some(99), "a write is lost");
                    demand!(
                        checksum(there, base, 4) == before,
                        "a write is seen on the other side"
                    );
                    demand!(
                        read(here, base + 3 * PAGE) == read(there, base + 3 * PAGE),
                        "a write went to a page beside"
                    );
                }
            }
        }
        Ok(())
    })
}

/// Translations of a vmspace's former life were used after it got a new one (c50e690bc7).
pub fn used_again() -> Result<(), &'static str> {
    accounted(|| {
        let (one, two, used) = (space()?, space()?, space()?);
        for (parent, value) in [(&one, 100), (&two, 200)] {
            map(parent, &anonymous(BASE, 40))?;
            for page in 0..40 {
                demand!(write(parent, BASE + page * PAGE, value + page), "a write failed");
            }
        }
        enter(Some(&used));
        let mut good = used.map(&anonymous(BASE, 40)).is_ok();
        for (parent, value) in [(&one, 100), (&two, 200), (&one, 100)] {
            good &= (0..40).all(|page| store(&used, BASE + page * PAGE, 1));
            used.clear();
            good &= load(&used, BASE).is_none() && fork(parent, &used).is_ok();
            good &= (0..40).all(|page| load(&used, BASE + page * PAGE) == Some(value + page));
        }
        enter(None);
        demand!(good, "a vmspace shows what it had before");
        demand!(
            (0..40).all(|page| read(&one, BASE + page * PAGE) == Some(100 + page)),
            "a store went to the other side"
        );
        Ok(())
    })
}

/// Pages that one CPU stores to in the storm.
const OWN: u64 = 32;

/// What the pages of each CPU show to it.
static EXPECTED: [[AtomicU64; OWN as usize]; cpu::MAX_CPUS] =
    [const { [const { AtomicU64::new(0) }; OWN as usize] }; cpu::MAX_CPUS];
/// Numbers stored so far, by CPU.
static STORED: [AtomicU64; cpu::MAX_CPUS] = [const { AtomicU64::new(0) }; cpu::MAX_CPUS];

fn own_page(cpu: usize, page: u64) -> u64 {
    BASE + (cpu as u64 * OWN + page) * PAGE
}

/// Rising numbers go to the first word and then to the last word of a page; now and then a page is dropped.
fn storm_worker() {
    work(|space| {
        let cpu = cpu::index();
        let number = STORED[cpu].fetch_add(1, Ordering::Relaxed) + 1;
        let page = number % OWN;
        let (address, expected) = (own_page(cpu, page), &EXPECTED[cpu][page as usize]);
        let last = expected.load(Ordering::Relaxed);
        let mut good = load(space, address) == Some(last) && load(space, address + PAGE - 8) == Some(last);
        if number.is_multiple_of(50) {
            good &= space.advise(address, PAGE, Advice::DontNeed).is_ok();
            expected.store(0, Ordering::Relaxed);
        } else {
            good &= store(space, address, number) && store(space, address + PAGE - 8, number);
            expected.store(number, Ordering::Relaxed);
        }
        if !good {
            STALE.fetch_add(1, Ordering::Relaxed);
        }
    });
}

pub fn storm() -> Result<(), &'static str> {
    accounted(|| {
        let parent = space()?;
        let pages = cpu::count() as u64 * OWN;
        map(&parent, &anonymous(BASE, pages))?;
        for counter in EXPECTED.iter().flatten().chain(&STORED) {
            counter.store(0, Ordering::Relaxed);
        }
        oracle(&parent, storm_worker, |_| {
            let child = child_of(&parent)?;
            let before = checksum(&child, BASE, pages).ok_or("the copy cannot be read")?;
            for at in (BASE..BASE + pages * PAGE).step_by(PAGE as usize) {
                // The copy may be made between the two stores, which come in this order.
                demand!(
                    read(&child, at) >= read(&child, at + PAGE - 8),
                    "a page of the copy never was like that"
                );
            }
            pause(300);
            demand!(
                checksum(&child, BASE, pages) == Some(before),
                "a store after the fork is seen by the copy"
            );
            // These are for nobody else; the workers look.
            let grandchild = child_of(&child)?;
            for page in (0..pages).step_by(3) {
                demand!(
                    write(&child, BASE + page * PAGE, u64::MAX)
                        && write(&child, BASE + page * PAGE + PAGE - 8, 1),
                    "a write in the copy failed"
                );
            }
            demand!(
                checksum(&grandchild, BASE, pages) == Some(before),
                "a store of the copy is seen by its own copy"
            );
            pause(100);
            demand!(
                (0..pages)
                    .step_by(3)
                    .all(|page| read(&child, BASE + page * PAGE) == Some(u64::MAX)),
                "a store in the copy is lost"
            );
            Ok(())
        })
    })
}

/// Every CPU has a word of its own in the same pages.
fn word_worker() {
    work(|space| {
        let cpu = cpu::index();
        for page in 0..WORDS {
            let (address, expected) = (BASE + page * PAGE + cpu as u64 * 8, &EXPECTED[cpu][page as usize]);
            let last = expected.load(Ordering::Relaxed);
            if load(space, address) != Some(last) || !store(space, address, last + 1) {
                STALE.fetch_add(1, Ordering::Relaxed);
            }
            expected.store(last + 1, Ordering::Relaxed);
        }
    });
}

/// Few, so that all CPUs are likely to be at the same one.
const WORDS: u64 = 2;

/// CPUs of one space store to the same pages, some of which copy them while others, after the other owner has gone, store in place.
pub fn words() -> Result<(), &'static str> {
    accounted(|| {
        let parent = space()?;
        map(&parent, &anonymous(BASE, WORDS))?;
        for counter in EXPECTED.iter().flatten() {
            counter.store(0, Ordering::Relaxed);
        }
        oracle(&parent, word_worker, |number| {
            let child = child_of(&parent)?;
            pause(number % 50);
            demand!(
                child.advise(BASE, WORDS * PAGE, Advice::DontNeed).is_ok(),
                "DontNeed failed"
            );
            Ok(())
        })
    })
}

/// The space of each CPU in a turn of the race.
static SPACES: SpinLock<Vec<Arc<Vmspace>>> = SpinLock::new(Rank::Umtx, Vec::new());
static TURN: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);
/// Pages in the race.
const RACE: u64 = 24;

/// One CPU's part in a turn: every page shows the turn's number until the own one is written.
fn take_turn(turn: u64) {
    let cpu = cpu::index() as u64;
    let Some(space) = SPACES.lock().get(cpu as usize).cloned() else {
        return;
    };
    enter(Some(&space));
    let mut good = true;
    for round in 0..3u64 {
        for page in (0..RACE).map(|page| BASE + (page + cpu) % RACE * PAGE) {
            let expected = if round == 0 {
                turn
            } else {
                turn << 16 | cpu << 8 | round
            };
            good &= load(&space, page) == Some(expected) && load(&space, page + PAGE - 8) == Some(expected);
            let next = turn << 16 | cpu << 8 | (round + 1);
            good &= store(&space, page, next) && store(&space, page + PAGE - 8, next);
        }
    }
    enter(None);
    if !good {
        STALE.fetch_add(1, Ordering::SeqCst);
    }
}

fn race_worker() {
    let mut last = TURN.load(Ordering::SeqCst);
    // Says that it has seen where the turns begin.
    DONE.fetch_add(1, Ordering::SeqCst);
    loop {
        let turn = TURN.load(Ordering::SeqCst);
        if turn != last {
            take_turn(turn);
            last = turn;
            DONE.fetch_add(1, Ordering::SeqCst);
        } else if STOP.load(Ordering::SeqCst) {
            DONE.fetch_add(1, Ordering::SeqCst);
            return;
        }
    }
}

/// A space per CPU, all of them owners of the same pages, all stored to at the same time: some copy, the last one must not.
pub fn race() -> Result<(), &'static str> {
    accounted(|| {
        let (here, others) = (cpu::index(), cpu::count() as u64 - 1);
        STOP.store(false, Ordering::SeqCst);
        STALE.store(0, Ordering::SeqCst);
        TURN.store(0, Ordering::SeqCst);
        DONE.store(0, Ordering::SeqCst);
        for index in (0..cpu::count()).filter(|&index| index != here) {
            crate::sched::spawn_kernel_thread(race_worker, 16, 1 << index).map_err(|_| "no thread")?;
        }
        let all_done = || wait_for(|| DONE.load(Ordering::SeqCst) == others);
        let mut outcome = if all_done() {
            Ok(())
        } else {
            Err("the other CPUs do not start")
        };
        let end = clock::now() + 500_000_000;
        let mut turns = 0;
        while outcome.is_ok() && (clock::now() < end || turns < 10) {
            turns += 1;
            outcome = race_turn(turns, &all_done);
        }
        DONE.store(0, Ordering::SeqCst);
        STOP.store(true, Ordering::SeqCst);
        let stopped = all_done();
        let spaces = core::mem::take(&mut *SPACES.lock());
        drop(spaces);
        log::debug!("{turns} turns of {} CPUs", others + 1);
        outcome?;
        demand!(stopped, "the other CPUs do not stop");
        demand!(
            STALE.load(Ordering::SeqCst) == 0,
            "a CPU saw the store of another space, or lost its own"
        );
        Ok(())
    })
}

fn race_turn(turn: u64, all_done: &dyn Fn() -> bool) -> Result<(), &'static str> {
    let parent = space()?;
    map(&parent, &anonymous(BASE, RACE))?;
    for page in (0..RACE).map(|page| BASE + page * PAGE) {
        demand!(
            write(&parent, page, turn) && write(&parent, page + PAGE - 8, turn),
            "a write failed"
        );
    }
    let mut spaces = alloc::vec![parent];
    for _ in 1..cpu::count() {
        spaces.push(child_of(&spaces[turn as usize % spaces.len()])?);
    }
    let before = core::mem::replace(&mut *SPACES.lock(), spaces);
    drop(before);
    DONE.store(0, Ordering::SeqCst);
    TURN.store(turn, Ordering::SeqCst);
    take_turn(turn);
    demand!(all_done(), "a CPU does not finish its turn");
    Ok(())
}
