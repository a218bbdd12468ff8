//! Address spaces of programs: map entries, memory objects, faults, virtual page tables, copies to and from programs.
//!
//! [`Vmspace`] says what each address means, [`MemoryObject`] has the pages, `pmap` caches the answers for the MMU. `proc`,
//! `sys` and the trap entry call in here; everything given as an address or a length may come straight from a program and
//! is checked here. No function waits for anything but other CPUs, and no lock is held when one returns.
//!
//! `unsafe` is in `copy` alone, which moves bytes between kernel and program.
#![deny(unsafe_code)]

mod advice;
mod alone;
mod around;
#[allow(unsafe_code)]
pub mod copy;
mod fault;
mod fork;
mod inspect;
mod large;
mod object;
mod private;
mod region;
mod reserve;
pub mod tests;
mod transfer;
mod vmspace;
mod vpage;

pub use fault::{Access, FaultError};
pub use fork::fork_while;
pub use object::MemoryObject;
pub use vmspace::{MapArguments, Vmspace, WordKey};

use core::sync::atomic::{AtomicU32, Ordering};

static VMSPACES: AtomicU32 = AtomicU32::new(0);
static OBJECTS: AtomicU32 = AtomicU32::new(0);

/// Vmspaces and memory objects that exist, those inside a vmspace (anonymous memory, private copies) included.
pub fn live_counts() -> (u32, u32) {
    (VMSPACES.load(Ordering::Relaxed), OBJECTS.load(Ordering::Relaxed))
}
