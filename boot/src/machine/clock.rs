//! Waiting, by ACPI's power-management timer, and the date, from the battery-backed clock.

use dragonet_boot::acpi::{FixedDescription, PowerTimer};
use dragonet_boot::date::ClockRegisters;
use x86_64::instructions::port::Port;

/// Frequency of the power-management timer, in counts a millisecond.
const COUNTS_PER_MILLISECOND: u64 = 3580;

/// Only the low 24 bits of the timer exist on every machine.
const COUNTER: u32 = 0xff_ffff;

/// A way to tell how much time has passed.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    timer: Option<PowerTimer>,
    century_register: Option<u8>,
}

impl Clock {
    /// Uses what the FADT describes.
    pub fn new(fixed: &FixedDescription) -> Self {
        let reachable = |timer: &PowerTimer| match *timer {
            PowerTimer::Port(_) => true,
            PowerTimer::Memory(address) => address < dragonet_boot::REACHABLE_END,
        };
        Clock {
            timer: fixed.power_timer.filter(reachable),
            century_register: fixed.century_register,
        }
    }

    /// Waits until `done` says so, for `microseconds` at most. Returns whether it did.
    pub fn wait(&self, microseconds: u64, mut done: impl FnMut() -> bool) -> bool {
        let wanted = microseconds * COUNTS_PER_MILLISECOND / 1000 + 1;
        let mut last = self.read();
        let mut passed = 0;
        loop {
            if done() {
                return true;
            }
            if passed >= wanted {
                return false;
            }
            let now = self.read();
            passed += u64::from(now.wrapping_sub(last) & COUNTER);
            last = now;
            if self.timer.is_none() {
                passed += COUNTS_PER_MILLISECOND / 1000;
            }
            core::hint::spin_loop();
        }
    }

    /// The timer's count. Without a timer, spends about a microsecond on a write to an unused port and returns 0.
    fn read(&self) -> u32 {
        match self.timer {
            // SAFETY: the FADT names this port as the timer; reading it changes nothing.
            Some(PowerTimer::Port(port)) => unsafe { Port::<u32>::new(port).read() },
            // SAFETY: the FADT names this register, which is in the mapped first 4 GiB.
            Some(PowerTimer::Memory(address)) => unsafe { (address as *const u32).read_volatile() },
            None => {
                // SAFETY: port 0x80 shows diagnostic codes and does nothing else.
                unsafe { Port::<u8>::new(0x80).write(0) };
                0
            }
        }
    }

    /// The time of day as Unix time.
    pub fn unix_time(&self) -> i64 {
        let mut before = self.read_clock();
        // A reading in the middle of an update differs from the next one; a defect clock must not hang the boot.
        for _ in 0..10 {
            let again = self.read_clock();
            if again == before {
                break;
            }
            before = again;
        }
        before.unix_time()
    }

    fn read_clock(&self) -> ClockRegisters {
        self.wait(10_000, || clock_register(0x0a) & 0x80 == 0);
        ClockRegisters {
            second: clock_register(0),
            minute: clock_register(2),
            hour: clock_register(4),
            day: clock_register(7),
            month: clock_register(8),
            year: clock_register(9),
            century: self.century_register.map(clock_register),
            status_b: clock_register(0x0b),
        }
    }
}

fn clock_register(index: u8) -> u8 {
    // SAFETY: the index and data ports of the clock; bit 7 of the index keeps NMIs off, as they are at entry.
    unsafe {
        Port::<u8>::new(0x70).write(0x80 | index);
        Port::<u8>::new(0x71).read()
    }
}
