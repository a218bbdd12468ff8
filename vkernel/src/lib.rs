//! The virtual kernel: a kernel of its own that runs as an ordinary process of the host and knows it only through the host's
//! system-call interface. Its programs are static Linux x86-64 programs.
//!
//! From below: `host` is the machine that it runs on; `sync`, `memory` (RAM, page tables, address spaces), `sched` (virtual CPUs), `signal`,
//! `process`, `vfs`, and on top `syscalls`, which programs call. The binary `vkernel` calls [`main`] and nothing else.
//!
//! On Linux the crate compiles over another `host`, made of ptrace(2): `cargo test` runs the whole kernel that way, and so does a developer
//! who wants to try a change without booting anything.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(not(target_os = "none"))]
extern crate std;

mod clock;
mod host;
mod kernel;
mod linux;
mod memory;
mod options;
mod process;
mod random;
mod sched;
mod signal;
mod start;
mod sync;
mod syscalls;
mod vfs;
mod words;

pub use start::main;
