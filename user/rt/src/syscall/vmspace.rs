//! Address spaces other than the caller's own.

use super::raw::call;
use crate::OwnedHandle;
use dragonet_abi::memory::{Advice, Inheritance, MapRequest, Protection, Vpte};
use dragonet_abi::vmspace::{EntryInfo, RunState, VMSPACE_CTL_RUN, VmspaceInfo};
use dragonet_abi::{Errno, Handle, SyscallNumber};

/// A new, empty vmspace.
///
/// # Errors
/// `EBADF`, `EPERM` (VKERNEL), `ENOMEM`, `EMFILE`.
pub fn vmspace_create(system: Handle) -> Result<OwnedHandle, Errno> {
    // SAFETY: the call only makes a handle.
    unsafe { call(SyscallNumber::VmspaceCreate, [u64::from(system.0)]) }.map(OwnedHandle::from_result)
}

/// Destroys a vmspace and closes its handle, which is given back when that fails. Threads that run in it return from RUN with
/// `RUN_DESTROYED`; when the last one has, everything in it is freed.
///
/// # Errors
/// `EBADF` if it was destroyed already, `EPERM` (MANAGE), `EINVAL` for a process's own.
pub fn vmspace_destroy(vmspace: OwnedHandle) -> Result<(), (OwnedHandle, Errno)> {
    // SAFETY: vmspaces made by `vmspace_create` are not this program's own memory.
    match unsafe { call(SyscallNumber::VmspaceDestroy, [u64::from(vmspace.get().0)]) } {
        Ok(_) => {
            let _ = vmspace.into_raw();
            Ok(())
        }
        Err(errno) => Err((vmspace, errno)),
    }
}

/// Runs a user in a vmspace with the registers in `state` until something happens, see [`RunState`].
///
/// # Errors
/// `EBADF`, `EPERM` (RUN), `EINVAL` for registers that cannot be.
pub fn vmspace_ctl_run(vmspace: Handle, state: &mut RunState) -> Result<(), Errno> {
    let arguments = [
        u64::from(vmspace.0),
        VMSPACE_CTL_RUN,
        core::ptr::from_mut(state) as u64,
    ];
    // SAFETY: the kernel restores this thread's registers and vmspace before it returns, and writes only `state`.
    unsafe { call(SyscallNumber::VmspaceCtl, arguments) }.map(drop)
}

/// Maps memory in a vmspace and returns its address.
///
/// # Errors
/// `EBADF`, `EPERM` (MANAGE), and those of `mmap`.
pub fn vmspace_mmap(vmspace: Handle, request: &MapRequest) -> Result<u64, Errno> {
    // SAFETY: the kernel only reads the request; the memory concerned is another vmspace's.
    unsafe {
        call(
            SyscallNumber::VmspaceMmap,
            [u64::from(vmspace.0), core::ptr::from_ref(request) as u64],
        )
    }
}

/// Unmaps a range of a vmspace.
///
/// # Errors
/// `EBADF`, `EPERM` (MANAGE), `EINVAL`.
pub fn vmspace_munmap(vmspace: Handle, address: u64, length: u64) -> Result<(), Errno> {
    // SAFETY: the memory concerned is another vmspace's.
    unsafe {
        call(
            SyscallNumber::VmspaceMunmap,
            [u64::from(vmspace.0), address, length],
        )
    }
    .map(drop)
}

/// Changes the protection of a range of a vmspace.
///
/// # Errors
/// `EBADF`, `EPERM` (MANAGE), and those of `mprotect`.
pub fn vmspace_mprotect(
    vmspace: Handle,
    address: u64,
    length: u64,
    protection: Protection,
) -> Result<(), Errno> {
    let arguments = [
        u64::from(vmspace.0),
        address,
        length,
        u64::from(protection.bits()),
    ];
    // SAFETY: the memory concerned is another vmspace's.
    unsafe { call(SyscallNumber::VmspaceMprotect, arguments) }.map(drop)
}

/// As `mcontrol`, for a vmspace.
///
/// # Errors
/// `EBADF`, `EPERM` (MANAGE), and those of `mcontrol`.
pub fn vmspace_mcontrol(
    vmspace: Handle,
    address: u64,
    length: u64,
    advice: Advice,
    value: Vpte,
) -> Result<(), Errno> {
    let arguments = [u64::from(vmspace.0), address, length, advice as u64, value.0];
    // SAFETY: the memory concerned is another vmspace's.
    unsafe { call(SyscallNumber::VmspaceMcontrol, arguments) }.map(drop)
}

/// Reads memory of a vmspace; returns how many bytes were read, fewer at the first bad page.
///
/// # Errors
/// `EBADF`, `EPERM` (READ), `EFAULT` if the first page is bad.
pub fn vmspace_pread(vmspace: Handle, buffer: &mut [u8], address: u64) -> Result<usize, Errno> {
    let arguments = [
        u64::from(vmspace.0),
        buffer.as_mut_ptr() as u64,
        buffer.len() as u64,
        address,
    ];
    // SAFETY: the kernel writes at most `buffer.len()` bytes into `buffer`.
    unsafe { call(SyscallNumber::VmspacePread, arguments) }.map(|count| count as usize)
}

/// Writes memory of a vmspace; returns how many bytes were written, fewer at the first bad page.
///
/// # Errors
/// `EBADF`, `EPERM` (WRITE), `EFAULT` if the first page is bad.
pub fn vmspace_pwrite(vmspace: Handle, buffer: &[u8], address: u64) -> Result<usize, Errno> {
    let arguments = [
        u64::from(vmspace.0),
        buffer.as_ptr() as u64,
        buffer.len() as u64,
        address,
    ];
    // SAFETY: the kernel only reads `buffer`; the memory written is another vmspace's.
    unsafe { call(SyscallNumber::VmspacePwrite, arguments) }.map(|count| count as usize)
}

/// Lists mappings of a vmspace from the one that contains `address` on, or the next; returns how many rows were written, 0 at
/// the end. Go on at the end of the last one, also if there are fewer than `rows` has room for.
///
/// # Errors
/// `EBADF`, `EPERM` (READ), `ENOMEM`, `EINTR` if this thread is being ended.
pub fn vmspace_entries(vmspace: Handle, address: u64, rows: &mut [EntryInfo]) -> Result<usize, Errno> {
    let arguments = [
        u64::from(vmspace.0),
        address,
        rows.as_mut_ptr() as u64,
        rows.len() as u64,
    ];
    // SAFETY: the kernel writes at most `rows.len()` records, any bit pattern of which is valid.
    unsafe { call(SyscallNumber::VmspaceEntries, arguments) }.map(|count| count as usize)
}

/// Totals of a vmspace that `process` has created, from `position` on, which is 0 at first; and where to go on.
///
/// # Errors
/// `EBADF`, `EPERM` (MANAGE), `ENOENT` behind the last one.
pub fn vmspace_list(process: Handle, position: u64) -> Result<(u64, VmspaceInfo), Errno> {
    let mut info = VmspaceInfo::default();
    let arguments = [u64::from(process.0), position, &raw mut info as u64];
    // SAFETY: the kernel writes one record, any bit pattern of which is valid.
    let next = unsafe { call(SyscallNumber::VmspaceList, arguments)? };
    Ok((next, info))
}

/// Fills the empty vmspace `target` with a copy of `source`. Private memory is copied when one side writes to it.
///
/// # Errors
/// `EBADF`, `EPERM` (READ and MANAGE on the source, MANAGE on the target), `EINVAL` if both are one, `EBUSY` if the target is not
/// empty, `ENOMEM`.
pub fn vmspace_fork(source: Handle, target: Handle) -> Result<(), Errno> {
    // SAFETY: the source's contents stay as they are; a target with memory that somebody relies on is refused.
    unsafe {
        call(
            SyscallNumber::VmspaceFork,
            [u64::from(source.0), u64::from(target.0)],
        )
    }
    .map(drop)
}

/// As `minherit`, for a vmspace.
///
/// # Errors
/// `EBADF`, `EPERM` (MANAGE), and those of `minherit`.
pub fn vmspace_minherit(
    vmspace: Handle,
    address: u64,
    length: u64,
    inheritance: Inheritance,
) -> Result<(), Errno> {
    let arguments = [u64::from(vmspace.0), address, length, inheritance as u64];
    // SAFETY: the call changes no memory.
    unsafe { call(SyscallNumber::VmspaceMinherit, arguments) }.map(drop)
}
