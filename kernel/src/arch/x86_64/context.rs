//! Switching kernel stacks: what a thread keeps while it does not run.

use super::cpu;
use super::entry::exit_to_user;
use super::irq::IrqsOff;
use super::segments;
use super::trap::TrapFrame;
use core::arch::naked_asm;
use core::sync::atomic::Ordering;
use x86_64::VirtAddr;

/// A kernel stack that is not running: everything else is saved on it.
#[derive(Debug)]
#[repr(C)]
pub struct Context {
    stack_pointer: u64,
}

/// What [`switch`] pops, in memory order.
#[repr(C)]
struct Saved {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    rbx: u64,
    rbp: u64,
    return_address: u64,
}

/// A context that will begin at `entry(argument)`, with interrupts off, on the stack below `stack_top`.
///
/// # Panics
/// If `stack_top` is not 16-byte aligned or not in the upper half.
pub fn prepare(stack_top: VirtAddr, entry: extern "C" fn(usize) -> !, argument: usize) -> Context {
    assert!(
        stack_top.is_aligned(16u64) && stack_top.as_u64() >> 63 == 1,
        "not the top of a kernel stack"
    );
    // Two words stay unused, so that the stack is aligned as a call leaves it.
    let saved = stack_top - 16 - size_of::<Saved>() as u64;
    // SAFETY: the caller gives the stack of a thread that does not run yet; a `Saved` fits below its top.
    unsafe {
        saved.as_mut_ptr::<Saved>().write(Saved {
            r15: 0,
            r14: 0,
            r13: argument as u64,
            r12: entry as usize as u64,
            rbx: 0,
            rbp: 0,
            return_address: begin as *const () as u64,
        });
    }
    Context {
        stack_pointer: saved.as_u64(),
    }
}

/// Calls the entry function of a new context. RBP is 0: backtraces end here.
///
/// # Safety
/// 1. Returned to by `switch` from the stack that `prepare` made.
#[unsafe(naked)]
unsafe extern "C" fn begin() {
    naked_asm!("mov rdi, r13", "call r12", "ud2");
}

/// Saves the registers that a function must preserve on the running stack, notes it in `old`, and goes on where `new` left
/// off. Returns when someone switches to `old`.
///
/// # Safety
/// 1. Interrupts are off.
/// 2. `old` may be written, and nobody switches to it before this function has left its stack.
/// 3. `new` was made by [`prepare`] or left by this function, its stack is alive, and no other CPU runs on it.
#[unsafe(naked)]
pub unsafe extern "C" fn switch(old: *mut Context, new: *const Context) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, [rsi]",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    );
}

/// Leaves the kernel through the frame at the top of the current thread's stack, as the first thing that a new thread does.
///
/// # Panics
/// If the frame there is not a program's.
pub fn return_to_user(stack_top: VirtAddr) -> ! {
    let frame = stack_top - size_of::<TrapFrame>() as u64;
    // SAFETY: the caller gives the top of the stack that it runs on, where it placed a frame when it made the thread.
    let is_user = unsafe { (*frame.as_ptr::<TrapFrame>()).is_user() };
    assert!(is_user, "no program's frame at the top of the stack");
    // SAFETY: the frame was just checked, and what is below it on this stack is given up.
    unsafe {
        core::arch::asm!(
            "mov rsp, {frame}",
            "xor ebp, ebp",
            "jmp {exit_to_user}",
            frame = in(reg) frame.as_u64(),
            exit_to_user = sym exit_to_user,
            options(noreturn),
        );
    }
}

/// Sets the stack on which this CPU enters the kernel from user mode: the top of the current thread's.
pub fn set_kernel_stack(irqs: &IrqsOff, top: VirtAddr) {
    cpu::slot(irqs)
        .kernel_stack
        .store(top.as_u64(), Ordering::Relaxed);
    segments::set_interrupt_stack(irqs, top);
}
