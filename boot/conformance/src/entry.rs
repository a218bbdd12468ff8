//! Where the loader enters: the registers are saved before any other code can change them.

use core::arch::naked_asm;
use core::sync::atomic::{AtomicU64, Ordering};

/// What a CPU's registers were at its first instruction: RAX, RBX, RCX, RDX, RSI, RDI, RBP, R8 to R15, RSP, RFLAGS.
pub type Registers = [AtomicU64; 17];

/// Index of RDI, which is the argument of the other CPUs.
pub const RDI: usize = 5;
/// Index of RSP.
pub const RSP: usize = 15;
/// Index of RFLAGS.
pub const FLAGS: usize = 16;

/// Of the boot CPU.
pub static BOOT: Registers = [const { AtomicU64::new(0) }; 17];

/// Reads saved registers.
pub fn read(registers: &Registers, index: usize) -> u64 {
    registers[index].load(Ordering::SeqCst)
}

/// The entry point that the request names.
#[unsafe(naked)]
pub extern "C" fn right_entry() -> ! {
    naked_asm!(
        "mov [rip + {saved} + 0], rax",
        "mov [rip + {saved} + 8], rbx",
        "mov [rip + {saved} + 16], rcx",
        "mov [rip + {saved} + 24], rdx",
        "mov [rip + {saved} + 32], rsi",
        "mov [rip + {saved} + 40], rdi",
        "mov [rip + {saved} + 48], rbp",
        "mov [rip + {saved} + 56], r8",
        "mov [rip + {saved} + 64], r9",
        "mov [rip + {saved} + 72], r10",
        "mov [rip + {saved} + 80], r11",
        "mov [rip + {saved} + 88], r12",
        "mov [rip + {saved} + 96], r13",
        "mov [rip + {saved} + 104], r14",
        "mov [rip + {saved} + 112], r15",
        "mov [rip + {saved} + 120], rsp",
        "pushfq",
        "pop rax",
        "mov [rip + {saved} + 128], rax",
        "cld",
        "sub rsp, 8",
        "call {main}",
        "ud2",
        saved = sym BOOT,
        main = sym crate::main,
    )
}

/// Where the other CPUs arrive. Their structure's extra argument is the address of a [`Registers`].
#[unsafe(naked)]
pub unsafe extern "C" fn processor_entry(_cpu: &limine::mp::Cpu) -> ! {
    naked_asm!(
        "push rax",
        "mov rax, [rdi + 24]",
        "mov [rax + 8], rbx",
        "mov [rax + 16], rcx",
        "mov [rax + 24], rdx",
        "mov [rax + 32], rsi",
        "mov [rax + 40], rdi",
        "mov [rax + 48], rbp",
        "mov [rax + 56], r8",
        "mov [rax + 64], r9",
        "mov [rax + 72], r10",
        "mov [rax + 80], r11",
        "mov [rax + 88], r12",
        "mov [rax + 96], r13",
        "mov [rax + 104], r14",
        "mov [rax + 112], r15",
        "pop rbx",
        "mov [rax + 0], rbx",
        "mov [rax + 120], rsp",
        "pushfq",
        "pop rbx",
        "mov [rax + 128], rbx",
        "cld",
        "sub rsp, 8",
        "mov rsi, rax",
        "call {arrived}",
        "ud2",
        arrived = sym crate::checks::processors::arrived,
    )
}

/// The entry point in the file, which must not be used.
#[unsafe(no_mangle)]
extern "C" fn wrong_entry() -> ! {
    crate::say!("test entry_point ... FAILED: entered at the file's entry point");
    crate::console::exit(1)
}
