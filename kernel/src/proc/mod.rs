//! Processes, threads, handles, and how each of them ends.
//!
//! A process owns a vmspace, a handle table and threads; it is kept alive by its threads and by handles. A thread is a
//! [`crate::sched::Schedulable`] with virtual interrupts, a guest context for `vmspace_ctl(RUN)`, and one outstanding channel call.
//! Nothing ends in the middle of a system call: a kill marks the process and wakes its threads, every wait returns, and each thread
//! leaves at its next return to user mode. Used by `ipc`, `sys` and the trap entry.
#![forbid(unsafe_code)]

mod burial;
mod exception;
mod guest;
mod guest_vmspace;
mod handles;
mod object;
mod process;
mod reaper;
mod start;
mod table;
mod tests;
mod thread;
mod virtual_interrupt;
mod vmm_user;

pub use burial::bury;
pub use exception::Exception;
pub use guest::{RunEvent, current_cpu};
pub use guest_vmspace::GuestVmspace;
pub use handles::{Entry, HandleTable};
pub use object::{Object, PortRange};
pub use process::{Process, processes_alive};
pub use reaper::start_reaper;
pub use start::start_first_process;
pub use table::{after, by_id};
pub use tests::TESTS;
pub use thread::{Fate, Thread, threads_alive, with_current};
pub use virtual_interrupt::check_handler;
