//! Runtime of native programs: what stands between a program and the system-call interface.
//!
//! A program is `#![cfg_attr(not(test), no_std)]`, `#![no_main]`, and names its main function with [`main!`]. It finds here its arguments
//! and first handles ([`startup`]), typed system calls ([`syscall`]), owned handles ([`handle`]), heap, printing
//! ([`console`]), threads and locks ([`thread`], [`sync`]), the root archive ([`archive`]), and the means to start
//! other programs ([`process`]).
//!
//! Programs and the virtual kernel call this crate; it calls only the kernel. `unsafe` is confined to the modules that
//! talk to the kernel about memory and control flow: `syscall`, `memory`, `window`, `atomic_memory`, `cycles`, `startup`, `thread`,
//! `virtual_interrupt`, `sync`, `allocator`, `panic`.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod allocator;
pub mod archive;
pub mod atomic_memory;
pub mod channel;
pub mod console;
pub mod console_protocol;
pub mod cycles;
pub mod exit;
pub mod extended_state;
pub mod guest;
pub mod handle;
pub mod log;
pub mod memory;
mod panic;
pub mod process;
pub mod processor;
pub mod start_block;
pub mod startup;
pub mod supervisor_protocol;
pub mod sync;
pub mod syscall;
pub mod system;
pub mod thread;
pub mod time;
pub mod virtual_interrupt;
pub mod window;

pub use dragonet_abi as abi;
pub use dragonet_abi::{Errno, Handle, Rights};
pub use exit::{ExitCode, Termination};
pub use handle::OwnedHandle;
pub use startup::Arguments;
