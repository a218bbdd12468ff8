//! Lines in the kernel's log, for programs that have no console or must not depend on it.

#![forbid(unsafe_code)]

use crate::syscall;
use alloc::string::ToString;
use core::fmt;
use dragonet_abi::system::MAX_LOG_TEXT;

/// How important a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Level {
    /// Something does not work.
    Error = 1,
    /// Something is not as it should be.
    Warning = 2,
    /// Worth knowing.
    Info = 3,
    /// For whoever is looking for a fault.
    Debug = 4,
}

/// Writes lines into the log; long ones are cut into several.
pub fn write(level: Level, text: fmt::Arguments<'_>) {
    for line in text.to_string().lines() {
        write_line(level, line.as_bytes());
    }
}

/// Writes one line without allocating.
pub(crate) fn write_line(level: Level, line: &[u8]) {
    for part in line.chunks(MAX_LOG_TEXT) {
        // There is nobody to tell that the log does not take it.
        let _ = syscall::log_write(level as u64, part);
    }
}

/// Logs a line at level info.
#[macro_export]
macro_rules! info {
    ($($argument:tt)*) => { $crate::log::write($crate::log::Level::Info, format_args!($($argument)*)) };
}

/// Logs a line at level warning.
#[macro_export]
macro_rules! warning {
    ($($argument:tt)*) => { $crate::log::write($crate::log::Level::Warning, format_args!($($argument)*)) };
}

/// Logs a line at level error.
#[macro_export]
macro_rules! error {
    ($($argument:tt)*) => { $crate::log::write($crate::log::Level::Error, format_args!($($argument)*)) };
}
