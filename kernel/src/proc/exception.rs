//! Exceptions of user programs, and how they are named to people.

use core::fmt;

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
}

/// Vector of page faults.
pub const PAGE_FAULT: u8 = 14;

/// Name of an exception vector (Intel SDM volume 3, table 7-1).
pub const fn exception_name(vector: u8) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug exception",
        2 => "non-maskable interrupt",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range exceeded",
        6 => "invalid opcode",
        7 => "device not available",
        8 => "double fault",
        10 => "invalid TSS",
        11 => "segment not present",
        12 => "stack segment fault",
        13 => "general protection fault",
        14 => "page fault",
        16 => "x87 floating-point error",
        17 => "alignment check",
        18 => "machine check",
        19 => "SIMD floating-point error",
        20 => "virtualization exception",
        21 => "control protection exception",
        _ => "reserved exception",
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", exception_name(self.vector))?;
        if self.vector == PAGE_FAULT {
            let access = match self.error_code {
                code if code & 0x10 != 0 => "executing",
                code if code & 2 != 0 => "writing",
                _ => "reading",
            };
            write!(formatter, " {access} {:#x}", self.address)?;
        } else if self.error_code != 0 {
            write!(formatter, " (error code {:#x})", self.error_code)?;
        }
        write!(formatter, " at {:#x}", self.instruction)
    }
}
