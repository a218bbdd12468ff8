//! Other programs: starting them, waiting for them, saying how they ended.
//!
//! [`Command`] reads a program from the root archive (or takes its bytes), builds a process around it, and hands it its
//! arguments and first handles; [`fork()`] starts a copy of the running program. [`Ending`] tells in words why a process is no more. Programs call this; it calls the kernel.

mod command;
mod ending;
mod fork;
mod loader;

pub use command::{Child, Command, SpawnError};
pub use dragonet_abi::process::exception_name;
pub use ending::Ending;
pub use fork::{fork, fork_into};
