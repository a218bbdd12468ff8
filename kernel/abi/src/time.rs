//! Clocks. Times are nanoseconds; the monotonic clock starts near 0 at boot and never goes back.

/// A time-out that never passes.
pub const FOREVER: u64 = u64::MAX;

/// Clocks of `clock_get`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Clock {
    /// Nanoseconds since boot.
    Monotonic = 1,
    /// Nanoseconds since 1970-01-01 00:00:00 UTC, as the firmware's clock had it at boot.
    Realtime = 2,
    /// CPU time of the calling thread.
    ThreadCpu = 3,
}

impl Clock {
    /// The clock with this number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::Monotonic),
            2 => Some(Self::Realtime),
            3 => Some(Self::ThreadCpu),
            _ => None,
        }
    }
}
