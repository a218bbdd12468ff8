//! Clocks and sleeping.

#![forbid(unsafe_code)]

use crate::syscall;
use core::time::Duration;
use dragonet_abi::time::{Clock, FOREVER};

/// Time since boot.
#[must_use]
pub fn now() -> Duration {
    Duration::from_nanos(now_nanoseconds())
}

/// Nanoseconds since boot.
#[must_use]
pub fn now_nanoseconds() -> u64 {
    syscall::clock_get(Clock::Monotonic).unwrap_or(0)
}

/// Sleeps for at least `duration`, virtual interrupts or not.
pub fn sleep(duration: Duration) {
    let deadline = now_nanoseconds().saturating_add(nanoseconds(duration));
    while now_nanoseconds() < deadline {
        let _ = syscall::sleep_until(deadline);
    }
}

/// A duration as a time-out for system calls; too long a one never passes.
#[must_use]
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(FOREVER)
}
