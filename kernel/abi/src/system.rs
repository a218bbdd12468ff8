//! The machine as a whole: information, boot modules, log, power.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Answer of `system_info`; anyone may ask.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SystemInfo {
    /// Version of this interface; see [`ABI_VERSION`].
    pub abi_version: u32,
    /// CPUs in use.
    pub cpus: u32,
    /// Frames of RAM that the kernel manages.
    pub frames_total: u64,
    /// Frames that are free now (per-CPU caches included).
    pub frames_free: u64,
    /// Nanoseconds since boot.
    pub uptime: u64,
    /// Ticks of the TSC a second.
    pub tsc_frequency: u64,
    /// `MODE_*`: ways to run a vkernel that this machine has.
    pub vkernel_modes: u64,
    /// Live kernel objects: processes, threads, vmspaces, memory objects, channels, handles.
    pub processes: u32,
    /// Threads that have not been freed.
    pub threads: u32,
    /// vmspaces that have not been freed, those of processes included.
    pub vmspaces: u32,
    /// Memory objects that have not been freed.
    pub memory_objects: u32,
    /// Open handles of all processes.
    pub handles: u32,
    /// Channels that have not been freed.
    pub channels: u32,
}

/// Version of this interface.
pub const ABI_VERSION: u32 = 1;
/// Users run in host vmspaces with virtual page tables.
pub const MODE_SOFT: u64 = 1;
/// Guest threads under VT-x with EPT.
pub const MODE_EXIT: u64 = 2;

/// Answer of `boot_module(system, index, info)`, whose result is a handle of a memory object.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ModuleInfo {
    /// Bytes of the module (the object is rounded up to pages).
    pub size: u64,
    /// Name, zero padded.
    pub name: [u8; 64],
}

/// Commands of `power`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PowerCommand {
    /// Turn the machine off.
    Off = 1,
    /// Reset it.
    Reset = 2,
}

impl PowerCommand {
    /// The command with this number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::Off),
            2 => Some(Self::Reset),
            _ => None,
        }
    }
}

/// Head of each record that `log_read` returns: it is followed by `length` bytes of UTF-8, padded to 8 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LogRecord {
    /// Number of the record, from 0; pass the last one seen plus 1 as the next position.
    pub sequence: u64,
    /// Nanoseconds since boot.
    pub time: u64,
    /// 1 error, 2 warning, 3 info, 4 debug, 5 trace.
    pub level: u16,
    /// CPU that logged it.
    pub cpu: u16,
    /// Bytes of text.
    pub length: u32,
}

/// Bytes of text in one log record at most.
pub const MAX_LOG_TEXT: usize = 240;
