//! Programs: processes, their threads, and everything that makes, changes and ends them.
//!
//! A [`Thread`] is what others may see and wake; a [`Task`] is the thread's own side, owned by the future that its CPU polls and so
//! free of locks. A process holds what its threads share and what outlives them.

#[expect(clippy::module_inception, reason = "one concept a file: the struct Process")]
pub mod process;

pub mod end;
pub mod exec;
pub mod futex;
pub mod signals;
pub mod spawn;
pub mod stack;
pub mod table;
pub mod task;
pub mod thread;
pub mod trap;

pub use process::{ExitStatus, Process};
pub use table::ProcessTable;
pub use task::Task;
pub use thread::{Poll, Thread};
