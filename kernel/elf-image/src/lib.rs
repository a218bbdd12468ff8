//! Loading plans for ELF64 programs: which bytes of a file go to which addresses with which protection.
//!
//! Pure logic: no memory is touched and nothing is allocated. A plan is only given out when every number in it has
//! been checked, so a loader can follow it without checks of its own. Used by the kernel for the first process, by the
//! runtime to start programs, and by the virtual kernel for Linux programs (which also need [`Image::headers_address`]).
//!
//! Accepted are x86-64 executables at fixed addresses (`ET_EXEC`) and static position-independent ones (`ET_DYN`),
//! the latter moved by a load bias that the caller chooses.
//!
//! Manual: System V ABI, "Object Files" and "Program Loading"; AMD64 supplement, section 4.1.
#![no_std]
#![forbid(unsafe_code)]

mod error;
mod image;
mod segment;

pub use error::ImageError;
pub use image::{Image, Kind, MAX_SEGMENTS};
pub use segment::{Protection, Segment};

/// Bytes of a page: segments are mapped in these units.
pub const PAGE_SIZE: u64 = 4096;
