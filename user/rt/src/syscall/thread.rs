//! Threads.

use super::raw::{call, call_number};
use crate::OwnedHandle;
use dragonet_abi::process::ThreadControl;
use dragonet_abi::{Errno, Handle, SyscallNumber};

/// A new thread in this process. `affinity` is a mask of CPUs, 0 = the creator's.
///
/// # Errors
/// `EINVAL`, `ENOMEM`, `EMFILE`, `EAGAIN` at the limit of threads.
///
/// # Safety
/// 1. `entry` is code that may run with `argument` in `rdi` and `stack_pointer` in `rsp`, and never returns.
/// 2. The stack below `stack_pointer` belongs to the new thread until it has ended.
pub unsafe fn thread_create(
    entry: u64,
    stack_pointer: u64,
    argument: u64,
    affinity: u64,
) -> Result<OwnedHandle, Errno> {
    // SAFETY: the caller's promise.
    unsafe {
        call(
            SyscallNumber::ThreadCreate,
            [entry, stack_pointer, argument, affinity],
        )
    }
    .map(OwnedHandle::from_result)
}

/// Ends the calling thread; the last one ends the process with status 0.
pub fn thread_exit() -> ! {
    loop {
        // SAFETY: the call does not return, so nothing of this thread goes on.
        unsafe { call_number(SyscallNumber::ThreadExit as u64, [0; 6]) };
    }
}

/// Reads or changes something about a thread, see [`ThreadControl`].
///
/// # Errors
/// `EBADF`, `EPERM` (MANAGE to change), `EINVAL`.
pub fn thread_control(thread: Handle, operation: ThreadControl, value: u64) -> Result<u64, Errno> {
    // SAFETY: compiled Rust code for this target uses neither FS nor GS, so changing their bases breaks nothing.
    unsafe {
        call(
            SyscallNumber::ThreadControl,
            [u64::from(thread.0), operation as u64, value],
        )
    }
}

/// Lets others of the same priority run.
pub fn thread_yield() {
    // SAFETY: the call touches no memory.
    let _ = unsafe { call(SyscallNumber::ThreadYield, []) };
}

/// Waits until a thread has ended. `timeout` in nanoseconds from now.
///
/// # Errors
/// `EBADF`, `EPERM` (WAIT), `ETIMEDOUT`, `EINTR`.
pub fn thread_wait(thread: Handle, timeout: u64) -> Result<(), Errno> {
    // SAFETY: the call touches no memory.
    unsafe { call(SyscallNumber::ThreadWait, [u64::from(thread.0), timeout]) }.map(drop)
}
