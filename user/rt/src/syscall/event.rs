//! Waiting and waking: user words, clocks, timers, virtual interrupts.

use super::raw::call;
use core::sync::atomic::AtomicU32;
use dragonet_abi::time::Clock;
use dragonet_abi::virtual_interrupt::InterruptFrame;
use dragonet_abi::{Errno, Handle, SyscallNumber};

/// Sleeps while the word has the value `expected`, until woken. `timeout` in nanoseconds from now.
///
/// # Errors
/// `EBUSY` if the word differs, `ETIMEDOUT`, `EINTR`.
pub fn umtx_sleep(word: &AtomicU32, expected: u32, timeout: u64) -> Result<(), Errno> {
    let arguments = [word.as_ptr() as u64, u64::from(expected), timeout];
    // SAFETY: the kernel only reads the word.
    unsafe { call(SyscallNumber::UmtxSleep, arguments) }.map(drop)
}

/// Wakes up to `count` threads that sleep on the word (0 = all) and returns how many.
///
/// # Errors
/// None for a word of this program.
pub fn umtx_wakeup(word: &AtomicU32, count: u32) -> Result<u32, Errno> {
    // SAFETY: the kernel uses only the word's address.
    unsafe {
        call(
            SyscallNumber::UmtxWakeup,
            [word.as_ptr() as u64, u64::from(count)],
        )
    }
    .map(|woken| woken as u32)
}

/// Reads a clock, in nanoseconds.
///
/// # Errors
/// `ENODEV` if the machine has no such clock.
pub fn clock_get(clock: Clock) -> Result<u64, Errno> {
    // SAFETY: the call touches no memory.
    unsafe { call(SyscallNumber::ClockGet, [clock as u64]) }
}

/// Sleeps until the monotonic clock reaches `deadline`.
///
/// # Errors
/// `EINTR`.
pub fn sleep_until(deadline: u64) -> Result<(), Errno> {
    // SAFETY: the call touches no memory.
    unsafe { call(SyscallNumber::SleepUntil, [deadline]) }.map(drop)
}

/// Posts virtual interrupts to a thread.
///
/// # Errors
/// `EBADF`, `EPERM` (POST), `ESRCH` if the thread has ended.
pub fn virq_post(thread: Handle, bits: u64) -> Result<(), Errno> {
    // SAFETY: the call touches no memory; a handler was installed under `virq_control`'s rules.
    unsafe { call(SyscallNumber::VirqPost, [u64::from(thread.0), bits]) }.map(drop)
}

/// Takes pending bits of the mask: returns them, and they are no longer pending.
///
/// # Errors
/// None that the kernel documents.
pub fn virq_take(mask: u64) -> Result<u64, Errno> {
    // SAFETY: the call touches no memory.
    unsafe { call(SyscallNumber::VirqTake, [mask]) }
}

/// Waits for a bit of the mask, enabled or not, and takes what is pending. `timeout` in nanoseconds from now.
///
/// # Errors
/// `ETIMEDOUT`.
pub fn virq_wait(mask: u64, timeout: u64) -> Result<u64, Errno> {
    // SAFETY: the call touches no memory.
    unsafe { call(SyscallNumber::VirqWait, [mask, timeout]) }
}

/// Sets the thread's handler (0 = none) and its mask of enabled bits; returns the old mask.
///
/// # Errors
/// `EINVAL` for a handler outside user space.
///
/// # Safety
/// 1. A handler other than 0 is code that takes an [`InterruptFrame`] in `rdi` and ends with [`virq_return`].
/// 2. The handler may run between any two instructions of this thread while a bit is enabled: it must not touch data
///    that the interrupted code may be changing.
pub unsafe fn virq_control(handler: u64, enabled: u64) -> Result<u64, Errno> {
    // SAFETY: the caller's promise.
    unsafe { call(SyscallNumber::VirqControl, [handler, enabled]) }
}

/// Ends a handler: goes back to the interrupted code. Returns only when the frame is bad.
///
/// # Errors
/// `EFAULT`, `EINVAL`.
///
/// # Safety
/// 1. `frame` is the one that the kernel passed to the running handler, or one that describes code which may go on.
pub unsafe fn virq_return(frame: *const InterruptFrame) -> Errno {
    // SAFETY: the caller's promise.
    match unsafe { call(SyscallNumber::VirqReturn, [frame as u64]) } {
        Ok(_) => Errno::EINVAL,
        Err(errno) => errno,
    }
}

/// Arms the thread's own timer: posts `bit` at the monotonic `deadline` and every `period` nanoseconds after it (0 =
/// once). `deadline` FOREVER disarms.
///
/// # Errors
/// `EINVAL` for a bit above 63 or a period under 100 microseconds.
pub fn timer_set(deadline: u64, period: u64, bit: u32) -> Result<(), Errno> {
    // SAFETY: the call touches no memory; a handler was installed under `virq_control`'s rules.
    unsafe { call(SyscallNumber::TimerSet, [deadline, period, u64::from(bit)]) }.map(drop)
}
