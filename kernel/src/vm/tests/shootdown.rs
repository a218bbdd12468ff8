//! What TLBs must not do, tried with all CPUs that are there.
//!
//! One thread per other CPU runs in the vmspace under test and reads (or writes) through the MMU without a pause, resolving
//! its own faults; the driver changes translations and then says so. A reader that first hears what the driver said and then
//! sees something older has used a stale translation.

use super::*;
use crate::arch::irq::IrqGuard;
use crate::arch::{clock, cpu};
use crate::debug::counters;
use crate::pmap;
use crate::sync::{Rank, SpinLock};
use crate::vm::{Access, copy};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use dragonet_abi::counters::Counter;
use dragonet_abi::memory::{Advice, Vpte};

const BASE: u64 = 0x1000_0000;
const OTHER: u64 = 0x2000_0000;
const SECONDS: u64 = 1_000_000_000;
/// How long an oracle looks.
const DURATION: u64 = SECONDS / 2;

static SPACE: SpinLock<Option<Arc<Vmspace>>> = SpinLock::new(Rank::Umtx, None);
static RUNNING: AtomicUsize = AtomicUsize::new(0);
pub static STOP: AtomicBool = AtomicBool::new(false);
/// What the driver has made true.
pub static SAID: AtomicU64 = AtomicU64::new(0);
/// Accesses through stale translations.
pub static STALE: AtomicU64 = AtomicU64::new(0);
/// Accesses that went through.
static ACCESSES: AtomicU64 = AtomicU64::new(0);

pub fn current_space() -> Option<Arc<Vmspace>> {
    SPACE.lock().clone()
}

/// Loads the vmspace, or nothing, on this CPU.
pub fn enter(space: Option<&Vmspace>) {
    let guard = IrqGuard::new();
    pmap::switch_to(guard.witness(), space);
}

/// What a thread on another CPU does until told to stop: `access` with the vmspace loaded.
pub fn work(access: fn(&Vmspace)) {
    let Some(space) = current_space() else { return };
    enter(Some(&space));
    RUNNING.fetch_add(1, Ordering::SeqCst);
    while !STOP.load(Ordering::Relaxed) {
        access(&space);
        // Lets others have the locks: they are not fair, and a reader that only faults would keep them.
        pause(100);
    }
    enter(None);
    drop(space);
    RUNNING.fetch_sub(1, Ordering::SeqCst);
}

/// Reads a word through the MMU; `None` if the address is not mapped.
pub fn load(space: &Vmspace, address: u64) -> Option<u64> {
    loop {
        if let Ok(value) = copy::read(address) {
            ACCESSES.fetch_add(1, Ordering::Relaxed);
            return Some(value);
        }
        space.handle_fault(address, Access::READ).ok()?;
    }
}

/// Reads the word at `BASE` as often as the translation lives, with interrupts off, so that an invalidation that does not wait for
/// this CPU's answer returns while the old translation is in use. `stale` judges what the driver said before and the word.
fn watch(space: &Vmspace, stale: fn(u64, u64) -> bool) {
    // Brings the translation in.
    if load(space, BASE).is_none() {
        return;
    }
    let _interrupts_off = IrqGuard::new();
    for _ in 0..50 {
        let said = SAID.load(Ordering::SeqCst);
        let Ok(value) = copy::read(BASE) else { return };
        if stale(said, value) {
            STALE.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes a word through the MMU; false if the address cannot be written.
pub fn store(space: &Vmspace, address: u64, value: u64) -> bool {
    loop {
        if copy::write(address, &value).is_ok() {
            ACCESSES.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        if space.handle_fault(address, Access::WRITE).is_err() {
            return false;
        }
    }
}

/// Runs `worker` on every CPU but this one and `round` here, with rising numbers, for a while.
pub fn oracle(
    space: &Arc<Vmspace>,
    worker: fn(),
    mut round: impl FnMut(u64) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    *SPACE.lock() = Some(space.clone());
    STOP.store(false, Ordering::SeqCst);
    for counter in [&SAID, &STALE, &ACCESSES] {
        counter.store(0, Ordering::SeqCst);
    }
    let here = cpu::index();
    let others = cpu::count() - 1;
    for index in (0..cpu::count()).filter(|&index| index != here) {
        crate::sched::spawn_kernel_thread(worker, 16, 1 << index).map_err(|_| "no thread")?;
    }
    let started = wait_for(|| RUNNING.load(Ordering::SeqCst) == others);
    let mut result = if started {
        Ok(())
    } else {
        Err("the other CPUs do not start")
    };
    let end = clock::now() + DURATION;
    let seen = || others == 0 || ACCESSES.load(Ordering::Relaxed) >= 100;
    let mut number = 0;
    while result.is_ok()
        && (clock::now() < end || number < 10 || !seen() && clock::now() < end + 20 * SECONDS)
    {
        number += 1;
        result = round(number);
    }
    STOP.store(true, Ordering::SeqCst);
    let stopped = wait_for(|| RUNNING.load(Ordering::SeqCst) == 0);
    drop(SPACE.lock().take());
    log::debug!(
        "{number} rounds against {} accesses of {others} CPUs",
        ACCESSES.load(Ordering::SeqCst)
    );
    result?;
    demand!(stopped, "the other CPUs do not stop");
    demand!(
        STALE.load(Ordering::SeqCst) == 0,
        "a CPU used a stale translation"
    );
    demand!(
        others == 0 || ACCESSES.load(Ordering::SeqCst) > 0,
        "nobody looked"
    );
    Ok(())
}

/// Passes a little time. Without the PAUSE instruction, which emulators take for an invitation to do something else.
pub fn pause(steps: u64) {
    for step in 0..10 * steps {
        core::hint::black_box(step);
    }
}

/// Waits on this CPU, with interrupts on.
pub fn wait_for(done: impl Fn() -> bool) -> bool {
    let end = clock::now() + 20 * SECONDS;
    while !done() {
        if clock::now() > end {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

pub fn economy() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        map(&space, &anonymous(BASE, 64))?;
        enter(Some(&space));
        let counted = [
            Counter::FlushPage,
            Counter::FlushAll,
            Counter::IpiSent,
            Counter::Shootdown,
        ];
        let total = || counted.map(counters::total);
        let before = total();
        let mut good = true;
        for page in 0..64 {
            good &= load(&space, BASE + page * PAGE) == Some(0) && store(&space, BASE + page * PAGE, page);
        }
        let after_faults = total();
        good &= space.unmap(BASE, 4 * PAGE).is_ok();
        let after_small = total();
        good &= space.unmap(BASE, 60 * PAGE).is_ok();
        let after_large = total();
        enter(None);
        good &= space.unmap(BASE, 64 * PAGE).is_ok();
        let after_idle = total();
        let loads = counters::total(Counter::Cr3Load);
        enter(None);
        demand!(
            counters::total(Counter::Cr3Load) == loads,
            "CR3 is loaded although nothing changes"
        );
        demand!(good, "an access or an unmap failed");
        demand!(after_faults == before, "a fault flushed something");
        demand!(
            after_small[0] == before[0] + 4 && after_small[1] == before[1],
            "four pages, four INVLPG"
        );
        demand!(
            after_large[0] == after_small[0],
            "many pages are flushed one by one"
        );
        demand!(
            after_large[1] == after_small[1] + 1,
            "many pages are not flushed at once"
        );
        demand!(
            after_large[2..] == before[2..],
            "an interrupt for a space that no other CPU runs"
        );
        demand!(after_idle == after_large, "a flush for a space that no CPU runs");
        Ok(())
    })
}

/// Frames that the table under test points to in turn.
const FRAMES: u64 = 8;

fn invalidate_reader() {
    work(|space| watch(space, |said, value| value < said));
}

pub fn invalidate_oracle() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        let object = MemoryObject::anonymous(64 * PAGE).map_err(|_| "no object")?;
        map(&space, &of_object(OTHER, 64, &object, MapFlags::SHARED))?;
        let flags = MapFlags::SHARED | MapFlags::VPAGETABLE;
        map(&space, &of_object(BASE, 1, &object, flags))?;
        let allow = Vpte::VALID | Vpte::WRITE | Vpte::USER;
        for (table, entry) in [(1, 2), (2, 3), (3, 4), (4, 16)] {
            demand!(
                write(&space, OTHER + table * PAGE, (entry * PAGE) | allow),
                "a write failed"
            );
        }
        demand!(
            space.control(BASE, PAGE, Advice::SetMap, PAGE | allow).is_ok(),
            "SetMap failed"
        );
        oracle(&space, invalidate_reader, |number| {
            let frame = 16 + number % FRAMES;
            demand!(write(&space, OTHER + frame * PAGE, number), "a write failed");
            demand!(
                write(&space, OTHER + 4 * PAGE, (frame * PAGE) | allow),
                "a write failed"
            );
            demand!(
                space.advise(BASE, PAGE, Advice::Invalidate).is_ok(),
                "Invalidate failed"
            );
            SAID.store(number, Ordering::SeqCst);
            Ok(())
        })
    })
}

/// Everything is allowed by such an entry.
const ALLOW: u64 = Vpte::VALID | Vpte::WRITE | Vpte::USER;
/// A bit that means nothing.
const MEANINGLESS: u64 = 1 << 9;
/// The entry of a table in use, and an entry that no walk may reach or mark.
const USED: u64 = (16 * PAGE) | ALLOW;
const TABOO: u64 = (20 * PAGE) | ALLOW;

/// The CPU that makes walks take long.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// Walks the table of the first page again and again, for a space that this CPU does not run, so that no interrupt tells it of an
/// invalidation. One CPU changes meaningless bits of the last entry instead, so that walks take long.
fn walker() {
    let Some(space) = current_space() else { return };
    RUNNING.fetch_add(1, Ordering::SeqCst);
    let object = space
        .map
        .lock()
        .find(BASE)
        .map(|entry| entry.payload.object.clone());
    let changes = cpu::index() as u64 == CHANGES.load(Ordering::Relaxed);
    while let Some(object) = &object
        && !STOP.load(Ordering::Relaxed)
    {
        if changes && let Some(pages) = object.stable_pages() {
            for page in [4, 5] {
                let entry = pages.load_word(page, 0);
                if entry & Vpte::FRAME == USED & Vpte::FRAME {
                    let _ = pages.compare_exchange_word(page, 0, entry, entry ^ MEANINGLESS);
                }
            }
        }
        // Where there is one other CPU it does both.
        if !changes || cpu::count() == 2 {
            let _ = space.handle_fault(BASE, Access::WRITE);
            ACCESSES.fetch_add(1, Ordering::Relaxed);
        }
    }
    drop((object, space));
    RUNNING.fetch_sub(1, Ordering::SeqCst);
}

/// Once Invalidate has returned, a table that was taken away is its owner's to use for anything: a walk that began before must not
/// mark its entries any more.
pub fn walk_after_invalidate() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        let object = MemoryObject::anonymous(64 * PAGE).map_err(|_| "no object")?;
        map(&space, &of_object(OTHER, 64, &object, MapFlags::SHARED))?;
        let flags = MapFlags::SHARED | MapFlags::VPAGETABLE;
        map(&space, &of_object(BASE, 1, &object, flags))?;
        let set = |page: u64, entry: u64| write(&space, OTHER + page * PAGE, entry);
        let mut good = set(1, (2 * PAGE) | ALLOW) && set(2, (3 * PAGE) | ALLOW);
        good &= set(3, (4 * PAGE) | ALLOW) && set(4, USED) && set(5, TABOO);
        demand!(good, "a write failed");
        let root = space.control(BASE, PAGE, Advice::SetMap, PAGE | ALLOW);
        demand!(root.is_ok(), "SetMap failed");
        let pages = object.stable_pages().ok_or("no pages")?;
        let exchange = |page, new| {
            let mut old = pages.load_word(page, 0);
            while let Err(now) = pages.compare_exchange_word(page, 0, old, new) {
                old = now;
            }
        };
        let next_cpu = (cpu::index() + 1) % cpu::count();
        CHANGES.store(next_cpu as u64, Ordering::Relaxed);
        oracle(&space, walker, |number| {
            // Tables 4 and 5 take turns.
            let (old, new) = (4 + (number + 1) % 2, 4 + number % 2);
            demand!(
                read(&space, OTHER + new * PAGE) == Some(TABOO),
                "a walk marked a table after Invalidate"
            );
            exchange(new, USED);
            exchange(3, (new * PAGE) | ALLOW);
            let invalidated = space.advise(BASE, PAGE, Advice::Invalidate);
            exchange(old, TABOO);
            demand!(invalidated.is_ok(), "Invalidate failed");
            pause(number % 50);
            Ok(())
        })
    })
}

fn unmap_reader() {
    // 0 is a new page that the driver has not written yet.
    work(|space| watch(space, |said, value| value != 0 && value <= said));
}

/// In some rounds, waits until somebody holds the translation.
fn let_readers_in(round: u64) {
    let before = ACCESSES.load(Ordering::Relaxed);
    for _ in 0..if round.is_multiple_of(2) { 1000 } else { 0 } {
        if ACCESSES.load(Ordering::Relaxed) != before {
            break;
        }
        pause(10);
    }
}

pub fn unmap_oracle() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        oracle(&space, unmap_reader, |number| {
            map(&space, &anonymous(BASE, 1))?;
            demand!(write(&space, BASE, number), "a write failed");
            let_readers_in(number);
            demand!(space.unmap(BASE, PAGE).is_ok(), "unmap failed");
            SAID.store(number, Ordering::SeqCst);
            Ok(())
        })
    })
}

fn large_reader() {
    // Odd: not mapped, and it is not mapped again before that changes.
    work(|space| {
        watch(space, |said, _| {
            !said.is_multiple_of(2) && SAID.load(Ordering::SeqCst) == said
        })
    });
}

/// One small page of a large one is unmapped.
pub fn large_oracle() -> Result<(), &'static str> {
    let Some((object, offset)) = large::module() else {
        // A boot with small modules alone has none to try.
        return Ok(());
    };
    accounted(|| {
        let space = space()?;
        let arguments = MapArguments {
            protection: READ,
            maximum: READ,
            offset,
            ..of_object(BASE, large::PAGES, &object, MapFlags::SHARED)
        };
        oracle(&space, large_reader, |number| {
            SAID.store(2 * number, Ordering::SeqCst);
            map(&space, &arguments)?;
            demand!(read(&space, BASE).is_some(), "a module cannot be read");
            demand!(
                space.statistics().resident_pages == large::PAGES,
                "no large page in a module"
            );
            let_readers_in(number);
            demand!(space.unmap(BASE, PAGE).is_ok(), "unmap failed");
            SAID.store(2 * number + 1, Ordering::SeqCst);
            pause(20);
            Ok(())
        })
    })
}

fn protect_writer() {
    work(|space| {
        let value = ACCESSES.load(Ordering::Relaxed);
        store(space, BASE, value);
    });
}

pub fn protect_oracle() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        map(&space, &anonymous(BASE, 1))?;
        oracle(&space, protect_writer, |_| {
            demand!(space.protect(BASE, PAGE, READ).is_ok(), "protect failed");
            let first = read(&space, BASE);
            pause(200);
            demand!(
                read(&space, BASE) == first,
                "a store went through after the protection was changed"
            );
            demand!(space.protect(BASE, PAGE, READ_WRITE).is_ok(), "protect failed");
            pause(200);
            Ok(())
        })
    })
}

fn copy_reader() {
    work(|space| watch(space, |said, value| value < said));
}

/// Readers hold the object's page; then the driver's write makes a copy, and from then on they must see the copy.
pub fn copy_oracle() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        let object = MemoryObject::anonymous(PAGE).map_err(|_| "no object")?;
        map(&space, &of_object(OTHER, 1, &object, MapFlags::SHARED))?;
        map(&space, &of_object(BASE, 1, &object, MapFlags::PRIVATE))?;
        oracle(&space, copy_reader, |number| {
            let next = 2 * number;
            // The object shows the last value again once the copy is gone.
            demand!(write(&space, OTHER, next - 1), "a write failed");
            demand!(
                space.advise(BASE, PAGE, Advice::DontNeed).is_ok(),
                "DontNeed failed"
            );
            SAID.store(next - 1, Ordering::SeqCst);
            pause(number % 100);
            demand!(write(&space, BASE, next), "a write failed");
            SAID.store(next, Ordering::SeqCst);
            Ok(())
        })
    })
}

fn mutual_worker() {
    work(|space| {
        let page = BASE + cpu::index() as u64 * PAGE;
        if store(space, page, 1) && space.advise(page, PAGE, Advice::DontNeed).is_ok() {
            return;
        }
        STALE.fetch_add(1, Ordering::Relaxed);
    });
}

/// All CPUs run the space and all invalidate: each waits for answers of all others.
pub fn mutual() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        map(&space, &anonymous(BASE, 64))?;
        oracle(&space, mutual_worker, |_| {
            // The driver's own page; it does not run the space itself, so it must see zero after dropping.
            let page = BASE + 63 * PAGE;
            demand!(write(&space, page, 1), "a write failed");
            demand!(
                space.advise(page, PAGE, Advice::DontNeed).is_ok(),
                "DontNeed failed"
            );
            demand!(read(&space, page) == Some(0), "a dropped page has contents");
            Ok(())
        })
    })
}
