//! The model-specific registers of SYSCALL and SYSRET (SDM 3A 5.8.8).

use super::entry::syscall_entry;
use super::segments::{KERNEL_CODE, SYSRET_BASE};
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{LStar, SFMask, Star};
use x86_64::registers::rflags::RFlags;

/// Flags that SYSCALL clears: interrupts off until the stack is the kernel's, string operations forward, no single step in
/// the kernel, SMAP in force, and nothing left that would disturb an IRET.
const CLEARED_FLAGS: RFlags = RFlags::INTERRUPT_FLAG
    .union(RFlags::DIRECTION_FLAG)
    .union(RFlags::TRAP_FLAG)
    .union(RFlags::ALIGNMENT_CHECK)
    .union(RFlags::NESTED_TASK)
    .union(RFlags::RESUME_FLAG)
    .union(RFlags::IOPL_LOW)
    .union(RFlags::IOPL_HIGH);

/// Sets the registers of this CPU.
pub(super) fn init() {
    // SAFETY: the selectors stand in every CPU's descriptor table in the order that the two instructions count on.
    unsafe { Star::write_raw(SYSRET_BASE, KERNEL_CODE) };
    LStar::write(VirtAddr::from_ptr(syscall_entry as *const ()));
    SFMask::write(CLEARED_FLAGS);
}
