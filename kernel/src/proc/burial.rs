//! Dropping objects that hold further objects, without recursion.
//!
//! A program can chain objects as it likes: a message that waits in a channel holds the server end of the next channel, a new process
//! holds it in its handle table, and so on. Dropped in the simplest way, the last handle of such a chain would take a
//! piece of the kernel stack for every link. So whatever holds handles gives them to [`bury`] when it goes.

use super::Entry;
use crate::arch::cpu;
use crate::sync::{Rank, SpinLock};
use alloc::vec::Vec;

struct Burial {
    /// Someone on this CPU is at it, and takes what is in the list.
    busy: bool,
    waiting: Vec<Entry>,
}

static BURIALS: [SpinLock<Burial>; cpu::MAX_CPUS] = [const {
    SpinLock::new(
        Rank::Handles,
        Burial {
            busy: false,
            waiting: Vec::new(),
        },
    )
}; cpu::MAX_CPUS];

/// Drops entries and all that hangs on them. In the middle of another burial on this CPU it leaves them to that one, which is
/// further up on the same stack or was interrupted.
///
/// The caller holds no lock. The end of an object neither waits nor gives way, so the CPU stays the same.
pub fn bury(entries: impl IntoIterator<Item = Entry>) {
    let burial = &BURIALS[super::current_cpu() as usize];
    if core::mem::replace(&mut burial.lock().busy, true) {
        for entry in entries {
            burial.lock().waiting.push(entry);
        }
        return;
    }
    for entry in entries {
        drop(entry);
        drop_waiting(burial);
    }
    loop {
        drop_waiting(burial);
        let mut burial = burial.lock();
        if burial.waiting.is_empty() {
            burial.busy = false;
            return;
        }
    }
}

fn drop_waiting(burial: &SpinLock<Burial>) {
    loop {
        let next = burial.lock().waiting.pop();
        let Some(entry) = next else { return };
        drop(entry);
    }
}
