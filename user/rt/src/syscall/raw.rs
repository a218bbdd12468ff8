//! The instruction that makes a system call: `syscall`, or `vmcall` in guest mode, which the selector in CS tells.

use core::arch::asm;
use dragonet_abi::channel::{Message, MessageInfo};
use dragonet_abi::vmm::GUEST_CODE_SELECTOR;
use dragonet_abi::{Errno, SyscallNumber};

/// The instruction for the mode that the thread is in. RCX is changed by `syscall` anyway. Needs the operand `guest`, the selector that
/// CS has in guest mode.
macro_rules! system_call {
    () => {
        "mov ecx, cs
        cmp ecx, {guest}
        je 2f
        syscall
        jmp 3f
        2:
        vmcall
        3:"
    };
}

pub(crate) use system_call;

/// Makes any system call, even one that does not exist, and returns `rax` as it came back.
///
/// # Safety
/// 1. The call must not take away, change or make writable memory that the program's Rust code relies on.
/// 2. The call must not direct this thread or another one of this process to code that breaks Rust's rules.
#[inline(always)]
pub unsafe fn call_number(number: u64, arguments: [u64; 6]) -> i64 {
    let result: i64;
    // SAFETY: the kernel changes rax, rcx and r11 and, of memory, what the call says; the caller answers for the latter.
    unsafe {
        asm!(
            system_call!(),
            inlateout("rax") number as i64 => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            in("r9") arguments[5],
            out("rcx") _,
            lateout("r11") _,
            guest = const GUEST_CODE_SELECTOR,
            options(nostack),
        );
    }
    result
}

/// Makes a system call with up to six arguments.
///
/// # Errors
/// What the kernel answered.
///
/// # Safety
/// As for [`call_number`].
#[inline(always)]
pub unsafe fn call<const COUNT: usize>(number: SyscallNumber, arguments: [u64; COUNT]) -> Result<u64, Errno> {
    const { assert!(COUNT <= 6) };
    let mut all = [0; 6];
    all[..COUNT].copy_from_slice(&arguments);
    // SAFETY: the caller's promise.
    Errno::decode(unsafe { call_number(number as u64, all) })
}

/// Makes a call of the channel family, which passes a message in registers both ways.
///
/// `second` replaces the message information in `rsi` on the way in (the time-out of `channel_receive`).
///
/// # Errors
/// What the kernel answered.
#[inline(always)]
pub(super) fn call_with_message(
    number: SyscallNumber,
    first: u64,
    second: u64,
    words: [u64; 6],
) -> Result<(u64, Message), Errno> {
    let result: i64;
    let info: u64;
    let mut out = [0; 6];
    // SAFETY: channel calls touch no memory of the caller, only the registers named here.
    unsafe {
        asm!(
            system_call!(),
            inlateout("rax") number as u64 as i64 => result,
            in("rdi") first,
            inlateout("rsi") second => info,
            inlateout("rdx") words[0] => out[0],
            inlateout("r10") words[1] => out[1],
            inlateout("r8") words[2] => out[2],
            inlateout("r9") words[3] => out[3],
            inlateout("r12") words[4] => out[4],
            inlateout("r13") words[5] => out[5],
            out("rcx") _,
            lateout("r11") _,
            guest = const GUEST_CODE_SELECTOR,
            options(nostack),
        );
    }
    let value = Errno::decode(result)?;
    Ok((
        value,
        Message {
            info: MessageInfo(info),
            words: out,
        },
    ))
}

/// Does nothing in the kernel, for measuring.
///
/// # Errors
/// None that the kernel documents.
pub fn null() -> Result<(), Errno> {
    // SAFETY: the call does nothing.
    unsafe { call(SyscallNumber::Null, []) }.map(drop)
}
