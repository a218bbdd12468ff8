//! Virtual CPUs: the loop that each host thread runs, run queues, timers, FPU state, and waiting.
//!
//! A guest thread is a future that its CPU polls: it runs the program, serves its traps, and awaits when it has to wait. There are no kernel stacks
//! and no context switch; what a thread keeps while it sleeps is what the compiler found to be alive at the await.

pub mod cpu;
pub mod fpu;
pub mod run_queue;
pub mod timers;
pub mod wait;

pub use cpu::Cpu;
