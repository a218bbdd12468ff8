//! Intel VMX: the instructions, and the way into a guest and back.
//!
//! Everything here is one instruction or one crossing; what to do when is the business of `crate::vmm::vmx`, the only user. Values
//! prove what the instructions ask for: [`VmxOn`] that this CPU is in VMX operation (with interrupts off, so that it
//! stays this CPU), [`Current`] that a VMCS is current on it.
//!
//! References "SDM 3C 25.2" are to the Intel manual, volume and section.

mod cpu_state;
mod entry;
pub mod host;
mod instructions;
pub mod recorded;
pub mod tlb;
#[cfg(debug_assertions)]
mod write_counts;

pub use cpu_state::{load, on, release, turn_off, turn_on};
pub use entry::{GuestRegisters, enter, exit_address};
pub use instructions::{Current, Failure, VmxOn};
#[cfg(debug_assertions)]
pub use write_counts::writes_of;
