//! What copies have and what they do not see.

use crate::{Board, Problem, copy, demand, doing, finish, verdict};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::Inheritance;
use dragonet_abi::{Errno, Handle};
use dragonet_rt::memory::Mapping;
use dragonet_rt::{archive, println, syscall, system, thread};

const PAGES: u64 = 200;

/// Private memory, a word of each page written.
fn filled(pages: u64, value: u64) -> Result<Mapping, Problem> {
    let memory = Mapping::anonymous(pages * PAGE_SIZE).map_err(doing("mapping memory"))?;
    fill(&memory, value)?;
    Ok(memory)
}

fn words(memory: &Mapping) -> impl Iterator<Item = Result<&AtomicU64, Errno>> {
    (0..memory.length())
        .step_by(PAGE_SIZE as usize)
        .map(|page| memory.word(page + page / PAGE_SIZE % 500 * 8))
}

fn fill(memory: &Mapping, value: u64) -> Result<(), Problem> {
    for (page, word) in (0..).zip(words(memory)) {
        word.map_err(doing("writing"))?
            .store(value + page, Ordering::Relaxed);
    }
    Ok(())
}

fn checksum(memory: &Mapping) -> Result<u64, Problem> {
    words(memory).try_fold(0xcbf2_9ce4_8422_2325_u64, |sum, word| {
        let value = word.map_err(doing("reading"))?.load(Ordering::Relaxed);
        Ok((sum ^ value).wrapping_mul(0x100_0000_01b3))
    })
}

pub fn divergence() -> Result<(), Problem> {
    let board = Board::new()?;
    let memory = Arc::new(filled(PAGES, 1000)?);
    let before = checksum(&memory)?;
    let (theirs, report) = (Arc::clone(&memory), Arc::clone(&board));
    let child = copy(move || {
        verdict((|| {
            report.set(0, checksum(&theirs)?);
            // While the original stores to the same pages.
            fill(&theirs, 5000)?;
            report.set(1, checksum(&theirs)?);
            report.wait_for(2, 1);
            demand(
                checksum(&theirs)? == report.get(1),
                "the original's stores are seen",
            )
        })())
    })?;
    for round in 0..20 {
        fill(&memory, 9000 + round)?;
    }
    let mine = checksum(&memory)?;
    let ended = board.get(1) != 0;
    // Until the copy has stored everything.
    while board.get(1) == 0 && child.wait_for(1_000_000) == Err(Errno::ETIMEDOUT) {}
    let still = checksum(&memory)?;
    board.set(2, 1);
    finish(&child)?;
    demand(
        board.get(0) == before,
        "the copy does not begin like the original",
    )?;
    demand(ended || still == mine, "the copy's stores are seen")?;
    demand(checksum(&memory)? == mine, "the copy's stores are seen")?;
    fill(&memory, 5000)?;
    demand(
        checksum(&memory)? == board.get(1),
        "the copy wrote something else",
    )
}

/// Each generation copies itself, waits for its copy, and checks that it sees nothing of it.
pub fn generations() -> Result<(), Problem> {
    fn descend(memory: &Arc<Mapping>, left: u64) -> Result<(), Problem> {
        let before = checksum(memory)?;
        if left > 0 {
            let theirs = Arc::clone(memory);
            let child = copy(move || {
                verdict((|| {
                    demand(
                        checksum(&theirs)? == before,
                        "a copy does not begin like the original",
                    )?;
                    fill(&theirs, left << 32)?;
                    descend(&theirs, left - 1)
                })())
            })?;
            finish(&child)?;
        }
        demand(
            checksum(memory)? == before,
            "a later generation's stores are seen",
        )
    }
    descend(&Arc::new(filled(50, 1)?), 4)
}

/// In the program's data.
static INITIALIZED: AtomicU64 = AtomicU64::new(7);
/// In its zeroes.
static ZERO: AtomicU64 = AtomicU64::new(0);

pub fn variables() -> Result<(), Problem> {
    let board = Board::new()?;
    INITIALIZED.store(8, Ordering::Relaxed);
    ZERO.store(9, Ordering::Relaxed);
    let list: Vec<u64> = (0..5000).collect();
    let report = Arc::clone(&board);
    let expected = list.clone();
    let child = copy(move || {
        let alike = INITIALIZED.load(Ordering::Relaxed) == 8 && ZERO.load(Ordering::Relaxed) == 9;
        INITIALIZED.store(80, Ordering::Relaxed);
        ZERO.store(90, Ordering::Relaxed);
        // The heap goes on as it was: what it gives out is not in use.
        let more: Vec<Vec<u64>> = (0..50).map(|size| (0..size * 100).collect()).collect();
        let whole = more
            .iter()
            .all(|list| list.iter().enumerate().all(|(at, &value)| at as u64 == value));
        report.set(0, list.iter().sum());
        verdict(demand(
            alike && whole && list.iter().enumerate().all(|(at, &value)| at as u64 == value),
            "variables or the heap are not copied",
        ))
    })?;
    finish(&child)?;
    demand(board.get(0) == expected.iter().sum(), "the copy saw another list")?;
    demand(
        INITIALIZED.load(Ordering::Relaxed) == 8 && ZERO.load(Ordering::Relaxed) == 9,
        "the copy's variables are the original's",
    )
}

/// The copy prints, asks the system and finds the archive.
pub fn roles() -> Result<(), Problem> {
    let information = syscall::system_info().map_err(doing("asking about the system"))?;
    let child = copy(move || {
        println!("fork-basic: a copy prints");
        let counters = system::counters(dragonet_abi::counters::ALL_CPUS).is_ok();
        let file = archive::root().is_ok_and(|root| root.find("bin/fork-basic").is_some());
        let cpus = syscall::system_info().is_ok_and(|now| now.cpus == information.cpus);
        verdict(demand(counters && file && cpus, "a copy has no handles"))
    })?;
    finish(&child)
}

pub fn inheritance() -> Result<(), Problem> {
    let memory = Arc::new(filled(40, 1)?);
    let board = Board::new()?;
    let at = |page: u64| memory.address() + page * PAGE_SIZE;
    syscall::minherit(at(10), 10 * PAGE_SIZE, Inheritance::None).map_err(doing("asking for a hole"))?;
    syscall::minherit(at(20), 10 * PAGE_SIZE, Inheritance::Zero).map_err(doing("asking for zeroes"))?;
    let theirs = Arc::clone(&memory);
    let child = copy(move || {
        verdict((|| {
            let own =
                syscall::process_vmspace(Handle::SELF_PROCESS).map_err(doing("asking for a vmspace"))?;
            for page in 0..40 {
                let mut bytes = [0; 8];
                let address = theirs.address() + page * PAGE_SIZE + page % 500 * 8;
                let seen =
                    syscall::vmspace_pread(own.get(), &mut bytes, address).map(|_| u64::from_le_bytes(bytes));
                let expected = match page {
                    10..20 => Err(Errno::EFAULT),
                    20..30 => Ok(0),
                    _ => Ok(1 + page),
                };
                demand(seen == expected, "a page is not inherited as asked for")?;
            }
            Ok(())
        })())
    })?;
    finish(&child)?;
    demand(
        checksum(&memory)? == checksum(&filled(40, 1)?)?,
        "the original has changed",
    )?;
    let refused = [
        (memory.address(), Inheritance::Share),
        (board.address(), Inheritance::Copy),
        (board.address(), Inheritance::Zero),
    ];
    for (address, inheritance) in refused {
        demand(
            syscall::minherit(address, PAGE_SIZE, inheritance) == Err(Errno::EINVAL),
            "an inheritance of the wrong kind",
        )?;
    }
    Ok(())
}

/// Threads that store all the time; copies must stand still.
pub fn busy_threads() -> Result<(), Problem> {
    const THREADS: u64 = 3;
    let memory = Arc::new(filled(THREADS * 20, 0)?);
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for number in 0..THREADS {
        let (memory, stop) = (Arc::clone(&memory), Arc::clone(&stop));
        let busy = thread::spawn(move || {
            let mut stored = 0;
            let mut good = true;
            while !stop.load(Ordering::Relaxed) {
                stored += 1;
                for page in number * 20..number * 20 + 20 {
                    let Ok(word) = memory.word(page * PAGE_SIZE) else {
                        return false;
                    };
                    good &= stored == 1 || word.load(Ordering::Relaxed) == stored - 1;
                    word.store(stored, Ordering::Relaxed);
                }
            }
            good
        });
        threads.push(busy.map_err(doing("starting a thread"))?);
    }
    let mut outcome = Ok(());
    for _ in 0..6 {
        let theirs = Arc::clone(&memory);
        let child = copy(move || {
            verdict((|| {
                let first = sums(&theirs)?;
                for _ in 0..4 {
                    thread::yield_now();
                    demand(sums(&theirs)? == first, "a copy changes though it has no threads")?;
                }
                for page in 0..THREADS * 20 {
                    let word = theirs.word(page * PAGE_SIZE).map_err(doing("writing"))?;
                    word.store(u64::MAX, Ordering::Relaxed);
                }
                Ok(())
            })())
        });
        outcome = outcome.and_then(|()| finish(&child?));
    }
    stop.store(true, Ordering::Relaxed);
    let good = threads.into_iter().all(|busy| busy.join() == Some(true));
    outcome?;
    demand(good, "a thread lost a store, or saw a copy's")
}

fn sums(memory: &Mapping) -> Result<u64, Problem> {
    (0..memory.length())
        .step_by(PAGE_SIZE as usize)
        .try_fold(0u64, |sum, at| {
            let word = memory.word(at).map_err(doing("reading"))?;
            Ok(sum.wrapping_mul(31).wrapping_add(word.load(Ordering::Relaxed)))
        })
}
