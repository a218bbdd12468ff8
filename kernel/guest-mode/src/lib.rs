//! Guest mode without a CPU: who may be in a guest, where a control structure is, what follows from an exit, and how the hardware is
//! turned on.
//!
//! - [`Place`]: on which CPU a control structure (Intel's VMCS; AMD's VMCB, which CPUs cache too) is, and how it gets to another one.
//! - [`GuestProcess`]: the threads that are guests of one process, and its [`Gate`].
//! - [`cross`]: the way through the gate into the guest and back, in the order that invalidations depend on.
//! - [`run`]: the loop of a thread in guest mode.
//! - [`Switch`]: the hardware on for all CPUs or for none.
//!
//! Nothing here touches hardware, knows a vendor, or depends on how the kernel waits: that is behind traits, as in the
//! crate `invalidation`, on which this builds. The kernel's `vmm` and `trap::guest` implement them, and so does a fake machine on which
//! the tests run the same code. The design record is docs/src/design/vmm.md. "SDM 3C 25.1" is the Intel manual by volume and section.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod entry;
mod exit;
mod gate;
mod members;
mod place;
mod process;
mod run;
mod switch;

#[cfg(test)]
mod tests;

pub use entry::{Border, cross};
pub use exit::{Exit, NestedFault};
pub use gate::Gate;
pub use members::{MAX_MEMBERS, Members, Role};
pub use place::{Loader, Place};
pub use process::{GuestProcess, Lock, Membership};
pub use run::{Backend, Departure, Ending, Exception, Fate, Mode, Provision, Surroundings, run};
pub use switch::{Cpus, Switch, ThisCpu};
