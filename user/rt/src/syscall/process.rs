//! Processes.

use super::raw::{call, call_number};
use crate::OwnedHandle;
use dragonet_abi::process::{LimitKind, ProcessInfo, WaitStatus};
use dragonet_abi::{Errno, Handle, Rights, SyscallNumber};

/// A new process with an empty vmspace and no handles.
///
/// # Errors
/// `EINVAL` for a name that is too long, `ENOMEM`, `EMFILE`.
pub fn process_create(name: &str) -> Result<OwnedHandle, Errno> {
    // SAFETY: the kernel only reads the name.
    unsafe {
        call(
            SyscallNumber::ProcessCreate,
            [name.as_ptr() as u64, name.len() as u64],
        )
    }
    .map(OwnedHandle::from_result)
}

/// Starts the first thread of a new process and returns the thread's handle.
///
/// # Errors
/// `EBADF`, `EPERM` (MANAGE), `EBUSY` if it was started already, `EINVAL`.
pub fn process_start(
    process: Handle,
    entry: u64,
    stack_pointer: u64,
    argument: u64,
) -> Result<OwnedHandle, Errno> {
    // SAFETY: what starts is another process.
    unsafe {
        call(
            SyscallNumber::ProcessStart,
            [u64::from(process.0), entry, stack_pointer, argument],
        )
    }
    .map(OwnedHandle::from_result)
}

/// Ends this process at once: nothing is flushed or dropped. [`crate::exit::exit`] is the gentle way.
pub fn process_exit(status: u8) -> ! {
    loop {
        // SAFETY: the call does not return, so nothing of the program goes on.
        unsafe {
            call_number(
                SyscallNumber::ProcessExit as u64,
                [u64::from(status), 0, 0, 0, 0, 0],
            )
        };
    }
}

/// Ends another process. Returns at once; wait for the end.
///
/// # Errors
/// `EBADF`, `EPERM` (KILL), `ESRCH` if it has ended.
pub fn process_kill(process: Handle, status: u8) -> Result<(), Errno> {
    // SAFETY: the call touches no memory.
    unsafe {
        call(
            SyscallNumber::ProcessKill,
            [u64::from(process.0), u64::from(status)],
        )
    }
    .map(drop)
}

/// Waits until a process has ended and everything it owned is freed. `timeout` in nanoseconds from now.
///
/// # Errors
/// `EBADF`, `EPERM` (WAIT), `ETIMEDOUT`, `EINTR`.
pub fn process_wait(process: Handle, timeout: u64) -> Result<WaitStatus, Errno> {
    let mut status = WaitStatus::default();
    // SAFETY: the kernel writes one record into `status`.
    unsafe {
        call(
            SyscallNumber::ProcessWait,
            [u64::from(process.0), timeout, &raw mut status as u64],
        )?
    };
    Ok(status)
}

/// The vmspace of a process.
///
/// # Errors
/// `EBADF`, `EPERM` (MANAGE), `EMFILE`.
pub fn process_vmspace(process: Handle) -> Result<OwnedHandle, Errno> {
    // SAFETY: the call only makes a handle.
    unsafe { call(SyscallNumber::ProcessVmspace, [u64::from(process.0)]) }.map(OwnedHandle::from_result)
}

/// Copies a handle into another process, with these rights; returns its number there.
///
/// # Errors
/// `EBADF`, `EPERM` (MANAGE on the process, TRANSFER on the handle, rights that it lacks), `EMFILE`.
pub fn process_give(process: Handle, handle: Handle, rights: Rights) -> Result<Handle, Errno> {
    let arguments = [
        u64::from(process.0),
        u64::from(handle.0),
        u64::from(rights.bits()),
    ];
    // SAFETY: the call touches no memory.
    unsafe { call(SyscallNumber::ProcessGive, arguments) }.map(|number| Handle(number as u32))
}

/// Lists processes into `rows` and returns how many were written.
///
/// # Errors
/// `EBADF`, `EPERM` (INSPECT).
pub fn process_list(system: Handle, rows: &mut [ProcessInfo]) -> Result<usize, Errno> {
    let arguments = [u64::from(system.0), rows.as_mut_ptr() as u64, rows.len() as u64];
    // SAFETY: the kernel writes at most `rows.len()` records, any bit pattern of which is valid.
    unsafe { call(SyscallNumber::ProcessList, arguments) }.map(|count| count as usize)
}

/// Opens a process by its id.
///
/// # Errors
/// `EBADF`, `EPERM` (OPEN_PROCESS), `ESRCH`, `EMFILE`.
pub fn process_open(system: Handle, id: u64) -> Result<OwnedHandle, Errno> {
    // SAFETY: the call only makes a handle.
    unsafe { call(SyscallNumber::ProcessOpen, [u64::from(system.0), id]) }.map(OwnedHandle::from_result)
}

/// Sets a limit of a process and returns the old one; with [`LIMIT_READ`](dragonet_abi::process::LIMIT_READ) as value only tells it.
///
/// # Errors
/// `EBADF`, `EPERM` (MANAGE, or a value above the caller's own limit), `EINVAL` for a value above
/// [`NO_LIMIT`](dragonet_abi::process::NO_LIMIT) or for what is only told.
pub fn process_limit(process: Handle, kind: LimitKind, value: u64) -> Result<u64, Errno> {
    // SAFETY: the call touches no memory.
    unsafe {
        call(
            SyscallNumber::ProcessLimit,
            [u64::from(process.0), kind as u64, value],
        )
    }
}
