//! Page tables of the machine: the kernel's own mappings, one [`Pmap`] per address space, and the invalidation of
//! translations on every CPU that may hold them.
//!
//! `vm` enters, removes and narrows translations of programs here; the scheduler calls [`switch_to`]; `arch` calls
//! [`on_shootdown`]. What is in a table and how it is walked is the business of the crate `page-table`. A translation is
//! a cache of what `vm` knows: any may be dropped at any time and comes back by a fault.
//!
//! The invalidation protocol is written down, with the argument why it is right, in docs/src/design/memory.md.

mod cause;
mod cpu;
mod hardware;
pub mod kernel_space;
mod space;
mod tables;

pub use cause::Cause;
pub use cpu::{GuestBorder, ask_to_release, invalidate_guest, on_shootdown, serve, switch_to};
pub use kernel_space::{init_kernel, kernel_root, map_device, map_device_as};
pub use space::{
    Claim, Commit, EnterError, Entry, NestedKind, Pmap, RemovedTables, Table, Target, View, new_space_id,
};
