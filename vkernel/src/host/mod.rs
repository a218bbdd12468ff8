//! The machine that the vkernel runs on. Nothing else in the crate speaks to it.
//!
//! `dragonet` is the microkernel, by its system-call interface. `linux` offers the same by ptrace(2), so that the vkernel can be
//! tried and tested on a developer's machine; it is no product. Both give the same functions:
//!
//! - memory: [`map_ram`], [`back_ram`], [`root_image`], [`Vmspace`];
//! - host threads and interrupts: [`spawn_thread`], [`Thread`], [`enable_interrupts`], [`take_interrupts`],
//!   [`wait_for_interrupt`], [`set_timer`], [`thread_yield`], [`sleep_on`], [`wake_sleeper`], [`exit`];
//! - the rest: [`clock`], [`console_read`], [`console_write`], [`CONSOLE_IS_RAW`], [`modes`], [`random_seed`], [`hardware_capabilities`], and the
//!   FPU registers of the calling host thread: [`fpu_layout`], [`load_fpu`], [`store_fpu`].

mod fpu;
mod processor;

/// How programs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A walker of the host reads the page tables in RAM.
    Soft,
    /// The CPUs' threads are guests, whose MMU reads them.
    Exit,
}

#[cfg(target_os = "none")]
mod dragonet;
#[cfg(not(target_os = "none"))]
mod linux;

#[cfg(target_os = "none")]
pub use dragonet::*;
pub use fpu::fpu_layout;
#[cfg(target_os = "none")]
pub use fpu::{load_fpu, store_fpu};
#[cfg(not(target_os = "none"))]
pub use linux::*;
pub use processor::{hardware_capabilities, random_seed};
