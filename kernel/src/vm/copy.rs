//! Copies between the kernel and the program whose address space is loaded.
//!
//! An address from a program is a claim. It is checked to lie in the program's half; then it is simply used, and if
//! nothing can be made present there, `arch` abandons the copy and the call fails with EFAULT. What was copied before that
//! stays copied. Interrupts are on and no lock is held: a copy may fault, and the fault may take long.

use crate::arch::user_copy;
use crate::sync::assert_none_held;
use dragonet_abi::Errno;
use dragonet_abi::layout::{USER_END, USER_START};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Checks that `length` bytes at `user` lie in what a program can map. Nothing is known about what is mapped.
///
/// # Errors
/// EFAULT.
pub fn check_range(user: u64, length: u64) -> Result<(), Errno> {
    match user.checked_add(length) {
        Some(end) if user >= USER_START && end <= USER_END => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

fn check_aligned<T>(user: u64) -> Result<(), Errno> {
    if user.is_multiple_of(align_of::<T>() as u64) {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

/// Reads a value.
///
/// # Errors
/// EINVAL if the address is not aligned for `T`; EFAULT if not all of it can be read.
pub fn read<T: FromBytes>(user: u64) -> Result<T, Errno> {
    check_aligned::<T>(user)?;
    check_range(user, size_of::<T>() as u64)?;
    assert_none_held("user copy");
    let mut value = T::new_zeroed();
    let destination: *mut T = &mut value;
    // SAFETY: the destination has the size and any bytes are a valid `T`; the range was checked.
    unsafe { user_copy::copy_in(destination.cast(), user, size_of::<T>()) }.map_err(|()| Errno::EFAULT)?;
    Ok(value)
}

/// Writes a value.
///
/// # Errors
/// EINVAL if the address is not aligned for `T`; EFAULT if not all of it can be written.
pub fn write<T: IntoBytes + Immutable>(user: u64, value: &T) -> Result<(), Errno> {
    check_aligned::<T>(user)?;
    write_bytes(user, value.as_bytes())
}

/// Reads bytes.
///
/// # Errors
/// EFAULT if not all of them can be read.
pub fn read_bytes(user: u64, buffer: &mut [u8]) -> Result<(), Errno> {
    check_range(user, buffer.len() as u64)?;
    assert_none_held("user copy");
    // SAFETY: the destination is a slice of that length; the range was checked.
    unsafe { user_copy::copy_in(buffer.as_mut_ptr(), user, buffer.len()) }.map_err(|()| Errno::EFAULT)
}

/// Writes bytes.
///
/// # Errors
/// EFAULT if not all of them can be written.
pub fn write_bytes(user: u64, bytes: &[u8]) -> Result<(), Errno> {
    check_range(user, bytes.len() as u64)?;
    assert_none_held("user copy");
    // SAFETY: the source is a slice of that length; the range was checked.
    unsafe { user_copy::copy_out(user, bytes.as_ptr(), bytes.len()) }.map_err(|()| Errno::EFAULT)
}

/// Reads a 32-bit word in one access.
///
/// # Errors
/// EINVAL if the address is misaligned; EFAULT.
pub fn load_u32(user: u64) -> Result<u32, Errno> {
    check_aligned::<u32>(user)?;
    check_range(user, size_of::<u32>() as u64)?;
    assert_none_held("user copy");
    // SAFETY: the range was checked.
    unsafe { user_copy::load_u32(user) }.map_err(|()| Errno::EFAULT)
}
