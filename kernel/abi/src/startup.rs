//! What a new process finds at the address in `rdi`: its arguments, its environment and its first handles.
//!
//! The block is one contiguous run of bytes: [`StartupHeader`], then `handle_count` times [`StartupHandle`], then
//! `argument_count` strings and `environment_count` strings, UTF-8, each ended by a zero byte.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First word of the block.
pub const STARTUP_MAGIC: u64 = 0x7472_6174_7365_6e74;
/// Bytes of the block at most.
pub const MAX_STARTUP_SIZE: usize = 64 * 1024;

/// Head of the startup block.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StartupHeader {
    /// [`STARTUP_MAGIC`].
    pub magic: u64,
    /// Bytes of the whole block.
    pub size: u32,
    /// Count of [`StartupHandle`] records.
    pub handle_count: u32,
    /// Count of argument strings; the first is the program's name.
    pub argument_count: u32,
    /// Count of `NAME=value` strings.
    pub environment_count: u32,
}

/// A handle that the new process starts with, and what it is for.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StartupHandle {
    /// A `ROLE_*` constant.
    pub role: u32,
    /// The handle, valid in the new process.
    pub handle: super::Handle,
}

/// The system object, with the rights that the parent granted.
pub const ROLE_SYSTEM: u32 = 1;
/// Client end of the console server's channel.
pub const ROLE_CONSOLE: u32 = 2;
/// Memory object with the root archive (ustar), read-only.
pub const ROLE_ROOT_ARCHIVE: u32 = 3;
/// Client end of the supervisor's channel (`init`).
pub const ROLE_SUPERVISOR: u32 = 4;
/// Server end of the channel on which this service receives.
pub const ROLE_SERVICE: u32 = 5;
