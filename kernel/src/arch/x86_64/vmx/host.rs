//! What an exit must find again of the host, and what it does not restore.

use crate::arch::irq::IrqsOff;
use core::arch::asm;
use x86_64::instructions::tables;
use x86_64::registers::control::{Cr0, Cr3, Cr4, Efer};
use x86_64::registers::model_specific::{FsBase, GsBase};

use super::super::segments;

/// The host's state that is the same on every CPU and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommonHostState {
    /// CR0.
    pub cr0: u64,
    /// CR4, with VMX on.
    pub cr4: u64,
    /// IA32_EFER.
    pub efer: u64,
}

/// The host's state that belongs to one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuHostState {
    /// Base of GS, this CPU's `CpuLocal`.
    pub gs_base: u64,
    /// Base of the task state segment.
    pub task_base: u64,
    /// Base of the global descriptor table.
    pub gdt_base: u64,
    /// Base of the interrupt descriptor table.
    pub idt_base: u64,
}

/// What of the host's state a thread brings along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadHostState {
    /// CR3 with its identifier.
    pub cr3: u64,
    /// Base of FS: the thread's own, since the kernel does not use it.
    pub fs_base: u64,
}

impl CommonHostState {
    /// As it is now.
    #[must_use]
    pub fn now() -> Self {
        CommonHostState {
            cr0: Cr0::read_raw(),
            cr4: Cr4::read_raw(),
            efer: Efer::read_raw(),
        }
    }
}

impl CpuHostState {
    /// This CPU's.
    #[must_use]
    pub fn now(_irqs: &IrqsOff) -> Self {
        CpuHostState {
            gs_base: GsBase::read().as_u64(),
            task_base: segments::task_state_base(),
            gdt_base: tables::sgdt().base.as_u64(),
            idt_base: tables::sidt().base.as_u64(),
        }
    }
}

impl ThreadHostState {
    /// As it is now.
    #[inline]
    #[must_use]
    pub fn now(_irqs: &IrqsOff) -> Self {
        let (frame, identifier) = Cr3::read_raw();
        ThreadHostState {
            cr3: frame.start_address().as_u64() | u64::from(identifier),
            fs_base: FsBase::read().as_u64(),
        }
    }
}

/// An exit leaves 0xffff in the limits of both descriptor tables (SDM 3C 28.5.2). With the global one that wide a program could load
/// selectors whose descriptors are whatever follows the table in memory.
#[inline]
pub fn restore_descriptor_table(irqs: &IrqsOff) {
    segments::reload(irqs);
}

/// The checks of debug builds after an exit: what the CPU has must be its own.
///
/// # Panics
/// If it is not.
pub fn check(irqs: &IrqsOff, cpu: &CpuHostState, thread: &ThreadHostState) {
    let now = CpuHostState::now(irqs);
    assert!(
        now == *cpu,
        "after an exit the CPU has {now:x?} instead of {cpu:x?}"
    );
    let now = ThreadHostState::now(irqs);
    assert!(
        now == *thread,
        "after an exit the thread has {now:x?} instead of {thread:x?}"
    );
    assert!(!crate::arch::irq::enabled(), "interrupts are on after an exit");
    segments::check_loaded(irqs);
}

/// Calls the kernel's handler of a non-maskable interrupt that ended a guest's run. Its return ends the blocking of further ones,
/// which is in force since the exit (SDM 3C 28.5.5).
pub fn take_non_maskable_interrupt(_irqs: &IrqsOff) {
    // SAFETY: the gate exists and its handler returns.
    unsafe { asm!("int 2") };
}

/// Calls the kernel's handler of a machine check that ended a guest's run.
pub fn take_machine_check(_irqs: &IrqsOff) {
    // SAFETY: the gate exists.
    unsafe { asm!("int 18") };
}
