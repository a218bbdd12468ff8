//! The end of threads: one reaper per CPU takes over what must not be freed on the thread's own stack or with interrupts off.

use super::Thread;
use crate::arch::cpu;
use crate::sched::{self, Schedulable};
use crate::sync::{Rank, SpinLock};
use alloc::sync::Arc;
use alloc::vec::Vec;
use dragonet_abi::Errno;
use dragonet_abi::process::PRIORITIES;
use dragonet_abi::time::FOREVER;

struct Reaper {
    dead: SpinLock<Vec<Arc<Thread>>>,
    thread: spin::Once<Arc<dyn Schedulable>>,
}

static REAPERS: [Reaper; cpu::MAX_CPUS] = [const {
    Reaper {
        dead: SpinLock::new(Rank::Thread, Vec::new()),
        thread: spin::Once::new(),
    }
}; cpu::MAX_CPUS];

/// The highest, so that busy programs cannot keep the dead from being buried.
const PRIORITY: u8 = PRIORITIES as u8 - 1;

/// Starts the reaper of the CPU that runs this code.
///
/// # Errors
/// ENOMEM.
pub fn start_reaper() -> Result<(), Errno> {
    sched::spawn_kernel_thread(reap, PRIORITY, 1 << super::guest::current_cpu())
}

/// Gives a thread that will never run again to this CPU's reaper. Interrupts are off.
pub(super) fn hand_over(thread: Arc<Thread>) {
    let reaper = &REAPERS[cpu::index()];
    reaper.dead.lock().push(thread);
    if let Some(thread) = reaper.thread.get() {
        sched::unpark(thread);
    }
}

fn reap() {
    let reaper = &REAPERS[super::guest::current_cpu() as usize];
    reaper.thread.call_once(sched::current);
    loop {
        let next = reaper.dead.lock().pop();
        match next {
            Some(thread) => thread.finish(),
            None => sched::park(FOREVER),
        }
    }
}
