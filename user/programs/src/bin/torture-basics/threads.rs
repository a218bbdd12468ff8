//! Threads that begin and end in a hurry.

use crate::{Problem, doing};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::SyscallNumber;
use dragonet_abi::layout::STACK_GUARD;
use dragonet_abi::system::ABI_VERSION;
use dragonet_programs::random::Random;
use dragonet_rt::memory::Mapping;
use dragonet_rt::{syscall, thread};

const BURSTS: usize = 8;
const THREADS: u64 = 24;

/// Bytes of a large stack, of which a thread uses most.
const STACK: u64 = 1 << 20;

pub fn run(random: &mut Random) -> Result<(), Problem> {
    bursts(random)?;
    deep_stacks()?;
    kernel_writes()
}

/// The kernel writes to a stack where nobody has been yet, down to its last page (b443039b5d: a copyout to it failed).
#[allow(unsafe_code)]
fn kernel_writes() -> Result<(), Problem> {
    for offset in [STACK - 2048, STACK / 2, STACK_GUARD] {
        let stack = Mapping::stack(STACK).map_err(doing("mapping a stack"))?;
        // SAFETY: the kernel writes a record into memory that is ours, and from which nothing is borrowed.
        unsafe { syscall::call(SyscallNumber::SystemInfo, [stack.address() + offset]) }
            .map_err(doing("letting the kernel write to a new stack"))?;
        let mut version = [0; 4];
        stack
            .read(offset, &mut version)
            .map_err(doing("reading a stack"))?;
        if version != ABI_VERSION.to_le_bytes() {
            return Err(Problem::Wrong(
                "what the kernel wrote to a new stack is lost".into(),
            ));
        }
    }
    Ok(())
}

/// Threads that reach far down their stacks, which grow for them.
fn deep_stacks() -> Result<(), Problem> {
    let threads: Vec<_> = (1..5)
        .map(|number| {
            thread::Builder::new().stack_size(STACK).spawn(move || {
                let top = core::ptr::from_ref(&number).addr() as u64;
                descend(number, top - STACK / 4 * 3)
            })
        })
        .collect();
    for thread in threads {
        let intact = thread.map_err(doing("starting a thread"))?.join();
        if intact != Some(true) {
            return Err(Problem::Wrong("a thread lost what was on its stack".into()));
        }
    }
    Ok(())
}

/// Puts `number` on the stack again and again, down to the address `until`. True if it is still there on the way back.
fn descend(number: u64, until: u64) -> bool {
    let frame = core::hint::black_box([number; 64]);
    let here = core::ptr::from_ref(&frame).addr() as u64;
    let below = here < until || descend(number, until);
    below && core::hint::black_box(frame).iter().all(|&word| word == number)
}

/// Starts bursts of threads, some of which start another one, and adds up what they bring back.
fn bursts(random: &mut Random) -> Result<(), Problem> {
    for _ in 0..BURSTS {
        let counter = Arc::new(AtomicU64::new(0));
        let mut threads = Vec::new();
        let mut expected = 0;
        for number in 1..=THREADS {
            let nested = random.below(4) == 0;
            let yields = random.below(8);
            expected += number;
            let shared = Arc::clone(&counter);
            let work = move || {
                for _ in 0..yields {
                    thread::yield_now();
                }
                shared.fetch_add(number, Ordering::Relaxed);
                number
            };
            let spawned = if nested {
                thread::spawn(move || {
                    thread::spawn(work)
                        .ok()
                        .and_then(thread::JoinHandle::join)
                        .unwrap_or(0)
                })
            } else {
                thread::spawn(work)
            };
            threads.push(spawned.map_err(doing("starting a thread"))?);
        }
        let results: u64 = threads.into_iter().filter_map(thread::JoinHandle::join).sum();
        let counted = counter.load(Ordering::Relaxed);
        if (results, counted) != (expected, expected) {
            let problem =
                alloc::format!("threads brought {results} and counted {counted}, should be {expected}");
            return Err(Problem::Wrong(problem));
        }
    }
    Ok(())
}
