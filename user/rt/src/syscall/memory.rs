//! The caller's own address space, and memory objects.

use super::raw::call;
use crate::OwnedHandle;
use dragonet_abi::memory::{Advice, Inheritance, MapRequest, Protection, Vpte};
use dragonet_abi::{Errno, SyscallNumber};

/// Maps memory and returns its address.
///
/// # Errors
/// `EINVAL`, `EACCES` beyond the object's rights, `ENOMEM`, `EBADF`, `EEXIST` with `EXCLUSIVE`.
///
/// # Safety
/// 1. With `FIXED` and without `EXCLUSIVE`, nothing that Rust code relies on is mapped in the range.
pub unsafe fn mmap(request: &MapRequest) -> Result<u64, Errno> {
    let arguments = [
        request.address,
        request.length,
        u64::from(request.protection),
        u64::from(request.flags),
        u64::from(request.object.0),
        request.offset,
    ];
    // SAFETY: the caller's promise.
    unsafe { call(SyscallNumber::Mmap, arguments) }
}

/// Unmaps a range. Holes are allowed.
///
/// # Errors
/// `EINVAL`.
///
/// # Safety
/// 1. No reference into the range exists.
pub unsafe fn munmap(address: u64, length: u64) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { call(SyscallNumber::Munmap, [address, length]) }.map(drop)
}

/// Changes the protection of a range.
///
/// # Errors
/// `EINVAL`, `ENOMEM` if there is a hole, `EACCES` beyond the object's rights, for guards and for what a stack has not grown to.
///
/// # Safety
/// 1. References into the range still allow what they promise afterwards.
pub unsafe fn mprotect(address: u64, length: u64, protection: Protection) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe {
        call(
            SyscallNumber::Mprotect,
            [address, length, u64::from(protection.bits())],
        )
    }
    .map(drop)
}

/// Gives advice about a range; [`Advice::SetMap`] needs [`mcontrol`].
///
/// # Errors
/// `EINVAL`, `ENOMEM` if memory runs out in [`Advice::WillNeed`].
///
/// # Safety
/// 1. With [`Advice::DontNeed`], [`Advice::Free`], and [`Advice::Invalidate`] of memory whose table changed, nothing relies on the contents.
pub unsafe fn madvise(address: u64, length: u64, advice: Advice) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { call(SyscallNumber::Madvise, [address, length, advice as u64]) }.map(drop)
}

/// As [`madvise`], with a value: the root entry for [`Advice::SetMap`].
///
/// # Errors
/// As [`madvise`].
///
/// # Safety
/// 1. As for [`madvise`]; [`Advice::SetMap`] changes what the whole range shows.
pub unsafe fn mcontrol(address: u64, length: u64, advice: Advice, value: Vpte) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { call(SyscallNumber::Mcontrol, [address, length, advice as u64, value.0]) }.map(drop)
}

/// Says what a copy of this vmspace made by `vmspace_fork` has in a range.
///
/// # Errors
/// `EINVAL` for memory of a kind with which that cannot be done, `ENOMEM` if there is a hole.
pub fn minherit(address: u64, length: u64, inheritance: Inheritance) -> Result<(), Errno> {
    // SAFETY: the call changes nothing of this program's memory.
    unsafe { call(SyscallNumber::Minherit, [address, length, inheritance as u64]) }.map(drop)
}

/// A new memory object of `size` bytes, zeroed and sparse.
///
/// # Errors
/// `EINVAL` for 0, `ENOMEM`, `EMFILE`.
pub fn object_create(size: u64) -> Result<OwnedHandle, Errno> {
    // SAFETY: the call only makes a handle.
    unsafe { call(SyscallNumber::ObjectCreate, [size]) }.map(OwnedHandle::from_result)
}
