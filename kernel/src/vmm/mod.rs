//! Guest mode: threads that run their program as a virtual machine in the address space of their process.
//!
//! [`Guest`] is such a thread's state, owned by the call that runs it; [`GuestProcess`] what the guest threads of one process
//! share. The hardware is behind the crate `guest-mode`'s `Backend`, which [`Guest`] is and whose exits are in terms of no vendor: `vmx` has
//! Intel's, and nothing outside of it knows a VMCS. What needs no ring 0 is in that crate, with tests on a fake machine: the run loop,
//! whose surroundings are in `trap::guest`, the members and the gate, the order of an entry, where a VMCS is, and on and off. `sys`
//! makes and ends guests.
//!
//! The design record is docs/src/design/vmm.md.
#![deny(unsafe_code)]

mod exit;
mod guest;
mod process;
#[allow(unsafe_code)]
mod vmx;

pub use exit::{Exit, NestedFault};
pub use guest::{Guest, User, check_root};
pub use guest_mode::Role;
pub use process::{GuestProcess, new_guest_process};
pub use vmx::{ALONE, TESTS, registers_of_cpu, support};
