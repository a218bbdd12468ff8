//! The battery-backed clock's registers as a Unix time.
#![forbid(unsafe_code)]

/// The registers of the clock, read twice alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the registers say it all")]
pub struct ClockRegisters {
    pub second: u8,
    pub minute: u8,
    pub hour: u8,
    pub day: u8,
    pub month: u8,
    pub year: u8,
    /// The century register, if the firmware says where it is.
    pub century: Option<u8>,
    /// Status register B: bit 1 = 24 hours, bit 2 = binary numbers.
    pub status_b: u8,
}

const HOURS_24: u8 = 1 << 1;
const BINARY: u8 = 1 << 2;
const AFTERNOON: u8 = 1 << 7;

impl ClockRegisters {
    /// Seconds since the first of January 1970, taking the clock for UTC.
    pub fn unix_time(&self) -> i64 {
        let number = |register: u8| match self.status_b & BINARY {
            0 => i64::from(register >> 4) * 10 + i64::from(register & 15),
            _ => i64::from(register),
        };
        let mut hour = number(self.hour & !AFTERNOON);
        if self.status_b & HOURS_24 == 0 {
            hour = hour % 12 + if self.hour & AFTERNOON != 0 { 12 } else { 0 };
        }
        let century = self
            .century
            .map(number)
            .filter(|century| (19..=22).contains(century))
            .unwrap_or(20);
        let year = century * 100 + number(self.year);
        let days = days_since_1970(year, number(self.month), number(self.day));
        ((days * 24 + hour) * 60 + number(self.minute)) * 60 + number(self.second)
    }
}

/// Days from the first of January 1970 to a date of the Gregorian calendar. Years are counted from March, so that
/// the leap day is the last of its year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days_before_month = (153 * month + 2) / 5;
    const TO_1970: i64 = 719_468;
    year * 365 + leap_days + days_before_month + day - 1 - TO_1970
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        assert_eq!(days_since_1970(1970, 1, 1), 0);
        assert_eq!(days_since_1970(2000, 2, 29), 11_016);
        assert_eq!(days_since_1970(2026, 11, 20), 20_777);
    }

    #[test]
    fn decimal_and_binary_and_twelve_hours() {
        let decimal = ClockRegisters {
            second: 0x30,
            minute: 0x42,
            hour: 0x12,
            day: 0x20,
            month: 0x11,
            year: 0x26,
            century: Some(0x20),
            status_b: HOURS_24,
        };
        let expected = 20_777 * 86_400 + 12 * 3600 + 42 * 60 + 30;
        assert_eq!(decimal.unix_time(), expected);
        let binary = ClockRegisters {
            second: 30,
            minute: 42,
            hour: 12 | AFTERNOON,
            day: 20,
            month: 11,
            year: 26,
            century: None,
            status_b: BINARY,
        };
        assert_eq!(binary.unix_time(), expected);
        assert_eq!(
            ClockRegisters { hour: 12, ..binary }.unix_time(),
            expected - 12 * 3600
        );
    }
}
