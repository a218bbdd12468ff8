//! Handles.

use super::raw::call;
use crate::OwnedHandle;
use dragonet_abi::handle::HandleInfo;
use dragonet_abi::{Errno, Handle, Rights, SyscallNumber};
use zerocopy::FromZeros;

/// Closes a handle.
///
/// # Errors
/// `EBADF`.
pub fn handle_close(handle: Handle) -> Result<(), Errno> {
    // SAFETY: the call touches no memory (mappings of an object outlive its handles).
    unsafe { call(SyscallNumber::HandleClose, [u64::from(handle.0)]) }.map(drop)
}

/// Another handle for the same object, with these rights.
///
/// # Errors
/// `EBADF`, `EPERM` (DUPLICATE, or rights that the handle lacks), `EMFILE`.
pub fn handle_duplicate(handle: Handle, rights: Rights) -> Result<OwnedHandle, Errno> {
    // SAFETY: the call only makes a handle.
    unsafe {
        call(
            SyscallNumber::HandleDuplicate,
            [u64::from(handle.0), u64::from(rights.bits())],
        )
    }
    .map(OwnedHandle::from_result)
}

/// What a handle names, with which rights.
///
/// # Errors
/// `EBADF`.
pub fn handle_info(handle: Handle) -> Result<HandleInfo, Errno> {
    let mut info = HandleInfo::new_zeroed();
    // SAFETY: the kernel writes one record into `info`.
    unsafe {
        call(
            SyscallNumber::HandleInfo,
            [u64::from(handle.0), &raw mut info as u64],
        )?
    };
    Ok(info)
}
