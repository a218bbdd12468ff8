//! Waits on words: a ball that is passed between two threads, and a lock that many want.

use crate::{Problem, doing};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use dragonet_abi::time::FOREVER;
use dragonet_programs::random::Random;
use dragonet_rt::sync::{Condvar, Mutex};
use dragonet_rt::{syscall, thread};

const PASSES: u32 = 2000;
const WORKERS: u32 = 6;
const STEPS: u32 = 300;

pub fn run(random: &mut Random) -> Result<(), Problem> {
    ping_pong()?;
    contended_lock(random)?;
    barrier()
}

/// Each player waits for the word to be its own number, modulo 2, and passes it on.
fn ping_pong() -> Result<(), Problem> {
    fn play(ball: &AtomicU32, mine: u32) {
        loop {
            let seen = ball.load(Ordering::Acquire);
            if seen >= PASSES {
                return;
            }
            if seen % 2 == mine {
                ball.store(seen + 1, Ordering::Release);
                let _ = syscall::umtx_wakeup(ball, 0);
            } else {
                // Any outcome leads to another look at the word.
                let _ = syscall::umtx_sleep(ball, seen, FOREVER);
            }
        }
    }
    let ball = Arc::new(AtomicU32::new(0));
    let other = Arc::clone(&ball);
    let player = thread::spawn(move || play(&other, 1)).map_err(doing("starting a player"))?;
    play(&ball, 0);
    let _ = player.join();
    match ball.load(Ordering::Relaxed) {
        PASSES => Ok(()),
        other => Err(Problem::Wrong(alloc::format!(
            "the ball was passed {other} times, not {PASSES}"
        ))),
    }
}

/// Many threads add to a number that only the lock protects.
fn contended_lock(random: &mut Random) -> Result<(), Problem> {
    let total = Arc::new(Mutex::new(0_u32));
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        let total = Arc::clone(&total);
        let pause = random.below(3);
        let work = move || {
            for _ in 0..STEPS {
                let mut total = total.lock();
                let seen = *total;
                for _ in 0..pause {
                    thread::yield_now();
                }
                *total = seen + 1;
            }
        };
        workers.push(thread::spawn(work).map_err(doing("starting a worker"))?);
    }
    for worker in workers {
        let _ = worker.join();
    }
    let total = *total.lock();
    if total == WORKERS * STEPS {
        Ok(())
    } else {
        Err(Problem::Wrong(alloc::format!(
            "the lock let {} additions get lost",
            WORKERS * STEPS - total
        )))
    }
}

/// Threads wait for each other, again and again.
fn barrier() -> Result<(), Problem> {
    struct Barrier {
        state: Mutex<(u32, u32)>,
        changed: Condvar,
    }
    impl Barrier {
        fn wait(&self) {
            let mut state = self.state.lock();
            let generation = state.1;
            state.0 += 1;
            if state.0 == WORKERS {
                *state = (0, generation + 1);
                self.changed.notify_all();
            }
            while state.1 == generation {
                state = self.changed.wait(state);
            }
        }
    }
    let barrier = Arc::new(Barrier {
        state: Mutex::new((0, 0)),
        changed: Condvar::new(),
    });
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        let barrier = Arc::clone(&barrier);
        let work = move || (0..50).for_each(|_| barrier.wait());
        workers.push(thread::spawn(work).map_err(doing("starting a waiter"))?);
    }
    for worker in workers {
        let _ = worker.join();
    }
    let generation = barrier.state.lock().1;
    if generation == 50 {
        Ok(())
    } else {
        Err(Problem::Wrong(alloc::format!(
            "the barrier opened {generation} times, not 50"
        )))
    }
}
