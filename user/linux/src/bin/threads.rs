//! Threads that work against each other on shared data, with a result that is known: mutex, condition variable, atomics,
//! channel, read-write lock, thread-local data, floating point.
//!
//! `threads [THREADS [ROUNDS]]`, 8 and 2000 by default. Status 0 if every result is right.

use std::cell::Cell;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, RwLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

thread_local! {
    static OWN: Cell<u64> = const { Cell::new(0) };
}

struct Check {
    failed: bool,
}

impl Check {
    fn equal<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: T, expected: T) {
        let good = found == expected;
        println!(
            "threads: {what}: {}",
            if good {
                "ok".to_string()
            } else {
                format!("FAILED: {found:?}, not {expected:?}")
            }
        );
        self.failed |= !good;
    }
}

fn run<T: Send + 'static>(count: u64, body: impl Fn(u64) -> T + Send + Sync + 'static) -> Vec<T> {
    let body = Arc::new(body);
    let threads: Vec<_> = (0..count)
        .map(|index| {
            let body = body.clone();
            thread::spawn(move || body(index))
        })
        .collect();
    threads
        .into_iter()
        .map(|thread| thread.join().expect("a thread panicked"))
        .collect()
}

/// A sum that goes wrong if the FPU registers of two threads are ever mixed up.
fn floating_sum(seed: u64, rounds: u64) -> f64 {
    let mut sums = [0.0_f64; 8];
    for round in 0..rounds * 50 {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum = *sum * 0.999 + (seed * 8 + lane as u64 + round % 7) as f64;
        }
    }
    sums.iter().sum()
}

/// Two threads take turns through a condition variable.
fn ping_pong(rounds: u64) -> u64 {
    let turn = Arc::new((Mutex::new(0_u64), Condvar::new()));
    run(2, move |side| {
        let (count, changed) = &*turn;
        for _ in 0..rounds {
            let mut count = changed
                .wait_while(count.lock().expect("lock"), |count| *count % 2 != side)
                .expect("wait");
            *count += 1;
            changed.notify_one();
        }
        *count.lock().expect("lock")
    })
    .into_iter()
    .max()
    .unwrap_or(0)
}

fn main() -> ExitCode {
    let mut numbers = std::env::args()
        .skip(1)
        .map(|word| word.parse().expect("a number"));
    let count: u64 = numbers.next().unwrap_or(8);
    let rounds: u64 = numbers.next().unwrap_or(2000);
    let mut check = Check { failed: false };
    let begin = Instant::now();

    let atomic = Arc::new(AtomicU64::new(0));
    let locked = Arc::new(Mutex::new(0_u64));
    let map = Arc::new(RwLock::new(std::collections::HashMap::new()));
    let start = Arc::new(Barrier::new(count as usize));
    let own = {
        let (atomic, locked, map) = (atomic.clone(), locked.clone(), map.clone());
        run(count, move |index| {
            start.wait();
            for round in 0..rounds {
                atomic.fetch_add(index + 1, Ordering::Relaxed);
                *locked.lock().expect("lock") += index + 1;
                OWN.set(OWN.get() + index);
                if round % 16 == 0 {
                    map.write().expect("lock").insert((index, round), index * round);
                } else if let Some(value) = map.read().expect("lock").get(&(index, round & !15)) {
                    assert_eq!(*value, index * (round & !15));
                }
                if round % 100 == 0 {
                    thread::yield_now();
                }
            }
            OWN.get()
        })
    };
    let expected = rounds * count * (count + 1) / 2;
    check.equal("atomic additions", atomic.load(Ordering::Relaxed), expected);
    check.equal("additions under a mutex", *locked.lock().expect("lock"), expected);
    check.equal(
        "thread-local sums",
        own,
        (0..count).map(|index| index * rounds).collect(),
    );
    check.equal(
        "map entries",
        map.read().expect("lock").len() as u64,
        count * rounds.div_ceil(16),
    );

    check.equal(
        "turns through a condition variable",
        ping_pong(rounds),
        2 * rounds,
    );

    let (sender, receiver) = mpsc::channel();
    let sum = thread::spawn(move || receiver.iter().sum::<u64>());
    run(count, move |index| {
        for round in 0..rounds {
            sender.send(index * round).expect("send");
        }
    });
    let expected = (0..rounds).sum::<u64>() * (0..count).sum::<u64>();
    check.equal("sum through a channel", sum.join().expect("join"), expected);

    let found = run(count, move |index| floating_sum(index, rounds).to_bits());
    let expected = (0..count)
        .map(|index| floating_sum(index, rounds).to_bits())
        .collect();
    check.equal("floating point", found, expected);

    let slept = run(4, |index| {
        let begin = Instant::now();
        thread::sleep(Duration::from_millis(10 * (index + 1)));
        begin.elapsed() >= Duration::from_millis(10 * (index + 1))
    });
    check.equal("sleeps", slept, vec![true; 4]);

    let pair = (Mutex::new(()), Condvar::new());
    let (_guard, result) = pair
        .1
        .wait_timeout(pair.0.lock().expect("lock"), Duration::from_millis(20))
        .expect("wait");
    check.equal("time-out of a wait", result.timed_out(), true);

    println!(
        "threads: {count} threads, {rounds} rounds, {} ms",
        begin.elapsed().as_millis()
    );
    ExitCode::from(u8::from(check.failed))
}
