//! Guest mode: threads that run their program as a virtual machine in the address space of their process.
//!
//! [`Guest`] is such a thread's state, owned by the call that runs it; [`GuestProcess`] what the guest threads of one process
//! share. The hardware is behind [`Guest::enter`], which returns an [`Exit`] in terms of no vendor: `vmx` has Intel's, and nothing
//! outside of it knows a VMCS. The run loop is in `trap::guest`, because it serves system calls and faults; `sys` makes
//! and ends guests.
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
pub use process::{GuestProcess, Role};
pub use vmx::{registers_of_cpu, support};

/// Guest-physical addresses end here: at the end of a program's addresses, or of the CPU's if that is lower.
fn guest_physical_limit() -> u64 {
    dragonet_abi::vmm::GUEST_PHYSICAL_END.min(crate::mm::physical::address_limit())
}
