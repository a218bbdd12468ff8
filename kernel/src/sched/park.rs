//! Parking: how a thread waits. Everything that blocks is built on these two functions.
//!
//! Each thread has one token. [`unpark`] leaves it, [`park`] consumes it or sleeps until it comes. A token left before the
//! park makes the park return at once, so "check the condition, then park" loses no wake-up as long as the waker
//! makes the condition true first. Parks may return for no reason: callers check their condition in a loop.

use super::current::current;
use super::switch::{After, switch_away};
use super::task::{Schedulable, State, Task};
use super::{cpu, timer};
use crate::arch::irq::IrqGuard;
use crate::{pmap, sync};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use dragonet_abi::time::FOREVER;

const RUNNING: u8 = 0;
const NOTIFIED: u8 = 1;
const PARKED: u8 = 2;

/// Sleeps until the token comes or the clock reaches `deadline` ([`FOREVER`]: never).
pub fn park(deadline: u64) {
    let me = current();
    let token = &me.task().token;
    let guard = IrqGuard::new();
    if token
        .compare_exchange(RUNNING, PARKED, Ordering::SeqCst, Ordering::SeqCst)
        .is_ok()
    {
        let timer = (deadline != FOREVER).then(|| timer::start_timer(deadline, me.clone(), Task::TIMER_PARK));
        me.task().set_state(State::Waiting);
        switch_away(guard.witness(), After::Park);
        if let Some(key) = timer {
            timer::stop_timer(key);
        }
    }
    // A swap, not a store: what was done before an unpark that it overwrites is seen after it.
    token.swap(RUNNING, Ordering::SeqCst);
}

/// Leaves the token: the thread's current or next [`park`] returns. The caller holds no lock: the CPU that is just leaving the
/// thread's stack may need it to get on.
pub fn unpark(thread: &Arc<dyn Schedulable>) {
    let task = thread.task();
    let guard = IrqGuard::new();
    sync::assert_none_held("waking a thread");
    if task.token.swap(NOTIFIED, Ordering::SeqCst) == PARKED {
        // It may be between setting the token and leaving its stack on another CPU; it cannot be on this one, where interrupts
        // were off from there on. That CPU waits for nobody but, for memory or a lock, for answers to its invalidations.
        while !task.context.is_switched_out() {
            pmap::serve(guard.witness());
            core::hint::spin_loop();
        }
        cpu::make_ready(thread.clone());
    }
}
