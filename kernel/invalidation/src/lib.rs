//! The invalidation protocol without a CPU: which CPUs may use old translations, how they are told, when it is over.
//!
//! A [`Space`] is one set of translations: an address space under CR3, a nested page table under EPT, or the linear addresses
//! of a guest. It knows how often something was taken from it (its *generation*) and which CPUs use it now (its *active set*).
//! A CPU remembers for a few spaces up to which generation its caches are clean ([`Local`]). Whoever takes a translation away raises
//! the generation and then tells the active CPUs, through [`Mailbox`]es and interrupts; everyone else finds the raised
//! generation when he comes back.
//!
//! Nothing here touches hardware. Instructions are behind [`Machine`], shared words behind [`Word`], so that one code runs in
//! the kernel, under a model checker, and against a TLB that forgets nothing by itself. Used by the kernel's `pmap`.
//! The argument why it is right is in docs/src/design/memory.md.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod cpu;
mod guest;
mod guest_tags;
mod local;
mod machine;
mod mailbox;
mod space;
mod tags;
mod word;

#[cfg(test)]
mod tests;

pub use cpu::{Cpu, Loaded};
pub use guest::{GuestEntry, GuestTag};
pub use local::Local;
pub use machine::{Event, GuestMachine, Machine};
pub use mailbox::Mailbox;
pub use space::{MAX_CPUS, Space};
pub use tags::TAGS;
pub use word::Word;
