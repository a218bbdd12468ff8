//! Guest mode.

use super::raw::call;
use dragonet_abi::vmm::{GuestOptions, VMM_LEAVE, VMM_RUN, VmxRegisters};
use dragonet_abi::vmspace::{RunState, VMSPACE_CTL_RUN};
use dragonet_abi::{Errno, Handle, SyscallNumber};

/// The calling thread goes on in guest mode.
///
/// # Errors
/// `ENODEV`, `EBUSY`, `ENOENT`, `EAGAIN`, `EINVAL`, `ENOMEM`.
///
/// # Safety
/// 1. The page table at `options.cr3` maps all memory that this thread uses to itself, with the rights that it has in the process, and
///    stays so until the thread leaves guest mode.
pub unsafe fn vmm_guest_run(options: &GuestOptions) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe {
        call(
            SyscallNumber::VmmGuestCtl,
            [VMM_RUN, core::ptr::from_ref(options) as u64],
        )
    }
    .map(drop)
}

/// The calling thread, a guest, goes on as an ordinary thread.
///
/// # Errors
/// `EINVAL` if it is none.
pub fn vmm_guest_leave() -> Result<(), Errno> {
    // SAFETY: this thread's memory was mapped to itself, so it goes on with the same.
    unsafe { call(SyscallNumber::VmmGuestCtl, [VMM_LEAVE]) }.map(drop)
}

/// Exchanges `*new` with the word of a page table at `entry` while no other CPU is in this guest; with no entry, only makes the other CPUs
/// forget the guest's translations.
///
/// # Errors
/// `EINVAL` if the thread is not in guest mode; `EFAULT`.
///
/// # Safety
/// 1. `entry` is a word of a page table that is in no Rust reference, and the change breaks nothing that Rust code relies on.
pub unsafe fn vmm_guest_sync_addr(entry: Option<*mut u64>, new: &mut u64) -> Result<(), Errno> {
    let entry = entry.map_or(0, |entry| entry.expose_provenance() as u64);
    // SAFETY: the caller's promise.
    unsafe {
        call(
            SyscallNumber::VmmGuestSyncAddr,
            [entry, core::ptr::from_mut(new) as u64],
        )
    }
    .map(drop)
}

/// In guest mode: goes on as the user whose page table is at `root`, until something happens, see [`RunState`].
///
/// # Errors
/// `EINVAL` for a root or registers that cannot be; `EBADF` outside of guest mode.
pub fn vmm_run_user(root: u64, state: &mut RunState) -> Result<(), Errno> {
    let arguments = [root, VMSPACE_CTL_RUN, core::ptr::from_mut(state) as u64];
    // SAFETY: the kernel restores this thread's registers before it returns, and writes only `state`. What the user can reach is what its
    // page table names, which whoever wrote that answers for.
    unsafe { call(SyscallNumber::VmspaceCtl, arguments) }.map(drop)
}

/// What CPU number `cpu` says about VMX.
///
/// # Errors
/// `EPERM` (INSPECT); `ENOENT` behind the last CPU.
pub fn vmm_info(system: Handle, cpu: u64) -> Result<VmxRegisters, Errno> {
    let mut registers = VmxRegisters::default();
    // SAFETY: the kernel writes only `registers`.
    unsafe {
        call(
            SyscallNumber::VmmInfo,
            [
                u64::from(system.0),
                cpu,
                core::ptr::from_mut(&mut registers) as u64,
            ],
        )
    }?;
    Ok(registers)
}
