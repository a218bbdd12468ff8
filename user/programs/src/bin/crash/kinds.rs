//! The ways to die.
//!
//! Manual: Intel SDM volume 3, section 6.15 (exceptions), and in volume 2 the privilege checks of each instruction.
#![allow(unsafe_code)]

use core::arch::asm;
use core::hint::black_box;

/// How a kind should end.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// By one of these exceptions.
    Exception(&'static [u32]),
    /// By itself, with this status.
    Status(u32),
}

/// A way to die.
pub struct Kind {
    pub name: &'static str,
    pub end: End,
    pub act: fn(),
}

const fn kind(name: &'static str, vectors: &'static [u32], act: fn()) -> Kind {
    Kind {
        name,
        end: End::Exception(vectors),
        act,
    }
}

/// A function that executes these instructions.
macro_rules! instructions {
    ($($line:literal),+) => {{
        fn act() {
            // SAFETY: the instructions raise an exception that ends the process, or the test fails.
            unsafe { asm!($($line),+) };
        }
        act as fn()
    }};
}

const DIVIDE: u32 = 0;
const DEBUG: u32 = 1;
const BREAKPOINT: u32 = 3;
const INVALID_OPCODE: u32 = 6;
const STACK: u32 = 12;
const PROTECTION: u32 = 13;
const PAGE: u32 = 14;
const X87: u32 = 16;
const SIMD: u32 = 19;

/// All of them.
pub const KINDS: &[Kind] = &[
    // Instructions of the kernel.
    kind("cli", &[PROTECTION], instructions!("cli")),
    kind("sti", &[PROTECTION], instructions!("sti")),
    kind("hlt", &[PROTECTION], instructions!("hlt")),
    kind("in", &[PROTECTION], instructions!("in al, 0x60")),
    kind("out", &[PROTECTION], instructions!("out 0x80, al")),
    kind(
        "outs",
        &[PROTECTION],
        instructions!("mov edx, 0x3f8", "lea rsi, [rsp]", "outsb"),
    ),
    kind(
        "rdmsr",
        &[PROTECTION],
        instructions!("mov ecx, 0xc0000080", "rdmsr"),
    ),
    kind(
        "wrmsr",
        &[PROTECTION],
        instructions!("mov ecx, 0xc0000080", "xor eax, eax", "xor edx, edx", "wrmsr"),
    ),
    kind("rdpmc", &[PROTECTION], instructions!("xor ecx, ecx", "rdpmc")),
    kind("mov-from-cr0", &[PROTECTION], instructions!("mov rax, cr0")),
    kind(
        "mov-to-cr0",
        &[PROTECTION],
        instructions!("xor eax, eax", "mov cr0, rax"),
    ),
    kind(
        "mov-to-cr3",
        &[PROTECTION],
        instructions!("xor eax, eax", "mov cr3, rax"),
    ),
    kind(
        "mov-to-cr4",
        &[PROTECTION],
        instructions!("xor eax, eax", "mov cr4, rax"),
    ),
    kind(
        "mov-to-dr7",
        &[PROTECTION],
        instructions!("xor eax, eax", "mov dr7, rax"),
    ),
    kind("clts", &[PROTECTION], instructions!("clts")),
    kind("lgdt", &[PROTECTION], instructions!("lgdt [rsp]")),
    kind("lidt", &[PROTECTION], instructions!("lidt [rsp]")),
    kind("lldt", &[PROTECTION], instructions!("xor eax, eax", "lldt ax")),
    kind("ltr", &[PROTECTION], instructions!("mov eax, 0x28", "ltr ax")),
    kind("lmsw", &[PROTECTION], instructions!("xor eax, eax", "lmsw ax")),
    kind("invlpg", &[PROTECTION], instructions!("invlpg [rsp]")),
    kind("invd", &[PROTECTION], instructions!("invd")),
    kind("wbinvd", &[PROTECTION], instructions!("wbinvd")),
    kind("swapgs", &[PROTECTION], instructions!("swapgs")),
    kind(
        "sysret",
        &[PROTECTION],
        instructions!("lea rcx, [rip]", "sysretq"),
    ),
    kind("sysexit", &[PROTECTION, INVALID_OPCODE], instructions!("sysexit")),
    kind(
        "sysenter",
        &[PROTECTION, INVALID_OPCODE],
        instructions!("sysenter"),
    ),
    kind(
        "xsetbv",
        &[PROTECTION, INVALID_OPCODE],
        instructions!("xor ecx, ecx", "mov eax, 1", "xor edx, edx", "xsetbv"),
    ),
    kind("vmcall", &[INVALID_OPCODE], instructions!("vmcall")),
    kind("vmxoff", &[INVALID_OPCODE, PROTECTION], instructions!("vmxoff")),
    kind(
        "vmrun",
        &[INVALID_OPCODE, PROTECTION],
        instructions!("xor eax, eax", "vmrun rax"),
    ),
    kind("interrupt-32", &[PROTECTION], instructions!("int 0x20")),
    kind("interrupt-128", &[PROTECTION], instructions!("int 0x80")),
    kind("interrupt-page-fault", &[PROTECTION], instructions!("int 14")),
    kind("interrupt-double-fault", &[PROTECTION], instructions!("int 8")),
    kind(
        "load-kernel-ss",
        &[PROTECTION],
        instructions!("mov eax, 0x10", "mov ss, ax"),
    ),
    kind(
        "load-bad-ds",
        &[PROTECTION],
        instructions!("mov eax, 0x7ff8", "mov ds, ax"),
    ),
    // QEMU before 9.1 reads the stack of far returns and IRET as supervisor, which SMAP turns into a page fault.
    kind(
        "far-return-to-kernel",
        &[PROTECTION, PAGE],
        instructions!("push 0x8", "lea rax, [rip]", "push rax", "retfq"),
    ),
    kind(
        "iret-to-kernel",
        &[PROTECTION, PAGE],
        instructions!(
            "mov rax, rsp",
            "push 0x10",
            "push rax",
            "push 0x202",
            "push 0x8",
            "lea rax, [rip]",
            "push rax",
            "iretq"
        ),
    ),
    kind(
        "iret-non-canonical",
        &[PROTECTION, STACK, PAGE],
        instructions!(
            "mov rax, rsp",
            "mov ecx, ss",
            "push rcx",
            "push rax",
            "push 0x202",
            "mov ecx, cs",
            "push rcx",
            "mov rax, 0x800000000000",
            "push rax",
            "iretq"
        ),
    ),
    // Instructions of programs.
    kind("breakpoint", &[BREAKPOINT], instructions!("int3")),
    // QEMU's software emulation does not know this instruction.
    kind(
        "debug-instruction",
        &[DEBUG, INVALID_OPCODE],
        instructions!(".byte 0xf1"),
    ),
    kind(
        "single-step",
        &[DEBUG],
        instructions!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop", "nop"),
    ),
    kind("invalid-opcode", &[INVALID_OPCODE], instructions!("ud2")),
    kind(
        "divide",
        &[DIVIDE],
        instructions!("xor ecx, ecx", "xor edx, edx", "mov eax, 1", "div ecx"),
    ),
    kind(
        "divide-overflow",
        &[DIVIDE],
        instructions!("mov edx, 1", "xor eax, eax", "mov ecx, 1", "div ecx"),
    ),
    kind(
        "x87",
        &[X87],
        instructions!(
            "sub rsp, 8",
            "mov word ptr [rsp], 0x37b",
            "fldcw [rsp]",
            "fld1",
            "fldz",
            "fdivp",
            "fwait"
        ),
    ),
    // QEMU's software emulation never raises this exception; the program then ends by the instruction behind.
    kind(
        "simd",
        &[SIMD, INVALID_OPCODE],
        instructions!(
            "mov dword ptr [rsp - 8], 0x1d80",
            "ldmxcsr [rsp - 8]",
            "xorps xmm0, xmm0",
            "divss xmm0, xmm0",
            "ud2"
        ),
    ),
    // Jumps.
    kind("jump-null", &[PAGE], instructions!("xor eax, eax", "jmp rax")),
    kind(
        "jump-unmapped",
        &[PAGE],
        instructions!("mov rax, 0x666666660000", "jmp rax"),
    ),
    kind(
        "jump-kernel",
        &[PAGE],
        instructions!("mov rax, 0xffffffff80000000", "jmp rax"),
    ),
    kind(
        "jump-direct-map",
        &[PAGE],
        instructions!("mov rax, 0xffff800000100000", "jmp rax"),
    ),
    kind(
        "jump-non-canonical",
        &[PROTECTION],
        instructions!("mov rax, 0x800000000000", "jmp rax"),
    ),
    kind(
        "jump-end-of-user-space",
        &[PAGE],
        instructions!("mov rax, 0x7fffffffefff", "jmp rax"),
    ),
    kind("execute-data", &[PAGE], execute_data),
    kind("execute-stack", &[PAGE], instructions!("push 0xc3", "jmp rsp")),
    // Accesses.
    kind(
        "read-null",
        &[PAGE],
        instructions!("xor eax, eax", "mov al, [rax]"),
    ),
    kind(
        "write-null",
        &[PAGE],
        instructions!("xor eax, eax", "mov [rax], al"),
    ),
    kind(
        "read-kernel",
        &[PAGE],
        instructions!("mov rax, 0xffffffff80000000", "mov al, [rax]"),
    ),
    kind(
        "write-kernel",
        &[PAGE],
        instructions!("mov rax, 0xffffffff80000000", "mov [rax], al"),
    ),
    kind(
        "read-direct-map",
        &[PAGE],
        instructions!("mov rax, 0xffff800000100000", "mov al, [rax]"),
    ),
    kind(
        "read-non-canonical",
        &[PROTECTION],
        instructions!("mov rax, 0x800000000000", "mov al, [rax]"),
    ),
    kind(
        "write-text",
        &[PAGE],
        instructions!("lea rax, [rip]", "mov byte ptr [rax], 0xc3"),
    ),
    kind("write-constant", &[PAGE], write_constant),
    // The stack.
    kind("stack-overflow", &[PAGE], overflow_stack),
    kind("thread-stack-overflow", &[PAGE], overflow_thread_stack),
    kind("stack-null", &[PAGE], instructions!("xor esp, esp", "push rax")),
    kind(
        "stack-kernel",
        &[PAGE],
        instructions!("mov rsp, 0xffffffff80001000", "push rax"),
    ),
    kind(
        "stack-non-canonical",
        &[STACK, PROTECTION],
        instructions!("mov rsp, 0x800000001000", "push rax"),
    ),
    kind(
        "exception-on-kernel-stack-pointer",
        &[INVALID_OPCODE],
        instructions!("mov rsp, 0xffffffff80001000", "ud2"),
    ),
    // System calls with registers that a careless kernel would trust.
    kind(
        "syscall-kernel-stack",
        &[PAGE],
        instructions!(
            "mov rsp, 0xffffffff80001000",
            "xor eax, eax",
            "syscall",
            "push rax"
        ),
    ),
    kind(
        "syscall-non-canonical-stack",
        &[STACK, PROTECTION],
        instructions!("mov rsp, 0x800000001000", "xor eax, eax", "syscall", "push rax"),
    ),
    kind(
        "syscall-single-step",
        &[DEBUG],
        instructions!(
            "pushfq",
            "or qword ptr [rsp], 0x100",
            "xor eax, eax",
            "popfq",
            "syscall",
            "nop",
            "nop"
        ),
    ),
    kind(
        "syscall-nested-task-and-direction",
        &[INVALID_OPCODE],
        instructions!(
            "pushfq",
            "or qword ptr [rsp], 0x44400",
            "popfq",
            "xor eax, eax",
            "syscall",
            "ud2"
        ),
    ),
    // MOV SS holds a debug exception back until after the next instruction, which here enters the kernel (SDM volume 3, 6.8.3).
    kind(
        "move-to-ss-before-syscall",
        &[DEBUG],
        instructions!(
            "mov ecx, ss",
            "pushfq",
            "or qword ptr [rsp], 0x100",
            "xor eax, eax",
            "popfq",
            "mov ss, ecx",
            "syscall",
            "nop",
            "nop"
        ),
    ),
    kind(
        "move-to-ss-before-breakpoint",
        &[BREAKPOINT, DEBUG],
        instructions!(
            "mov ecx, ss",
            "pushfq",
            "or qword ptr [rsp], 0x100",
            "popfq",
            "mov ss, ecx",
            "int3"
        ),
    ),
    Kind {
        name: "panic",
        end: End::Status(101),
        act: || panic!("as wished"),
    },
];

fn execute_data() {
    static RETURN: core::sync::atomic::AtomicU8 = core::sync::atomic::AtomicU8::new(0xc3);
    // SAFETY: calling data faults; were it executable, it would be a function that returns at once.
    unsafe { asm!("call {}", in(reg) RETURN.as_ptr(), clobber_abi("C")) };
}

fn write_constant() {
    static CONSTANT: [u8; 8] = *b"constant";
    // SAFETY: the write faults, because constants are in read-only memory.
    unsafe { asm!("mov byte ptr [{}], 0", in(reg) black_box(&CONSTANT).as_ptr()) };
}

fn overflow_stack() {
    black_box(recurse(black_box(1)));
}

/// In a thread, whose stack is where other mappings are.
fn overflow_thread_stack() {
    let _ = dragonet_rt::thread::spawn(overflow_stack).map(dragonet_rt::thread::JoinHandle::join);
}

/// Never ends, and uses stack for every step.
#[expect(unconditional_recursion, reason = "that is what it is for")]
fn recurse(depth: u64) -> u64 {
    let page = black_box([depth; 64]);
    recurse(black_box(page[0] + 1)) + page[1]
}
