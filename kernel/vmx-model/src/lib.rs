//! Intel VMX without a CPU: everything about it that needs no ring 0.
//!
//! [`Field`] names the fields of a VMCS; [`capability`] decodes what a CPU allows, refuses with reasons, compares CPUs and reports;
//! [`controls`] negotiates the controls of our guest threads; [`exit`] decodes exits and holds the table of what is done about each;
//! [`checker`] applies the manual's rules for VM entries to a VMCS and blames a field; [`cpuid`] decides what a guest sees of CPUID.
//! With the feature `mutations`, [`mutation`] is a table of ways to break a VMCS, each with the field to blame.
//!
//! The kernel's `vmm::vmx` is the caller; it executes the instructions. Nothing here allocates, panics on input, or reads the machine:
//! values come in through [`Msrs`], [`cpuid::Cpuid`] and [`Vmcs`].
//!
//! References like "SDM 3C 27.3.1.2" are to the Intel 64 and IA-32 Architectures Software Developer's Manual, volume and section, in
//! the numbering in which chapter 25 is the VMCS, 27 VM entries and 28 VM exits.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod capability;
pub mod checker;
pub mod controls;
pub mod cpuid;
mod ept_pointer;
pub mod exit;
mod field;
mod image;
mod instruction_error;
mod msr;
#[cfg(any(test, feature = "mutations"))]
pub mod mutation;

#[cfg(test)]
mod tests;

pub use capability::Capabilities;
pub use ept_pointer::EptPointer;
pub use field::{Field, Kind, Width};
pub use image::{Vmcs, VmcsImage};
pub use instruction_error::instruction_error;
pub use msr::{Msr, Msrs};
