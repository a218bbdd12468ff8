//! The Linux x86-64 ABI in numbers: errors, flags, structures. Values only, no behaviour; everyone may use it.
//!
//! Structures are exactly those that a program passes (manual: Linux man-pages sections 2 and 7, System V ABI AMD64
//! supplement), have no padding, and are copied byte by byte.

pub mod errno;
pub mod flags;
pub mod signal;
pub mod structures;

pub use errno::Errno;
