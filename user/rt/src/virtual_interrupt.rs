//! Virtual interrupts: bits that others, timers and devices post to a thread.
//!
//! Without a handler, [`enable`] lets bits end waits with `EINTR`, and [`syscall::virq_take`] consumes them. With one, see
//! [`set_handler`].

use crate::syscall;
use crate::syscall::raw::system_call;
use core::mem;
use core::sync::atomic::{AtomicUsize, Ordering};
use dragonet_abi::virtual_interrupt::InterruptFrame;
use dragonet_abi::vmm::GUEST_CODE_SELECTOR;
use dragonet_abi::{Errno, SyscallNumber};

/// The program's handler, 0 = none. All threads that enable a handler share it.
static HANDLER: AtomicUsize = AtomicUsize::new(0);

/// From now on these bits end waits of the calling thread; returns the bits that did so far. Removes a handler.
///
/// # Errors
/// None that the kernel documents.
pub fn enable(mask: u64) -> Result<u64, Errno> {
    // SAFETY: without a handler no code of ours is interrupted.
    unsafe { syscall::virq_control(0, mask) }
}

/// Has `handler` called with the delivered bits whenever an enabled bit is posted to the calling thread.
///
/// # Errors
/// None that the kernel documents.
///
/// # Safety
/// 1. The handler may run between any two instructions of the thread: it touches nothing but atomics, and neither allocates
///    nor prints.
/// 2. All threads of the program that have a handler have this same one.
pub unsafe fn set_handler(handler: fn(u64), mask: u64) -> Result<u64, Errno> {
    HANDLER.store(handler as *const () as usize, Ordering::Release);
    // SAFETY: `enter` takes a frame and ends with `virq_return`; the rest is the caller's promise.
    unsafe { syscall::virq_control(enter as *const () as u64, mask) }
}

/// Where the kernel delivers to: `rdi` points at the frame, and every register is restored from it afterwards.
#[unsafe(naked)]
unsafe extern "C" fn enter() -> ! {
    core::arch::naked_asm!(
        "mov rbx, rdi",
        "and rsp, -16",
        "cld",
        "call {dispatch}",
        "mov rdi, rbx",
        "mov eax, {virq_return}",
        system_call!(),
        "ud2",
        dispatch = sym dispatch,
        virq_return = const SyscallNumber::VirqReturn as u64,
        guest = const GUEST_CODE_SELECTOR,
    )
}

extern "C" fn dispatch(frame: &InterruptFrame) {
    let address = HANDLER.load(Ordering::Acquire);
    if address != 0 {
        // SAFETY: only `set_handler` stores here, and it stores a `fn(u64)`.
        let handler = unsafe { mem::transmute::<usize, fn(u64)>(address) };
        handler(frame.bits);
    }
}
