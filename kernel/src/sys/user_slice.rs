//! Variable-length user buffers, moved in bounded pieces.

use crate::vm::copy;
use alloc::vec::Vec;
use dragonet_abi::Errno;

/// Bytes that are moved at once through a kernel buffer.
pub const PIECE: usize = 4096;

/// A short run of user bytes, at most `limit`.
///
/// # Errors
/// E2BIG above the limit; EFAULT.
pub fn read_short(address: u64, length: u64, limit: usize) -> Result<Vec<u8>, Errno> {
    let length = usize::try_from(length)
        .ok()
        .filter(|&length| length <= limit)
        .ok_or(Errno::E2BIG)?;
    let mut bytes = zeroed(length)?;
    copy::read_bytes(address, &mut bytes)?;
    Ok(bytes)
}

/// A zeroed kernel buffer.
///
/// # Errors
/// ENOMEM.
pub fn zeroed(length: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(length, 0);
    Ok(bytes)
}
