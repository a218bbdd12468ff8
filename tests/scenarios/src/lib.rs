//! Scenarios: what a whole machine must do, as data.
//!
//! [`table::ALL`] has one entry for each: a machine, what is typed into its shell, and what must come out of it. This
//! crate knows nothing of emulators; `cargo xtask test boot` (crate `xtask`) runs the entries and asks
//! [`Scenario::judge`] for the verdict. To add a scenario, add an entry.

#![forbid(unsafe_code)]

mod judge;
mod scenario;
pub mod table;

pub use scenario::{Boot, Emulator, Kernel, Scenario};
