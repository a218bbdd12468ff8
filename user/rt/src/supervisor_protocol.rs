//! What programs can ask of the supervisor (`init`).
//!
//! Reply labels are 0 or an errno.
//!
//! | operation | words | reply words |
//! |---|---|---|
//! | [`SERVICE`] | index | state, process id, restarts, then the name in 3 words; `ENOENT` behind the last |
//! | [`RESTART`] | name | - ; `ENOENT` if there is no such service |
//!
//! Names are bytes in memory order, zero padded.

#![forbid(unsafe_code)]

/// Tells about one service.
pub const SERVICE: u32 = 1;
/// Ends a service's process, so that it is started anew.
pub const RESTART: u32 = 2;

/// The service's process runs.
pub const STATE_RUNNING: u64 = 1;
/// It ended and will be started again soon.
pub const STATE_WAITING: u64 = 2;
/// It failed too often in a row and is not started again by itself.
pub const STATE_FAILED: u64 = 3;

/// Bytes of a service's name at most.
pub const MAX_NAME: usize = 24;
