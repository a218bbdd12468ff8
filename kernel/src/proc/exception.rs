//! Exceptions of user programs, and how they are named to people.

use core::fmt;
use dragonet_abi::process::exception_name;

/// An exception that ended a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Vector, 0 to 31.
    pub vector: u8,
    /// Error code, 0 where the vector has none.
    pub error_code: u64,
    /// Page faults: the address accessed.
    pub address: u64,
    /// Instruction pointer.
    pub instruction: u64,
    /// Page faults: the address is reserved so that nothing is there.
    pub guard: bool,
}

/// Vector of page faults.
pub const PAGE_FAULT: u8 = 14;

impl fmt::Display for Exception {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", exception_name(u32::from(self.vector)))?;
        if self.vector == PAGE_FAULT {
            let access = match self.error_code {
                code if code & 0x10 != 0 => "executing",
                code if code & 2 != 0 => "writing",
                _ => "reading",
            };
            let place = if self.guard { " in a guard page" } else { "" };
            write!(formatter, " {access} {:#x}{place}", self.address)?;
        } else if self.error_code != 0 {
            write!(formatter, " (error code {:#x})", self.error_code)?;
        }
        write!(formatter, " at {:#x}", self.instruction)
    }
}
