//! Clocks and sleep.

use crate::clock;
use crate::linux::Errno;
use crate::linux::flags::{
    CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME,
    CLOCK_REALTIME_COARSE, TIMER_ABSTIME,
};
use crate::linux::structures::{TimeSpec, TimeValue};
use crate::process::Task;

/// Nanoseconds of a clock. CPU-time clocks are not served: the host counts per virtual CPU, not per guest thread.
fn now(clock: u32) -> Result<u64, Errno> {
    match clock {
        CLOCK_REALTIME | CLOCK_REALTIME_COARSE => Ok(clock::realtime()),
        CLOCK_MONOTONIC | CLOCK_MONOTONIC_RAW | CLOCK_MONOTONIC_COARSE | CLOCK_BOOTTIME => {
            Ok(clock::monotonic())
        }
        _ => Err(Errno::EINVAL),
    }
}

/// The monotonic time at which `clock` will show `time`.
pub(super) fn deadline_of(clock: u32, time: u64) -> Result<u64, Errno> {
    let current = now(clock)?;
    Ok(clock::monotonic().saturating_add(time.saturating_sub(current)))
}

impl Task {
    /// A time from the program in nanoseconds.
    pub(super) fn read_time(&self, address: u64) -> Result<u64, Errno> {
        self.space
            .read::<TimeSpec>(address)?
            .nanoseconds()
            .ok_or(Errno::EINVAL)
    }

    pub(super) fn sys_clock_gettime(&mut self, clock: u32, address: u64) -> Result<u64, Errno> {
        let time = TimeSpec::from_nanoseconds(now(clock)?);
        self.space.write(address, &time).map(|()| 0)
    }

    pub(super) fn sys_clock_getres(&mut self, clock: u32, address: u64) -> Result<u64, Errno> {
        now(clock)?;
        if address != 0 {
            self.space.write(address, &TimeSpec::from_nanoseconds(1))?;
        }
        Ok(0)
    }

    pub(super) async fn sys_clock_nanosleep(
        &mut self,
        clock: u32,
        flags: u32,
        request: u64,
        remaining: u64,
    ) -> Result<u64, Errno> {
        now(clock)?;
        let time = self.read_time(request)?;
        let absolute = flags & TIMER_ABSTIME != 0;
        let deadline = if absolute {
            deadline_of(clock, time)?
        } else {
            clock::monotonic().saturating_add(time)
        };
        let woken: Result<(), Errno> = self.wait_registered(deadline, || None).await;
        match woken {
            Err(Errno::ETIMEDOUT) => Ok(0),
            Err(_) if absolute => Err(Errno::ERESTARTSYS),
            _ => {
                if remaining != 0 {
                    let left = deadline.saturating_sub(clock::monotonic());
                    self.space.write(remaining, &TimeSpec::from_nanoseconds(left))?;
                }
                Err(Errno::EINTR)
            }
        }
    }

    pub(super) fn sys_gettimeofday(&mut self, address: u64, zone: u64) -> Result<u64, Errno> {
        if address != 0 {
            let time = TimeSpec::from_nanoseconds(clock::realtime());
            let value = TimeValue {
                seconds: time.seconds,
                microseconds: time.nanoseconds / 1000,
            };
            self.space.write(address, &value)?;
        }
        if zone != 0 {
            self.space.write(zone, &[0_u32; 2])?;
        }
        Ok(0)
    }

    pub(super) fn sys_time(&mut self, address: u64) -> Result<u64, Errno> {
        let seconds = clock::realtime() / 1_000_000_000;
        if address != 0 {
            self.space.write(address, &seconds)?;
        }
        Ok(seconds)
    }
}
