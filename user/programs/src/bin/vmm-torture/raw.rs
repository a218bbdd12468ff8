//! Calls that are to be refused.

use dragonet_abi::{Errno, SyscallNumber};
use dragonet_rt::syscall;

/// Makes a call with arguments that the kernel must refuse.
///
/// # Errors
/// Hopefully.
pub fn refused(number: SyscallNumber, arguments: [u64; 3]) -> Result<(), Errno> {
    // SAFETY: a call that is refused does nothing; if one is not, the test has failed, and its caller ends at once.
    unsafe { syscall::call(number, arguments) }.map(drop)
}
