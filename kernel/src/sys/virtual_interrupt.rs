//! System calls on virtual interrupts and the thread's own timer.

use super::{Call, Outcome, deadline_after};
use crate::arch::clock;
use crate::proc::check_handler;
use crate::sched;
use dragonet_abi::time::FOREVER;
use dragonet_abi::{Errno, Rights};

/// Shortest period of a thread's timer, in nanoseconds.
const MIN_PERIOD: u64 = 100_000;

/// `virq_post(thread, bits)`.
pub fn post(call: &Call) -> Result<u64, Errno> {
    call.thread_object(0, Rights::POST)?.post(call.argument(1));
    Ok(0)
}

/// `virq_take(mask)`.
pub fn take(call: &Call) -> u64 {
    call.thread.virtual_interrupts().take(call.argument(0))
}

/// `virq_wait(mask, timeout)`.
pub fn wait(call: &Call) -> Result<u64, Errno> {
    let mask = call.argument(0);
    if mask == 0 {
        return Err(Errno::EINVAL);
    }
    let deadline = deadline_after(call.argument(1));
    let interrupts = call.thread.virtual_interrupts();
    interrupts.set_awaited(mask);
    let outcome = loop {
        let bits = interrupts.take(mask);
        if bits != 0 {
            break Ok(bits);
        }
        if let Err(errno) = call.thread.interrupted() {
            break Err(errno);
        }
        if clock::now() >= deadline {
            break Err(Errno::ETIMEDOUT);
        }
        sched::park(deadline);
    };
    interrupts.set_awaited(0);
    outcome
}

/// `virq_control(handler, enabled_mask)`.
pub fn control(call: &Call) -> Result<u64, Errno> {
    check_handler(call.argument(0))?;
    let old = call
        .thread
        .virtual_interrupts()
        .control(call.argument(0), call.argument(1));
    sched::reschedule_request(call.thread);
    Ok(old)
}

/// `virq_return(frame)`.
pub fn return_from(call: &mut Call) -> Result<Outcome, Errno> {
    let address = call.argument(0);
    call.thread.return_from_virtual_interrupt(call.frame, address)?;
    Ok(Outcome::FrameReplaced)
}

/// `timer_set(deadline, period, bit)`.
pub fn timer_set(call: &Call) -> Result<u64, Errno> {
    let (deadline, period, bit) = (call.argument(0), call.argument(1), call.argument(2));
    let bit = u8::try_from(bit)
        .ok()
        .filter(|&bit| bit < 64)
        .ok_or(Errno::EINVAL)?;
    if period != 0 && (period < MIN_PERIOD || period == FOREVER) {
        return Err(Errno::EINVAL);
    }
    call.thread.arc().set_timer(deadline, period, bit);
    Ok(0)
}
