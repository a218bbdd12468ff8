//! What the native programs share: command lines, small helpers for tests, and the shell's logic.
//!
//! The shell's grammar and line editor are here and not in its program because they are pure: `cargo test
//! -p dragonet-programs --lib` runs their tests on the host. Only programs of this package call this crate.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bench;
pub mod checks;
pub mod cpuid;
pub mod guest;
pub mod ledger;
pub mod line_editor;
pub mod options;
pub mod power;
pub mod random;
pub mod shell_syntax;
pub mod table;
pub mod text;
pub mod torture;
pub mod vm;
