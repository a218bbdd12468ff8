//! Time as programs see it: the host's clocks.

use crate::host;
use dragonet_abi::time::Clock;

/// Nanoseconds of a clock that never goes back.
pub fn monotonic() -> u64 {
    host::clock(Clock::Monotonic)
}

/// Nanoseconds since 1970.
pub fn realtime() -> u64 {
    host::clock(Clock::Realtime)
}
