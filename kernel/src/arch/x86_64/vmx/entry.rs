//! Into a guest and back.
//!
//! VMX loads and saves RIP, RSP, RFLAGS, segments and control registers by the VMCS; the other general registers are the business of
//! the code around the entry. The guest's are kept in the thread's trap frame, so that whoever looks at a program's
//! registers looks in one place.

use super::super::cpu;
use super::super::trap::TrapFrame;
use super::instructions::Current;
use core::arch::naked_asm;
use core::mem::offset_of;
use dragonet_abi::counters::Counter;
use vmx_model::Field;

/// What an entry takes and leaves.
#[derive(Debug)]
pub struct GuestRegisters<'thread> {
    /// The general registers but RSP.
    pub frame: &'thread mut TrapFrame,
    /// The value that the field for the host's stack pointer has now; kept up to date.
    pub host_stack: &'thread mut u64,
    /// The VMCS was entered since it was last cleared: VMRESUME, else VMLAUNCH (SDM 3C 25.1).
    pub launched: bool,
}

/// The entry instruction failed; the guest did not run (SDM 3C 27.1, 27.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryFailure;

/// Enters the guest of the current VMCS and returns at its next exit, which may be an entry that failed after the checks of host
/// state (27.8). Interrupts stay off. The caller restores what an exit changes of the host: the limits of the descriptor tables.
///
/// # Errors
/// [`EntryFailure`] if the guest did not run; the VM-instruction error field tells why.
///
/// # Safety
/// 1. The current VMCS has this CPU's host state, with [`exit_address`] as the host's instruction pointer.
/// 2. The guest's state and controls confine it to memory and registers that are its own.
pub unsafe fn enter(_vmcs: &Current<'_>, registers: GuestRegisters<'_>) -> Result<(), EntryFailure> {
    let before = *registers.host_stack;
    // SAFETY: the caller's promises; the pointers are live for the call, and a VMCS is current.
    let failed = unsafe {
        cross(
            registers.frame,
            &raw mut *registers.host_stack,
            u64::from(registers.launched),
        )
    };
    if *registers.host_stack != before {
        cpu::add_events(Counter::VmcsWriteOther, 1);
    }
    if failed == 0 { Ok(()) } else { Err(EntryFailure) }
}

/// What the field for the host's instruction pointer must have.
#[must_use]
pub fn exit_address() -> u64 {
    after_exit as *const () as u64
}

/// A naked function's code, in which `{rax}` and so on are where a trap frame has the registers.
macro_rules! with_frame {
    ($($line:expr,)* => $($operand:tt)*) => {
        naked_asm!(
            $($line,)*
            $($operand)*
            rax = const offset_of!(TrapFrame, rax),
            rbx = const offset_of!(TrapFrame, rbx),
            rcx = const offset_of!(TrapFrame, rcx),
            rdx = const offset_of!(TrapFrame, rdx),
            rsi = const offset_of!(TrapFrame, rsi),
            rdi = const offset_of!(TrapFrame, rdi),
            rbp = const offset_of!(TrapFrame, rbp),
            r8 = const offset_of!(TrapFrame, r8),
            r9 = const offset_of!(TrapFrame, r9),
            r10 = const offset_of!(TrapFrame, r10),
            r11 = const offset_of!(TrapFrame, r11),
            r12 = const offset_of!(TrapFrame, r12),
            r13 = const offset_of!(TrapFrame, r13),
            r14 = const offset_of!(TrapFrame, r14),
            r15 = const offset_of!(TrapFrame, r15),
        )
    };
}

/// Saves what a function must preserve, notes the stack pointer for the exit if it is another one than last time, and enters.
/// Returns 0 after an exit, 1 if the instruction failed.
///
/// # Safety
/// 1. As for [`enter`].
#[unsafe(naked)]
unsafe extern "C" fn cross(frame: *mut TrapFrame, host_stack: *mut u64, launched: u64) -> u64 {
    with_frame!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdi",
        "cmp rsp, [rsi]",
        "je 2f",
        "mov eax, {host_rsp}",
        "vmwrite rax, rsp",
        "jna 4f",
        "mov [rsi], rsp",
        "2:",
        "test edx, edx",
        // From here to the entry no instruction changes the flags.
        "mov rax, [rdi + {rax}]",
        "mov rbx, [rdi + {rbx}]",
        "mov rcx, [rdi + {rcx}]",
        "mov rdx, [rdi + {rdx}]",
        "mov rsi, [rdi + {rsi}]",
        "mov rbp, [rdi + {rbp}]",
        "mov r8, [rdi + {r8}]",
        "mov r9, [rdi + {r9}]",
        "mov r10, [rdi + {r10}]",
        "mov r11, [rdi + {r11}]",
        "mov r12, [rdi + {r12}]",
        "mov r13, [rdi + {r13}]",
        "mov r14, [rdi + {r14}]",
        "mov r15, [rdi + {r15}]",
        "mov rdi, [rdi + {rdi}]",
        "jnz 3f",
        "vmlaunch",
        "jmp 4f",
        "3:",
        "vmresume",
        "4:",
        // The registers may be the guest's already, and those that a function must preserve come from the stack.
        "pop rdi",
        "mov eax, 1",
        "jmp {leave}",
        =>
        host_rsp = const Field::HostRsp.encoding(),
        leave = sym leave,
    );
}

/// Where every exit goes: RSP is as [`cross`] noted it, all other general registers are the guest's, RFLAGS is 2 (SDM 3C 28.5).
///
/// # Safety
/// 1. Entered by a VM exit only.
#[unsafe(naked)]
unsafe extern "C" fn after_exit() {
    with_frame!(
        "xchg rdi, [rsp]",
        "mov [rdi + {rax}], rax",
        "mov [rdi + {rbx}], rbx",
        "mov [rdi + {rcx}], rcx",
        "mov [rdi + {rdx}], rdx",
        "mov [rdi + {rsi}], rsi",
        "mov [rdi + {rbp}], rbp",
        "mov [rdi + {r8}], r8",
        "mov [rdi + {r9}], r9",
        "mov [rdi + {r10}], r10",
        "mov [rdi + {r11}], r11",
        "mov [rdi + {r12}], r12",
        "mov [rdi + {r13}], r13",
        "mov [rdi + {r14}], r14",
        "mov [rdi + {r15}], r15",
        "pop rax",
        "mov [rdi + {rdi}], rax",
        "xor eax, eax",
        "jmp {leave}",
        =>
        leave = sym leave,
    );
}

/// The end of [`cross`]. No register keeps a value of the guest's: nothing that runs ahead can use one.
///
/// # Safety
/// 1. Jumped to from the two functions above only.
#[unsafe(naked)]
unsafe extern "C" fn leave() {
    naked_asm!(
        "xor ecx, ecx",
        "xor edx, edx",
        "xor esi, esi",
        "xor edi, edi",
        "xor r8d, r8d",
        "xor r9d, r9d",
        "xor r10d, r10d",
        "xor r11d, r11d",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    );
}
