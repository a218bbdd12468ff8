//! The protocol against hardware that forgets nothing by itself: docs/src/design/adversarial-tlb.md.
//!
//! [`model`] is the hardware, [`oracle`] knows what is true, [`driver`] is a kernel in small that uses the protocol through
//! [`machine`], [`program`] and [`universe`] say what its CPUs do with which addresses, and [`run`] runs that on many schedules.
//! The tests: [`random`] programs, [`litmus`] for one question each, [`mutations`] with a [`fault`] planted, and
//! [`weak_memory`], which needs none of the above.

mod driver;
mod fault;
mod litmus;
mod machine;
mod model;
mod mutations;
mod oracle;
mod program;
mod random;
mod run;
mod universe;
mod weak_memory;
