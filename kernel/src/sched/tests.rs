//! In-kernel tests of the scheduler, on all CPUs that are there.

use super::{WaitQueue, current, online_mask, park, spawn_kernel_thread, unpark, yield_now};
use crate::arch::{clock, cpu};
use crate::sched::Schedulable;
use crate::sync::{Rank, SpinLock};
use crate::test::Test;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use dragonet_abi::time::FOREVER;

/// See [`crate::test`].
pub const TESTS: &[Test] = &[
    Test {
        name: "sched::a_thread_runs_on_every_cpu_it_is_bound_to",
        run: runs_on_every_cpu,
    },
    Test {
        name: "sched::a_token_left_before_the_park_is_not_lost",
        run: early_token,
    },
    Test {
        name: "sched::park_returns_at_its_deadline",
        run: deadline,
    },
    Test {
        name: "sched::two_threads_wake_each_other_without_loss",
        run: ping_pong,
    },
    Test {
        name: "sched::equal_threads_on_one_cpu_all_make_progress",
        run: fairness,
    },
    Test {
        name: "sched::a_wait_queue_wakes_every_waiter",
        run: wait_queue,
    },
    Test {
        name: "sched::an_idle_cpu_takes_work_past_bound_threads_of_another_cpu",
        run: steal_past_bound_threads,
    },
];

/// Holds its CPU, which is what it is bound to, until told to stop.
fn hold_cpu() {
    HOLDERS.fetch_add(1, Ordering::SeqCst);
    while RELEASED.load(Ordering::SeqCst) >> cpu::index() & 1 == 0 {
        core::hint::spin_loop();
    }
    HOLDERS.fetch_sub(1, Ordering::SeqCst);
}

static HOLDERS: AtomicUsize = AtomicUsize::new(0);
/// CPUs whose holders may stop, a bit each.
static RELEASED: AtomicU64 = AtomicU64::new(0);
static MOVED: AtomicU64 = AtomicU64::new(0);

/// CPU 1 has the longest queue, all of it bound to it; CPU 2 has one thread that CPU 3 may run.
fn steal_past_bound_threads() -> Result<(), &'static str> {
    if cpu::count() < 4 {
        return Ok(());
    }
    RELEASED.store(0, Ordering::SeqCst);
    MOVED.store(0, Ordering::SeqCst);
    let spawn =
        |body, affinity| spawn_kernel_thread(body, 16, affinity).map_err(|_| "no memory for a thread");
    for index in 1..4 {
        spawn(hold_cpu, 1 << index)?;
    }
    let held = eventually(|| HOLDERS.load(Ordering::SeqCst) == 3);
    spawn(nothing, 1 << 1)?;
    spawn(nothing, 1 << 1)?;
    spawn(note_moved, 1 << 2 | 1 << 3)?;
    RELEASED.store(1 << 3, Ordering::SeqCst);
    let moved = held && eventually(|| MOVED.load(Ordering::SeqCst) == 1);
    RELEASED.store(u64::MAX, Ordering::SeqCst);
    if !eventually(|| HOLDERS.load(Ordering::SeqCst) == 0) || !held {
        return Err("a bound thread did not run");
    }
    if moved {
        Ok(())
    } else {
        Err("an idle CPU left a thread waiting behind bound ones of another CPU")
    }
}

fn nothing() {}

fn note_moved() {
    MOVED.store(1, Ordering::SeqCst);
}

const SECOND: u64 = 1_000_000_000;

/// Waits, giving way, until `done` or a generous time has passed.
fn eventually(done: impl Fn() -> bool) -> bool {
    let end = clock::now() + 20 * SECOND;
    while !done() {
        if clock::now() > end {
            return false;
        }
        park(clock::now() + 1_000_000);
    }
    true
}

static SEEN: AtomicU64 = AtomicU64::new(0);

fn runs_on_every_cpu() -> Result<(), &'static str> {
    SEEN.store(0, Ordering::SeqCst);
    for index in 0..cpu::count() {
        spawn_kernel_thread(note_cpu, 16, 1 << index).map_err(|_| "no memory for a thread")?;
    }
    if eventually(|| SEEN.load(Ordering::SeqCst) == online_mask()) {
        Ok(())
    } else {
        Err("a CPU never ran its thread")
    }
}

fn note_cpu() {
    SEEN.fetch_or(1 << cpu::index(), Ordering::SeqCst);
}

fn early_token() -> Result<(), &'static str> {
    let me = current();
    unpark(&me);
    let before = clock::now();
    park(before + 5 * SECOND);
    if clock::now() - before < SECOND {
        Ok(())
    } else {
        Err("the park slept although the token was there")
    }
}

fn deadline() -> Result<(), &'static str> {
    let target = clock::now() + 3_000_000;
    while clock::now() < target {
        park(target);
    }
    if clock::now() < target + 10 * SECOND {
        Ok(())
    } else {
        Err("the park slept far beyond its deadline")
    }
}

static ROUNDS: AtomicU64 = AtomicU64::new(0);
static PARTNER: SpinLock<Option<Arc<dyn Schedulable>>> = SpinLock::new(Rank::Channel, None);
const PING_PONGS: u64 = 2000;

fn ping_pong() -> Result<(), &'static str> {
    ROUNDS.store(0, Ordering::SeqCst);
    let me = current();
    *PARTNER.lock() = Some(me.clone());
    spawn_kernel_thread(pong, 16, u64::MAX).map_err(|_| "no memory for a thread")?;
    let end = clock::now() + 60 * SECOND;
    // A round begun before the partner has taken our place would wake ourselves instead of it.
    while PARTNER
        .lock()
        .as_ref()
        .is_some_and(|partner| Arc::ptr_eq(partner, &me))
    {
        park(end);
        if clock::now() > end {
            return Err("the partner never began");
        }
    }
    while ROUNDS.load(Ordering::SeqCst) < PING_PONGS {
        if clock::now() > end {
            return Err("a wake-up was lost");
        }
        // Even rounds are ours.
        if ROUNDS.load(Ordering::SeqCst).is_multiple_of(2) {
            let partner = PARTNER.lock().clone();
            ROUNDS.fetch_add(1, Ordering::SeqCst);
            if let Some(partner) = partner {
                unpark(&partner);
            }
        }
        park(end);
    }
    let partner = PARTNER.lock().take();
    drop(partner);
    Ok(())
}

fn pong() {
    let me = current();
    let partner = PARTNER.lock().replace(me);
    let Some(partner) = partner else { return };
    unpark(&partner);
    while ROUNDS.load(Ordering::SeqCst) < PING_PONGS {
        if ROUNDS.load(Ordering::SeqCst) % 2 == 1 {
            ROUNDS.fetch_add(1, Ordering::SeqCst);
            unpark(&partner);
        } else {
            park(FOREVER);
        }
    }
    unpark(&partner);
}

static PROGRESS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
static NEXT_WORKER: AtomicUsize = AtomicUsize::new(0);
const WORK: u64 = 500;

fn fairness() -> Result<(), &'static str> {
    NEXT_WORKER.store(0, Ordering::SeqCst);
    for progress in &PROGRESS {
        progress.store(0, Ordering::SeqCst);
        spawn_kernel_thread(work, 10, 1).map_err(|_| "no memory for a thread")?;
    }
    let all_done = || {
        PROGRESS
            .iter()
            .all(|progress| progress.load(Ordering::SeqCst) == WORK)
    };
    if eventually(all_done) {
        Ok(())
    } else {
        Err("one of four equal threads was starved")
    }
}

fn work() {
    let mine = NEXT_WORKER.fetch_add(1, Ordering::SeqCst) % PROGRESS.len();
    for _ in 0..WORK {
        PROGRESS[mine].fetch_add(1, Ordering::SeqCst);
        yield_now();
    }
}

static OPEN: AtomicU64 = AtomicU64::new(0);
static THROUGH: AtomicU64 = AtomicU64::new(0);
static GATE: WaitQueue = WaitQueue::new();

fn wait_queue() -> Result<(), &'static str> {
    OPEN.store(0, Ordering::SeqCst);
    THROUGH.store(0, Ordering::SeqCst);
    let waiters: Vec<usize> = (0..8).collect();
    for _ in &waiters {
        spawn_kernel_thread(wait_at_gate, 16, u64::MAX).map_err(|_| "no memory for a thread")?;
    }
    park(clock::now() + 5_000_000);
    if THROUGH.load(Ordering::SeqCst) != 0 {
        return Err("a waiter came through a closed gate");
    }
    OPEN.store(1, Ordering::SeqCst);
    GATE.wake_all();
    if eventually(|| THROUGH.load(Ordering::SeqCst) == 8) {
        Ok(())
    } else {
        Err("a waiter was not woken")
    }
}

fn wait_at_gate() {
    let outcome = GATE.wait(
        FOREVER,
        || Ok(()),
        || (OPEN.load(Ordering::SeqCst) == 1).then_some(()),
    );
    if outcome.is_ok() {
        THROUGH.fetch_add(1, Ordering::SeqCst);
    }
}
