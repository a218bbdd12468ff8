//! The kernel's code against a fake machine that breaks at the first thing that hardware does not allow.
//!
//! [`members`], [`place`] and [`run_loop`] are tests of one piece each, without other CPUs. For the rest [`hardware`] is what CPUs do with control
//! structures and translations, [`machine`] and [`thread`] join the real code to it, [`program`] says what CPUs do and lets shuttle choose
//! the order: [`random`] programs, [`litmus`] for one question each, [`mutations`] with a [`fault`] planted. [`switch`] turns the hardware on
//! from several callers at once. [`weak_memory`] has the gate under loom.

mod fault;
mod hardware;
mod litmus;
mod machine;
mod members;
mod mutations;
mod place;
mod program;
mod random;
mod run_loop;
mod switch;
mod thread;
mod weak_memory;
