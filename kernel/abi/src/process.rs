//! Processes and threads as programs see them.

use super::layout::MAX_NAME;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How a process ended. Filled by `process_wait`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WaitStatus {
    /// One of the `ENDED_*` constants.
    pub reason: u32,
    /// Exit status (0..=255), the killer's status, or the exception vector.
    pub status: u32,
    /// Faulting address for a page fault, else the instruction pointer of the exception; 0 otherwise.
    pub address: u64,
    /// Error code of the exception, else 0.
    pub error_code: u64,
    /// Instruction pointer at the exception, else 0.
    pub instruction: u64,
}

/// The process called `process_exit`.
pub const ENDED_EXIT: u32 = 1;
/// `process_kill` ended it.
pub const ENDED_KILLED: u32 = 2;
/// An exception ended it.
pub const ENDED_EXCEPTION: u32 = 3;
/// Memory ran out where the process could not be told by an error.
pub const ENDED_NO_MEMORY: u32 = 4;
/// The hardware could not go on with a thread in guest mode; the kernel's log says why.
pub const ENDED_GUEST: u32 = 5;

/// One row of `process_list`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProcessInfo {
    /// Process id.
    pub id: u64,
    /// Id of the creator, 0 for the first process.
    pub parent: u64,
    /// Threads that have not ended.
    pub threads: u32,
    /// Open handles.
    pub handles: u32,
    /// Pages mapped in and owned (anonymous and copied).
    pub resident_pages: u64,
    /// Pages that the page table of its own vmspace takes.
    pub table_pages: u64,
    /// CPU time of all threads, ended ones included, in nanoseconds.
    pub cpu_time: u64,
    /// `STATE_*`.
    pub state: u32,
    /// vmspaces that the process created as a vkernel.
    pub vmspaces: u32,
    /// Name, zero padded.
    pub name: [u8; MAX_NAME],
}

/// Created, not started.
pub const STATE_NEW: u32 = 0;
/// At least one thread runs or is ready.
pub const STATE_RUNNING: u32 = 1;
/// Every thread waits.
pub const STATE_WAITING: u32 = 2;
/// Being torn down.
pub const STATE_ENDING: u32 = 3;
/// Ended; a handle keeps its status.
pub const STATE_ENDED: u32 = 4;

/// Operations of `thread_control`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ThreadControl {
    /// Priority, 0 (lowest) to 31; programs start at [`PRIORITY_DEFAULT`].
    SetPriority = 1,
    /// Bit mask of CPUs on which the thread may run; at least one that is there.
    SetAffinity = 2,
    /// Base of FS, canonical user address. Own thread only.
    SetFsBase = 3,
    /// Base of GS, canonical user address. Own thread only.
    SetGsBase = 4,
    /// Returns the thread id.
    GetId = 5,
    /// Returns the index of the CPU that the caller is on now.
    GetCpu = 6,
    /// Returns nanoseconds of CPU time.
    GetCpuTime = 7,
}

impl ThreadControl {
    /// The operation with this number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            1 => Self::SetPriority,
            2 => Self::SetAffinity,
            3 => Self::SetFsBase,
            4 => Self::SetGsBase,
            5 => Self::GetId,
            6 => Self::GetCpu,
            7 => Self::GetCpuTime,
            _ => return None,
        })
    }
}

/// What `process_limit` limits or tells. A new process has the limits of its creator, and nothing used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LimitKind {
    /// Pages of memory: those of the process's private memory, of the copies in its private mappings, and of the objects that it
    /// created, whoever touches them. Its vmspaces as a vkernel count as its own. A page that a fork left shared counts
    /// for both sides.
    Memory = 1,
    /// Bytes of addresses that are mapped, those with virtual page tables excepted.
    AddressSpace = 2,
    /// Pages that the process has now. To be read only.
    MemoryUsed = 3,
    /// Bytes that are mapped now. To be read only.
    AddressSpaceUsed = 4,
}

impl LimitKind {
    /// The kind with this number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            1 => Self::Memory,
            2 => Self::AddressSpace,
            3 => Self::MemoryUsed,
            4 => Self::AddressSpaceUsed,
            _ => return None,
        })
    }
}

/// The highest limit, which is none. The first process has it.
pub const NO_LIMIT: u64 = i64::MAX as u64;
/// As the value of `process_limit`: only tell.
pub const LIMIT_READ: u64 = u64::MAX;

/// Count of priorities.
pub const PRIORITIES: usize = 32;
/// Priority of a new process's first thread.
pub const PRIORITY_DEFAULT: u64 = 16;

/// The name of an exception vector (Intel SDM volume 3, table 6-1).
#[must_use]
pub const fn exception_name(vector: u32) -> &'static str {
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
        10 => "invalid task state segment",
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
