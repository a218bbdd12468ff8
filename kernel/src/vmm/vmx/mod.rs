//! Intel VMX behind the interface of [`crate::vmm`].
//!
//! `capability` asks the CPUs, `operation` turns VMX on and off, `vmcs` keeps a VMCS where it belongs, `state` fills it, `vcpu` enters,
//! `exits` looks at why the guest came back, `dump` explains failures.
//! Decisions that need no hardware are in the crate `vmx-model`.

mod broken;
mod capability;
mod dump;
mod exits;
mod operation;
mod state;
mod tests;
mod vcpu;
mod vmcs;

pub use capability::{physical_end, registers_of_cpu, support};
pub use operation::turn_on;
pub use tests::{ALONE, TESTS};
pub use vcpu::{Context, Vcpu};
