//! How the kernel tells what it does and what went wrong: log, counters, panic, backtrace, watchdog, and the text console.
//!
//! Everyone may log (with the `log` crate's macros) and count. Nothing here allocates, so that it works before there is a heap, in
//! interrupt handlers and in panics; what runs in a panic takes no lock that it cannot do without.
#![forbid(unsafe_code)]

pub mod backtrace;
pub mod counters;
pub mod framebuffer;
pub mod log;
mod log_ring;
pub mod panic;
pub mod watchdog;
