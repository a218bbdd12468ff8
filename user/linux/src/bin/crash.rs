//! Misbehaves in the way that its argument names, and should be ended for it: status 128 + signal.

use std::arch::asm;
use std::process::ExitCode;

type Crash = (&'static str, &'static str, fn());

/// Name, the signal expected, and what to do.
const CRASHES: &[Crash] = &[
    ("null", "SIGSEGV", null),
    ("unmapped", "SIGSEGV", unmapped),
    ("kernel-address", "SIGSEGV", kernel_address),
    ("non-canonical", "SIGSEGV", non_canonical),
    ("write-code", "SIGSEGV", write_code),
    ("execute-data", "SIGSEGV", execute_data),
    ("jump-null", "SIGSEGV", || jump(0)),
    ("jump-kernel", "SIGSEGV", || jump(0xffff_ffff_8000_0000)),
    ("jump-non-canonical", "SIGSEGV", || jump(0x1234_5678_9abc_def0)),
    ("jump-edge", "SIGSEGV", || jump(0x7fff_ffff_fff0)),
    ("stack-overflow", "SIGABRT", || {
        std::hint::black_box(overflow(0));
    }),
    ("stack-gone", "SIGSEGV", stack_gone),
    ("undefined", "SIGILL", undefined),
    ("divide", "SIGFPE", divide),
    ("breakpoint", "SIGTRAP", breakpoint),
    ("single-step", "SIGTRAP", single_step),
    ("alignment", "SIGBUS", alignment),
    ("simd-exception", "SIGFPE", simd_exception),
    ("halt", "SIGSEGV", halt),
    ("interrupts-off", "SIGSEGV", interrupts_off),
    ("port", "SIGSEGV", port),
    ("msr", "SIGSEGV", msr),
    ("control-register", "SIGSEGV", control_register),
    ("software-interrupt", "SIGSEGV", software_interrupt),
    ("debug-trap", "SIGTRAP", debug_trap),
    ("selector", "SIGSEGV", selector),
    ("invalidate", "SIGSEGV", invalidate),
    ("leave-smm", "SIGILL", leave_smm),
    ("abort", "SIGABRT", || std::process::abort()),
    ("kill", "SIGKILL", || signal(libc::SIGKILL)),
    ("term", "SIGTERM", || signal(libc::SIGTERM)),
    ("bad-return", "SIGSEGV", bad_return),
];

/// Emulators do not all check alignment and raise SIMD exceptions.
const MAY_LIVE: &[&str] = &["alignment", "simd-exception"];

/// QEMU's software emulation does not know INT1.
const NOT_KNOWN: &[&str] = &["debug-trap"];

fn null() {
    read(std::hint::black_box(0));
}

fn unmapped() {
    read(0x6666_0000_0000);
}

fn kernel_address() {
    read(0xffff_ffff_8000_0000);
}

fn non_canonical() {
    read(0x8000_0000_0000_0000);
}

fn read(address: usize) {
    // SAFETY: not safe at all; the program is meant to be ended here.
    let value = unsafe { std::ptr::read_volatile(address as *const u64) };
    println!("crash: read {value:#x}");
}

fn write_code() {
    // SAFETY: not safe at all.
    unsafe { std::ptr::write_volatile(main as *mut u8, 0xc3) };
}

fn execute_data() {
    static DATA: [u8; 1] = [0xc3];
    jump(&raw const DATA as u64);
}

fn jump(target: u64) {
    // SAFETY: not safe at all.
    unsafe { asm!("call {}", in(reg) target) };
}

#[expect(unconditional_recursion, reason = "that is the point")]
fn overflow(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 512]);
    overflow(depth + 1) + room[depth as usize % 512]
}

fn stack_gone() {
    // SAFETY: not safe at all: the next push has nowhere to go, and so has a signal frame.
    unsafe { asm!("mov rsp, 0x10000", "push rax", options(noreturn)) };
}

fn undefined() {
    // SAFETY: not safe at all.
    unsafe { asm!("ud2") };
}

fn divide() {
    // SAFETY: not safe at all.
    unsafe {
        asm!("xor edx, edx", "mov eax, 1", "xor ecx, ecx", "div ecx", out("eax") _, out("ecx") _, out("edx") _)
    };
}

fn breakpoint() {
    // SAFETY: not safe at all.
    unsafe { asm!("int3") };
}

fn single_step() {
    // SAFETY: not safe at all.
    unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop") };
}

fn alignment() {
    let words = [0_u64; 2];
    // SAFETY: not safe at all: alignment checks are on when the odd address is read.
    unsafe {
        asm!("pushfq", "or qword ptr [rsp], 0x40000", "popfq", "mov rax, [{0} + 1]", in(reg) words.as_ptr(), out("rax") _);
    }
}

fn simd_exception() {
    let control = 0x1f80_u32 & !(1 << 9);
    // SAFETY: not safe at all: division by zero is no longer masked.
    unsafe {
        asm!("ldmxcsr [{}]", in(reg) &control);
        asm!("xorps xmm0, xmm0", "mov eax, 1", "cvtsi2ss xmm1, eax", "divss xmm1, xmm0", out("eax") _, out("xmm0") _, out("xmm1") _);
    }
}

fn halt() {
    // SAFETY: not safe at all.
    unsafe { asm!("hlt") };
}

fn interrupts_off() {
    // SAFETY: not safe at all.
    unsafe { asm!("cli") };
}

fn port() {
    // SAFETY: not safe at all.
    unsafe { asm!("out 0x80, al") };
}

fn msr() {
    // SAFETY: not safe at all.
    unsafe { asm!("rdmsr", in("ecx") 0xc000_0080_u32, out("eax") _, out("edx") _) };
}

fn control_register() {
    // SAFETY: not safe at all.
    unsafe { asm!("mov rax, cr3", out("rax") _) };
}

fn software_interrupt() {
    // SAFETY: not safe at all.
    unsafe { asm!("int 0x20") };
}

fn debug_trap() {
    // SAFETY: not safe at all: INT1.
    unsafe { asm!(".byte 0xf1") };
}

fn selector() {
    // SAFETY: not safe at all: no descriptor table is that large.
    unsafe { asm!("mov ds, {0:e}", in(reg) 0xfff3_u32) };
}

fn invalidate() {
    // SAFETY: not safe at all.
    unsafe { asm!("invlpg [{}]", in(reg) invalidate as *const u8) };
}

fn leave_smm() {
    // SAFETY: not safe at all.
    unsafe { asm!("rsm") };
}

fn signal(number: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::raise(number) };
}

fn bad_return() {
    // SAFETY: not safe at all: there is no signal frame on the stack.
    unsafe { asm!("syscall", in("rax") libc::SYS_rt_sigreturn, options(noreturn)) };
}

fn main() -> ExitCode {
    let kind = std::env::args().nth(1).unwrap_or_default();
    if let Some((_, _, crash)) = CRASHES.iter().find(|(name, ..)| *name == kind) {
        crash();
        println!("crash: {kind}: still here");
        return ExitCode::FAILURE;
    }
    if kind == "all" {
        return all();
    }
    eprintln!("usage: crash all | KIND");
    for (name, signal, _) in CRASHES {
        eprintln!("  {name:20} {signal}");
    }
    ExitCode::from(2)
}

/// Every kind, each in a process of its own.
fn all() -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};
    let program = std::env::current_exe().expect("the program's own path");
    let mut failed = 0;
    for (name, signal, _) in CRASHES {
        let status = Command::new(&program)
            .arg(name)
            .stderr(Stdio::null())
            .status()
            .expect("a process is started");
        if MAY_LIVE.contains(name) && status.code() == Some(1) {
            println!("crash: {name}: this processor does not check");
            continue;
        }
        let found = match status.signal() {
            Some(number) => signal_name(number).to_string(),
            None => format!("{status}"),
        };
        if found == "SIGILL" && NOT_KNOWN.contains(name) {
            println!("crash: {name}: this processor does not know the instruction");
        } else if found != *signal {
            failed += 1;
            println!("crash: {name}: FAILED: {found}, not {signal}");
        }
    }
    println!("crash: {} kinds, {failed} failed", CRASHES.len());
    ExitCode::from(u8::from(failed > 0))
}

fn signal_name(number: i32) -> &'static str {
    match number {
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGTERM => "SIGTERM",
        _ => "another signal",
    }
}
