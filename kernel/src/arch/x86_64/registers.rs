//! Special registers, as reports want them.

use core::arch::asm;
use x86_64::registers::control::{Cr0, Cr2, Cr3, Cr4, Efer};

/// The control registers of this CPU.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "register names")]
pub struct ControlRegisters {
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
}

/// Reads the control registers.
pub fn control_registers() -> ControlRegisters {
    ControlRegisters {
        cr0: Cr0::read_raw(),
        cr2: Cr2::read_raw(),
        cr3: Cr3::read_raw().0.start_address().as_u64() | u64::from(Cr3::read_raw().1),
        cr4: Cr4::read_raw(),
        efer: Efer::read_raw(),
    }
}

/// CR2: the address of the last page fault of this CPU.
pub fn fault_address() -> u64 {
    Cr2::read_raw()
}

/// Stack pointer and frame pointer of the calling function.
#[inline(always)]
pub fn stack_and_frame_pointer() -> (u64, u64) {
    let (stack, frame): (u64, u64);
    // SAFETY: reads two registers.
    unsafe {
        asm!("mov {}, rsp", "mov {}, rbp", out(reg) stack, out(reg) frame, options(nomem, nostack, preserves_flags));
    }
    (stack, frame)
}

/// Reads and clears DR6, which the CPU only ever adds to (SDM 3B 18.2.3).
pub(super) fn take_debug_status() -> u64 {
    /// The bits that read as one when nothing has happened.
    const IDLE: u64 = 0xffff_0ff0;
    let status: u64;
    // SAFETY: DR6 only reports; clearing it affects nothing else.
    unsafe {
        asm!("mov {status}, dr6", "mov dr6, {idle}", status = out(reg) status, idle = in(reg) IDLE,
            options(nomem, nostack, preserves_flags));
    }
    status
}
