//! The firmware's calendar clock, read once at boot.

use x86_64::instructions::port::Port;

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;
const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const UPDATING: u8 = 1 << 7;
const BINARY: u8 = 1 << 2;
const TWENTY_FOUR_HOURS: u8 = 1 << 1;
const AFTERNOON: u8 = 1 << 7;
const ATTEMPTS: usize = 10;
const PATIENCE: usize = 100_000;

/// Registers as they stand in the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    seconds: u8,
    minutes: u8,
    hours: u8,
    day: u8,
    month: u8,
    year: u8,
    century: Option<u8>,
    format: u8,
}

fn register(index: u8) -> u8 {
    // SAFETY: the clock is the kernel's; bit 7 of the index keeps NMIs enabled when clear.
    unsafe {
        Port::<u8>::new(INDEX).write(index);
        Port::<u8>::new(DATA).read()
    }
}

fn reading(century: Option<u8>) -> Reading {
    for _ in 0..PATIENCE {
        if register(STATUS_A) & UPDATING == 0 {
            break;
        }
    }
    Reading {
        seconds: register(SECONDS),
        minutes: register(MINUTES),
        hours: register(HOURS),
        day: register(DAY),
        month: register(MONTH),
        year: register(YEAR),
        century: century.map(register),
        format: register(STATUS_B),
    }
}

/// Seconds since 1970-01-01 00:00:00, taking the clock to be UTC. `century` is the register that the firmware names for it. None when
/// the clock never reads twice the same or shows no date.
pub(super) fn read(century: Option<u8>) -> Option<u64> {
    let mut last = reading(century);
    for _ in 0..ATTEMPTS {
        let next = reading(century);
        if next == last {
            return next.to_unix_time();
        }
        last = next;
    }
    None
}

impl Reading {
    /// Decodes binary-coded decimals and twelve-hour time, and counts the days.
    pub(super) fn to_unix_time(self) -> Option<u64> {
        let number = |value: u8| {
            let digits = (value >> 4) * 10 + (value & 0xf);
            u64::from(if self.format & BINARY != 0 { value } else { digits })
        };
        let hours = if self.format & TWENTY_FOUR_HOURS != 0 {
            number(self.hours)
        } else {
            number(self.hours & !AFTERNOON) % 12 + if self.hours & AFTERNOON != 0 { 12 } else { 0 }
        };
        let century = self
            .century
            .map(number)
            .filter(|century| (19..=25).contains(century))
            .unwrap_or(20);
        let (year, month, day) = (
            century * 100 + number(self.year),
            number(self.month),
            number(self.day),
        );
        let (minutes, seconds) = (number(self.minutes), number(self.seconds));
        let plausible = year >= 1970
            && (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && hours < 24
            && minutes < 60
            && seconds < 61;
        plausible.then(|| days_since_1970(year, month, day) * 86400 + hours * 3600 + minutes * 60 + seconds)
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    const BEFORE_MONTH: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leap_days_before = |year: u64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let leap_day = u64::from(is_leap && month > 2);
    (year - 1970) * 365 + leap_days_before(year) - leap_days_before(1970)
        + BEFORE_MONTH[month as usize - 1]
        + leap_day
        + day
        - 1
}

/// The clock's decoding, on readings whose time is known.
pub(super) fn check_decoding() -> Result<(), &'static str> {
    let decimal = Reading {
        seconds: 0x59,
        minutes: 0x58,
        hours: 0x91,
        day: 0x29,
        month: 0x02,
        year: 0x24,
        century: Some(0x20),
        format: 0,
    };
    // 11 in the afternoon: 2024-02-29 23:58:59.
    if decimal.to_unix_time() != Some(1_709_251_139) {
        return Err("binary-coded decimal, twelve hours");
    }
    let binary = Reading {
        seconds: 0,
        minutes: 0,
        hours: 0,
        day: 1,
        month: 3,
        year: 0,
        century: None,
        format: BINARY | TWENTY_FOUR_HOURS,
    };
    if binary.to_unix_time() != Some(951_868_800) {
        return Err("binary, 2000-03-01");
    }
    if (Reading {
        month: 13,
        day: 1,
        ..binary
    })
    .to_unix_time()
    .is_some()
    {
        return Err("a thirteenth month was taken");
    }
    Ok(())
}
