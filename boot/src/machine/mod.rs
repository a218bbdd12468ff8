//! The machine as the stage finds it: entry code, memory, CPUs, interrupt controllers, clocks and ways to show text.
//! The only unsafe code of the stage is in here; `stage.rs` calls it once, on the boot CPU, in the order in which
//! the machine is brought up. Nothing of this runs after the kernel has been entered, except the loop in which the
//! other CPUs wait for the kernel.

pub mod apic;
pub mod clock;
pub mod console;
pub mod cpu;
pub mod display;
pub mod exceptions;
pub mod handoff;
pub mod interrupts;
pub mod memory;
pub mod processors;
pub mod screen;

use core::arch::global_asm;

global_asm!(concat!(
    include_str!("entry.s"),
    "\n",
    include_str!("no_long_mode.s")
));

unsafe extern "C" {
    static stage_start: u8;
    static stage_end: u8;
}

/// The physical range that the stage itself occupies, stacks and tables included.
pub fn stage_range() -> (u64, u64) {
    ((&raw const stage_start) as u64, (&raw const stage_end) as u64)
}
