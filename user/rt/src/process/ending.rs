//! How a process ended, in words and as a status.

#![forbid(unsafe_code)]

use core::fmt;
use dragonet_abi::process::{
    ENDED_EXCEPTION, ENDED_EXIT, ENDED_KILLED, ENDED_NO_MEMORY, WaitStatus, exception_name,
};

/// Vector of the page fault.
const PAGE_FAULT: u32 = 14;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending(pub WaitStatus);

impl Ending {
    /// True if the process ended by itself with status 0.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0.reason == ENDED_EXIT && self.0.status == 0
    }

    /// True if the process ended by itself.
    #[must_use]
    pub const fn is_exit(self) -> bool {
        self.0.reason == ENDED_EXIT
    }

    /// The status as a shell counts: exit status, 128 + vector of an exception, the killer's status or else 137.
    #[must_use]
    pub const fn status(self) -> u8 {
        match self.0.reason {
            ENDED_EXIT => self.0.status as u8,
            ENDED_EXCEPTION => 128 | self.0.status as u8,
            ENDED_KILLED if self.0.status != 0 => self.0.status as u8,
            _ => 137,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WaitStatus {
            reason,
            status,
            address,
            error_code,
            instruction,
        } = self.0;
        match reason {
            ENDED_EXIT => write!(formatter, "exit status {status}"),
            ENDED_KILLED => write!(formatter, "killed with status {status}"),
            ENDED_NO_MEMORY => write!(formatter, "out of memory"),
            ENDED_EXCEPTION if status == PAGE_FAULT => {
                let access = match error_code {
                    code if code & 0x10 != 0 => "executing",
                    code if code & 2 != 0 => "writing",
                    _ => "reading",
                };
                let cause = if error_code & 1 != 0 {
                    "protected"
                } else {
                    "unmapped"
                };
                write!(
                    formatter,
                    "exception 14 (page fault) {access} {cause} address {address:#x}, instruction at {instruction:#x}"
                )
            }
            ENDED_EXCEPTION => {
                write!(formatter, "exception {status} ({})", exception_name(status))?;
                if error_code != 0 {
                    write!(formatter, " with error code {error_code:#x}")?;
                }
                write!(formatter, ", instruction at {instruction:#x}")
            }
            other => write!(formatter, "unknown reason {other}"),
        }
    }
}
