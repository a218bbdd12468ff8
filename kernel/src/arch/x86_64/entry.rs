//! The ways into the kernel and out of it, in assembly.
//!
//! Three rules hold everywhere here. (1) In the kernel GS has this CPU's `CpuLocal`; in user mode the program's base is in
//! GS and the kernel's is swapped out (SDM 3A 5.8.8). (2) Whatever comes from user mode ends up as one [`TrapFrame`]
//! at the top of the thread's kernel stack. (3) AC is clear in the kernel (SMAP is in force), except inside the user copies.
//!
//! NMI, machine check, double fault and debug exceptions can come between a mode change and SWAPGS, when CS is the kernel's and
//! GS still the program's. Their entry asks the GS base itself: the kernel's is in the upper half, a program's never is
//! (`segments::set_user_bases` sees to it, and CR4.FSGSBASE is off so that programs cannot set it themselves). They run
//! on stacks of their own, because between SYSCALL and the change of stacks RSP is the program's.

use super::cpu::{KERNEL_STACK, SMAP, USER_STACK};
use super::segments::{USER_CODE, USER_DATA};
use super::trap::{SYSCALL_VECTOR, TrapFrame};
use core::arch::naked_asm;
use core::mem::offset_of;

/// Exceptions for which the CPU pushes an error code (SDM 3A 6.15), a bit each.
const WITH_ERROR_CODE: u32 =
    1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30;
/// NMI, #DF, #MC: they stay on their stack and may interrupt any instruction of the kernel.
const PARANOID: u32 = 1 << 2 | 1 << 8 | 1 << 18;
/// #DB: like those from the kernel, like any other from a program.
const DEBUG: u32 = 1 << 1;

/// Bytes from one vector's stub to the next.
const STUB_SIZE: u64 = 16;

macro_rules! push_registers {
    () => {
        "push rax
        push rbx
        push rcx
        push rdx
        push rsi
        push rdi
        push rbp
        push r8
        push r9
        push r10
        push r11
        push r12
        push r13
        push r14
        push r15"
    };
}

/// Takes the registers from the frame and drops vector and error code: what is left is what IRETQ pops.
macro_rules! pop_registers {
    () => {
        "pop r15
        pop r14
        pop r13
        pop r12
        pop r11
        pop r10
        pop r9
        pop r8
        pop rbp
        pop rdi
        pop rsi
        pop rdx
        pop rcx
        pop rbx
        pop rax
        add rsp, 16"
    };
}

/// Interrupts do not clear AC by themselves; CLAC is undefined on CPUs without SMAP.
macro_rules! clear_access {
    () => {
        "cmp dword ptr gs:[{smap}], 0
        je 9f
        clac
        9:"
    };
}

/// One stub a vector: completes the frame with error code (0 where the CPU pushes none) and vector.
///
/// # Safety
/// 1. Entered by the CPU through the interrupt descriptor table only, never called.
#[unsafe(naked)]
#[unsafe(link_section = ".text.entry")]
unsafe extern "C" fn vector_stubs() {
    naked_asm!(
        ".balign 16",
        ".set vector, 0",
        ".rept 256",
        ".balign 16",
        ".if vector < 32 && (({with_error_code} >> (vector & 31)) & 1)",
        ".else",
        "pushq $0",
        ".endif",
        "pushq $vector",
        ".if vector < 32 && (({paranoid} >> (vector & 31)) & 1)",
        "jmp {paranoid_entry}",
        ".elseif vector < 32 && (({debug} >> (vector & 31)) & 1)",
        "jmp {debug_entry}",
        ".else",
        "jmp {common_entry}",
        ".endif",
        ".set vector, vector + 1",
        ".endr",
        with_error_code = const WITH_ERROR_CODE,
        paranoid = const PARANOID,
        debug = const DEBUG,
        paranoid_entry = sym paranoid_entry,
        debug_entry = sym debug_entry,
        common_entry = sym common_entry,
        options(att_syntax),
    );
}

/// Address of the stub of a vector, for the interrupt descriptor table.
pub(super) fn stub_address(vector: u8) -> u64 {
    vector_stubs as *const () as u64 + u64::from(vector) * STUB_SIZE
}

/// All exceptions and interrupts that cannot come before SWAPGS.
///
/// # Safety
/// 1. Jumped to from a stub only.
#[unsafe(naked)]
#[unsafe(link_section = ".text.entry")]
unsafe extern "C" fn common_entry() {
    naked_asm!(
        "cld",
        "test byte ptr [rsp + 24], 3",
        "jz 2f",
        "swapgs",
        // Nothing below may run ahead with the wrong GS base (SDM 3A 5.8.8; CVE-2019-1125).
        "lfence",
        "jmp {from_user}",
        "2:",
        "lfence",
        push_registers!(),
        clear_access!(),
        "mov rdi, rsp",
        // A frame record (return address, frame pointer), so that backtraces run on through the interruption.
        "push qword ptr [rdi + {rip}]",
        "push rbp",
        "mov rbp, rsp",
        "call {trap_from_kernel}",
        "add rsp, 16",
        pop_registers!(),
        "iretq",
        smap = const SMAP,
        rip = const offset_of!(TrapFrame, rip),
        from_user = sym from_user,
        trap_from_kernel = sym super::trap::trap_from_kernel,
    );
}

/// Second half of every entry from a program but SYSCALL: on the thread's stack, GS swapped, vector and error code pushed.
///
/// # Safety
/// 1. Jumped to from the entries of this file only.
#[unsafe(naked)]
#[unsafe(link_section = ".text.entry")]
unsafe extern "C" fn from_user() {
    naked_asm!(
        push_registers!(),
        clear_access!(),
        "mov rdi, rsp",
        "xor ebp, ebp",
        "call {trap_from_user}",
        "jmp {exit_to_user}",
        smap = const SMAP,
        trap_from_user = sym super::trap::trap_from_user,
        exit_to_user = sym exit_to_user,
    );
}

/// NMI, #DF, #MC, and #DB in the kernel. On a stack of its own; GS may be anyone's.
///
/// # Safety
/// 1. Jumped to from a stub, or from `debug_entry` with the same stack, only.
#[unsafe(naked)]
#[unsafe(link_section = ".text.entry")]
unsafe extern "C" fn paranoid_entry() {
    naked_asm!(
        "cld",
        push_registers!(),
        "xor ebx, ebx",
        "mov ecx, 0xc0000101", // IA32_GS_BASE
        "rdmsr",
        "test edx, edx",
        "js 2f",
        "swapgs",
        "mov ebx, 1",
        "2:",
        "lfence",
        clear_access!(),
        "mov rdi, rsp",
        "push qword ptr [rdi + {rip}]",
        "push rbp",
        "mov rbp, rsp",
        "call {trap_paranoid}",
        "add rsp, 16",
        "test ebx, ebx",
        "jz 3f",
        "swapgs",
        "3:",
        pop_registers!(),
        // Ends the blocking of NMIs. The handler takes no fault and no breakpoint, so nothing before this has.
        "iretq",
        smap = const SMAP,
        rip = const offset_of!(TrapFrame, rip),
        trap_paranoid = sym super::trap::trap_paranoid,
    );
}

/// #DB. In the kernel it can only be one that MOV SS or POP SS held back until after an entry (SDM 3A 6.8.3;
/// CVE-2018-8897), hence the stack of its own. From a program it moves to the thread's stack and is like any other.
///
/// # Safety
/// 1. Jumped to from a stub only.
#[unsafe(naked)]
#[unsafe(link_section = ".text.entry")]
unsafe extern "C" fn debug_entry() {
    naked_asm!(
        "cld",
        "test byte ptr [rsp + 24], 3",
        "jz {paranoid_entry}",
        "swapgs",
        "lfence",
        "push rax",
        "mov rax, rsp",
        "mov rsp, gs:[{kernel_stack}]",
        "push qword ptr [rax + 56]", // ss
        "push qword ptr [rax + 48]", // rsp
        "push qword ptr [rax + 40]", // rflags
        "push qword ptr [rax + 32]", // cs
        "push qword ptr [rax + 24]", // rip
        "push qword ptr [rax + 16]", // error code
        "push qword ptr [rax + 8]",  // vector
        "mov rax, [rax]",
        "jmp {from_user}",
        kernel_stack = const KERNEL_STACK,
        paranoid_entry = sym paranoid_entry,
        from_user = sym from_user,
    );
}

/// Where SYSCALL goes (SDM 3A 5.8.8). The CPU has put RIP into RCX and RFLAGS into R11 and cleared the flags of FMASK, so
/// interrupts are off; RSP is still the program's.
///
/// # Safety
/// 1. Entered by the SYSCALL instruction only.
#[unsafe(naked)]
#[unsafe(link_section = ".text.entry")]
pub(super) unsafe extern "C" fn syscall_entry() {
    naked_asm!(
        "swapgs",
        "mov gs:[{user_stack}], rsp",
        "mov rsp, gs:[{kernel_stack}]",
        "push {user_data}",
        "push qword ptr gs:[{user_stack}]",
        "push r11",
        "push {user_code}",
        "push rcx",
        "push 0",
        "push {vector}",
        push_registers!(),
        "mov rdi, rsp",
        "xor ebp, ebp",
        "call {syscall_from_user}",
        "jmp {exit_to_user}",
        user_stack = const USER_STACK,
        kernel_stack = const KERNEL_STACK,
        user_data = const USER_DATA,
        user_code = const USER_CODE,
        vector = const SYSCALL_VECTOR,
        syscall_from_user = sym super::trap::syscall_from_user,
        exit_to_user = sym exit_to_user,
    );
}

/// Leaves the kernel through the frame at RSP, which is a program's.
///
/// SYSRET is taken only when `prepare_user_return` says that RCX and R11 are what it will load into RIP and RFLAGS, and that RIP is
/// an address of the lower half: with a non-canonical one it would fault in ring 0 on the program's stack (SDM 2B, SYSRET).
///
/// # Safety
/// 1. RSP points to a frame of a program at the top of the current thread's kernel stack.
#[unsafe(naked)]
#[unsafe(link_section = ".text.entry")]
pub(super) unsafe extern "C" fn exit_to_user() {
    naked_asm!(
        "mov rdi, rsp",
        "call {prepare_user_return}",
        "test al, al",
        "jz 2f",
        pop_registers!(),
        "mov rsp, [rsp + 24]",
        "swapgs",
        "sysretq",
        "2:",
        pop_registers!(),
        "swapgs",
        "iretq",
        prepare_user_return = sym super::trap::prepare_user_return,
    );
}
