//! What comes of instructions that a user executes: the table, and how a case is described.
//!
//! Users run at privilege level 3 in 64-bit mode, without descriptors, ports, model-specific registers or interrupts of their own. Vectors and error
//! codes are those of the SDM's volume 2 for that.

use dragonet_abi::vmspace::RegisterFrame;
use dragonet_rt::processor;

mod table;

pub use table::CASES;

/// General registers by the number that instructions have for them.
pub const RAX: u8 = 0;
pub const RCX: u8 = 1;
pub const RDX: u8 = 2;
pub const RBX: u8 = 3;
pub const RSP: u8 = 4;
pub const RBP: u8 = 5;
pub const RSI: u8 = 6;
pub const RDI: u8 = 7;
pub const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

/// RFLAGS.
pub const TRAP: u64 = 1 << 8;
pub const ALIGNMENT_CHECK: u64 = 1 << 18;
pub const RESUME: u64 = 1 << 16;
pub const NESTED_TASK: u64 = 1 << 14;

/// Exceptions.
pub const DIVIDE: u32 = 0;
pub const DEBUG: u32 = 1;
pub const BREAKPOINT: u32 = 3;
pub const UNDEFINED: u32 = 6;
pub const STACK: u32 = 12;
pub const PROTECTION: u32 = 13;
pub const FLOATING_POINT: u32 = 16;
pub const ALIGNMENT: u32 = 17;
pub const SIMD: u32 = 19;

/// Registers by number.
pub fn registers(frame: &RegisterFrame) -> [u64; 16] {
    let f = frame;
    [
        f.rax, f.rcx, f.rdx, f.rbx, f.rsp, f.rbp, f.rsi, f.rdi, f.r8, f.r9, f.r10, f.r11, f.r12, f.r13,
        f.r14, f.r15,
    ]
}

/// A register by number.
pub fn register(frame: &mut RegisterFrame, number: u8) -> &mut u64 {
    match number {
        RAX => &mut frame.rax,
        RCX => &mut frame.rcx,
        RDX => &mut frame.rdx,
        RBX => &mut frame.rbx,
        RSP => &mut frame.rsp,
        RBP => &mut frame.rbp,
        RSI => &mut frame.rsi,
        RDI => &mut frame.rdi,
        8 => &mut frame.r8,
        9 => &mut frame.r9,
        10 => &mut frame.r10,
        11 => &mut frame.r11,
        12 => &mut frame.r12,
        13 => &mut frame.r13,
        14 => &mut frame.r14,
        _ => &mut frame.r15,
    }
}

/// What CPUs have or do not.
#[derive(Clone, Copy, Debug)]
pub enum Feature {
    Rdtscp,
    Rdpid,
    Rdrand,
    Rdseed,
    Umip,
    Xsave,
}

impl Feature {
    /// True if CPUID shows it.
    pub fn is_there(self) -> bool {
        let bit = |leaf, subleaf, register: usize, bit: u32| {
            processor::cpuid(leaf, subleaf)[register] >> bit & 1 != 0
        };
        match self {
            Feature::Rdtscp => bit(0x8000_0001, 0, 3, 27),
            Feature::Rdpid => bit(7, 0, 2, 22),
            Feature::Rdrand => bit(1, 0, 2, 30),
            Feature::Rdseed => bit(7, 0, 1, 18),
            Feature::Umip => bit(7, 0, 2, 2),
            Feature::Xsave => bit(1, 0, 2, 27),
        }
    }
}

/// How an instruction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// An exception, `at` bytes behind the beginning.
    Exception { vector: u32, error_code: u64, at: u64 },
    /// It is executed, and the next one too.
    Done,
}

/// A case: what is executed, with what in registers and memory, and what must come of it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub name: &'static str,
    pub code: &'static [u8],
    /// Registers that are not random. RDI is the address of writable memory, RSP one further up in it.
    pub registers: &'static [(u8, u64)],
    /// What memory begins with, at RDI and at RSP.
    pub memory: &'static [u64],
    pub stack: &'static [u64],
    /// RFLAGS besides what is always there.
    pub flags: u64,
    pub end: End,
    /// Registers that may have changed afterwards.
    pub changes: &'static [u8],
    /// Registers that must have a value afterwards.
    pub results: &'static [(u8, u64)],
    /// Status flags may have changed.
    pub changes_flags: bool,
    /// Without the feature it is an undefined opcode, or another exception.
    pub needs: Option<(Feature, u32)>,
    /// Another vector that it may have: the manual and Bochs check in different orders.
    pub or: Option<u32>,
    /// With the feature it is a general protection fault.
    pub denied_with: Option<Feature>,
}

impl Case {
    const fn new(name: &'static str, code: &'static [u8], end: End) -> Self {
        Case {
            name,
            code,
            registers: &[],
            memory: &[],
            stack: &[],
            flags: 0,
            end,
            changes: &[],
            results: &[],
            changes_flags: false,
            needs: None,
            or: None,
            denied_with: None,
        }
    }

    /// Ends with an exception at the first instruction.
    const fn fault(name: &'static str, code: &'static [u8], vector: u32, error_code: u64) -> Self {
        let end = End::Exception {
            vector,
            error_code,
            at: 0,
        };
        Self::new(name, code, end)
    }

    const fn undefined(name: &'static str, code: &'static [u8]) -> Self {
        Self::fault(name, code, UNDEFINED, 0)
    }

    const fn denied(name: &'static str, code: &'static [u8]) -> Self {
        Self::fault(name, code, PROTECTION, 0)
    }

    const fn done(name: &'static str, code: &'static [u8], changes: &'static [u8]) -> Self {
        let case = Self::new(name, code, End::Done);
        Case { changes, ..case }
    }

    const fn at(self, at: u64) -> Self {
        match self.end {
            End::Exception {
                vector, error_code, ..
            } => {
                let end = End::Exception {
                    vector,
                    error_code,
                    at,
                };
                Case { end, ..self }
            }
            End::Done => self,
        }
    }

    const fn with(self, registers: &'static [(u8, u64)]) -> Self {
        Case { registers, ..self }
    }

    const fn memory(self, memory: &'static [u64]) -> Self {
        Case { memory, ..self }
    }

    const fn stack(self, stack: &'static [u64]) -> Self {
        Case { stack, ..self }
    }

    const fn flags(self, flags: u64) -> Self {
        Case { flags, ..self }
    }

    const fn changing(self, changes: &'static [u8]) -> Self {
        Case { changes, ..self }
    }

    const fn results(self, results: &'static [(u8, u64)]) -> Self {
        Case { results, ..self }
    }

    const fn changing_flags(self) -> Self {
        Case {
            changes_flags: true,
            ..self
        }
    }

    const fn needs(self, feature: Feature, otherwise: u32) -> Self {
        Case {
            needs: Some((feature, otherwise)),
            ..self
        }
    }

    const fn or(self, vector: u32) -> Self {
        Case {
            or: Some(vector),
            ..self
        }
    }

    const fn denied_with(self, feature: Feature) -> Self {
        Case {
            denied_with: Some(feature),
            ..self
        }
    }

    /// How it ends on this machine.
    pub fn end_here(&self) -> End {
        let fault = |vector| End::Exception {
            vector,
            error_code: 0,
            at: 0,
        };
        match (self.needs, self.denied_with) {
            (Some((feature, otherwise)), _) if !feature.is_there() => fault(otherwise),
            (_, Some(feature)) if feature.is_there() => fault(PROTECTION),
            _ => self.end,
        }
    }
}
