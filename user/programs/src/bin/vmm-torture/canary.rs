//! RUN with canaries in every register that the call must preserve.

use core::arch::naked_asm;
use core::mem::offset_of;
use dragonet_abi::vmspace::{RunState, VMSPACE_CTL_RUN};
use dragonet_abi::{Errno, SyscallNumber};
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, doing};

/// Registers with canaries: RBX RBP R8 R9 R10 R12 R13 R14 R15.
const COUNT: usize = 9;
const NAMES: [&str; COUNT] = ["rbx", "rbp", "r8", "r9", "r10", "r12", "r13", "r14", "r15"];
/// Direction, trap, nested-task and alignment-check flags, which a vkernel has clear.
const FLAGS: u64 = 1 << 10 | 1 << 8 | 1 << 14 | 1 << 18;

/// What goes into the call, and what comes back.
#[repr(C)]
struct Block {
    canaries: [u64; COUNT],
    number: u64,
    arguments: [u64; 3],
    after: [u64; COUNT],
    /// RDI, RSI, RDX behind the call.
    arguments_after: [u64; 3],
    result: i64,
    flags: u64,
    /// DS, ES, FS, GS.
    selectors: [u64; 4],
}

/// Runs a user as [`vmm_run_user`](dragonet_rt::syscall::vmm_run_user) does. The caller is in guest mode.
pub fn run(root: u64, state: &mut RunState, random: &mut Random) -> Outcome {
    let canaries = core::array::from_fn(|_| random.next_number());
    let arguments = [root, VMSPACE_CTL_RUN, core::ptr::from_mut(state) as u64];
    let mut block = Block {
        canaries,
        number: SyscallNumber::VmspaceCtl as u64,
        arguments,
        after: [0; COUNT],
        arguments_after: [0; 3],
        result: 0,
        flags: 0,
        selectors: [0; 4],
    };
    // SAFETY: the call writes `state`, which is borrowed, and `block`.
    unsafe { call(&mut block) };
    for ((name, before), after) in NAMES.iter().zip(canaries).zip(block.after) {
        demand!(
            before == after,
            "a vkernel's {name} was {before:#x}, and after RUN {after:#x}"
        );
    }
    demand!(
        block.arguments_after == arguments,
        "the arguments of RUN were {arguments:#x?}, and after it {:#x?}",
        block.arguments_after
    );
    demand!(
        block.flags & FLAGS == 0,
        "a vkernel's flags after RUN are {:#x}",
        block.flags
    );
    demand!(
        block.selectors == [0; 4],
        "a vkernel's selectors in DS, ES, FS, GS after RUN are {:x?}",
        block.selectors
    );
    Errno::decode(block.result)
        .map(drop)
        .map_err(doing("running a user"))
}

/// # Safety
/// 1. The system call in `block` changes memory only that the caller has borrowed for it; the thread is in guest mode.
#[unsafe(naked)]
unsafe extern "C" fn call(block: &mut Block) {
    naked_asm!(
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15", "push rdi",
        "mov rbx, [rdi]", "mov rbp, [rdi + 8]", "mov r8, [rdi + 16]", "mov r9, [rdi + 24]", "mov r10, [rdi + 32]",
        "mov r12, [rdi + 40]", "mov r13, [rdi + 48]", "mov r14, [rdi + 56]", "mov r15, [rdi + 64]",
        "mov rax, [rdi + {number}]",
        "mov rsi, [rdi + {arguments} + 8]", "mov rdx, [rdi + {arguments} + 16]", "mov rdi, [rdi + {arguments}]",
        "vmcall",
        "xchg rdi, [rsp]",
        "pushfq", "pop qword ptr [rdi + {flags}]", "cld",
        "mov [rdi + {after}], rbx", "mov [rdi + {after} + 8], rbp", "mov [rdi + {after} + 16], r8",
        "mov [rdi + {after} + 24], r9", "mov [rdi + {after} + 32], r10", "mov [rdi + {after} + 40], r12",
        "mov [rdi + {after} + 48], r13", "mov [rdi + {after} + 56], r14", "mov [rdi + {after} + 64], r15",
        "mov [rdi + {result}], rax",
        "mov [rdi + {arguments_after} + 8], rsi", "mov [rdi + {arguments_after} + 16], rdx",
        "pop rax", "mov [rdi + {arguments_after}], rax",
        "mov eax, ds", "mov [rdi + {selectors}], rax", "mov eax, es", "mov [rdi + {selectors} + 8], rax",
        "mov eax, fs", "mov [rdi + {selectors} + 16], rax", "mov eax, gs", "mov [rdi + {selectors} + 24], rax",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "ret",
        number = const offset_of!(Block, number),
        arguments = const offset_of!(Block, arguments),
        after = const offset_of!(Block, after),
        arguments_after = const offset_of!(Block, arguments_after),
        result = const offset_of!(Block, result),
        flags = const offset_of!(Block, flags),
        selectors = const offset_of!(Block, selectors),
    )
}

/// The words at the bases of FS and GS, which the caller has set to addresses of its memory.
pub fn words_at_bases() -> (u64, u64) {
    let (fs, gs): (u64, u64);
    // SAFETY: at worst the process ends.
    unsafe {
        core::arch::asm!("mov {}, fs:[0]", "mov {}, gs:[0]", out(reg) fs, out(reg) gs, options(nostack, readonly, preserves_flags));
    }
    (fs, gs)
}
