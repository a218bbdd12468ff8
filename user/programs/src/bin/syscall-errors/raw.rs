//! The one place of this program that is not safe.

use dragonet_rt::syscall;

/// Makes a system call that must fail.
#[allow(unsafe_code)]
pub fn call(number: u64, arguments: [u64; 6]) -> i64 {
    // SAFETY: every case is one that the kernel must refuse, so nothing of this program changes. Where a faulty kernel lets
    // one through, the worst is that the test dies, which is a failure too.
    unsafe { syscall::call_number(number, arguments) }
}
