//! The scheduler: per-CPU queues of ready threads, preemption by priority and quantum, parking, timers, idle.
//!
//! A thread is whatever implements [`Schedulable`]; processes are a layer above and unknown here. There is no global lock:
//! a wake-up touches the queue of one CPU. Kernel code is never preempted; a thread gives up its CPU on the way back to user mode,
//! or where it parks. Used by `ipc`, `proc`, `sys` and the trap entry.
#![deny(unsafe_code)]

mod cpu;
mod current;
mod kernel_thread;
mod park;
mod switch;
mod task;
mod tests;
mod timer;
mod wait_queue;

pub use cpu::{init, make_ready, online_mask};
pub use current::{current, with_current};
pub use kernel_thread::{KernelThread, begin_thread, spawn_kernel_thread};
pub use park::{park, unpark};
pub use switch::{
    end_current, idle_loop, move_if_needed, offer, preempt_if_due, reconsider, request_attention,
    reschedule_request, yield_now,
};
pub use task::{Schedulable, State, Task};
pub use tests::TESTS;
pub use timer::{TimerKey, on_timer_interrupt, start_timer, stop_timer};
pub use wait_queue::WaitQueue;

/// Bits of `CpuLocal::work`, looked at before a CPU returns to user mode.
pub mod work {
    /// Another thread should run.
    pub const RESCHEDULE: u32 = 1;
    /// The current thread has something pending: a kill, a virtual interrupt, a time-out.
    pub const ATTENTION: u32 = 2;
}

/// Nanoseconds that a thread runs while others of its priority wait.
pub const QUANTUM: u64 = 10_000_000;
