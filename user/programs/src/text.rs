//! Numbers and messages as text.

use alloc::string::String;
use core::time::Duration;
use dragonet_rt::{Errno, ExitCode, eprintln, startup};

/// A number of seconds, which may have a fraction of up to nine digits.
#[must_use]
pub fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.len() + fraction.len() == 0 || fraction.len() > 9 {
        return None;
    }
    let seconds = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let scale = 10_u32.pow(9 - fraction.len() as u32);
    let nanoseconds = if fraction.is_empty() {
        0
    } else {
        fraction.parse::<u32>().ok()? * scale
    };
    Some(Duration::new(seconds, nanoseconds))
}

/// Seconds with three digits of a fraction.
#[must_use]
pub fn as_seconds(duration: Duration) -> String {
    alloc::format!("{}.{:03}", duration.as_secs(), duration.subsec_millis())
}

/// Says what the kernel refused and gives the status for that.
pub fn fault(what: &str, errno: Errno) -> ExitCode {
    eprintln!("{}: {what}: {errno}", startup::program());
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_fractions() {
        assert_eq!(seconds("2"), Some(Duration::from_secs(2)));
        assert_eq!(seconds("0.25"), Some(Duration::from_millis(250)));
        assert_eq!(seconds(".5"), Some(Duration::from_millis(500)));
        assert_eq!(seconds("1."), Some(Duration::from_secs(1)));
        assert_eq!(seconds("0.000000001"), Some(Duration::from_nanos(1)));
        for wrong in [
            "",
            ".",
            "-1",
            "1.2.3",
            "1e3",
            "0.0000000001",
            "x",
            "99999999999999999999",
        ] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
        assert_eq!(as_seconds(Duration::from_millis(12_345)), "12.345");
    }
}
