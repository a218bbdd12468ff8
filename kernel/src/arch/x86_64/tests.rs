//! In-kernel tests of the machine layer.

use super::fpu::FpuState;
use super::irq::IrqGuard;
use super::trap::TrapFrame;
use super::{
    acpi, aml_sleep, apic, boot, clock, command_line, context, cpu, nmi, paging, ports, registers, rtc,
    user_copy,
};
use crate::mm::stack::KernelStack;
use crate::test::Test;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use x86_64::registers::control::Cr4Flags;

/// The tests of this module.
pub const TESTS: &[Test] = &[
    Test {
        name: "arch::aml_soft_off_is_found",
        run: aml_sleep::check,
    },
    Test {
        name: "arch::calendar_is_decoded",
        run: rtc::check_decoding,
    },
    Test {
        name: "arch::acpi_flags_are_decoded",
        run: acpi::check_flags,
    },
    Test {
        name: "arch::command_line_is_decoded",
        run: command_line::check_options,
    },
    Test {
        name: "arch::user_frame_is_harmless",
        run: user_frame_is_harmless,
    },
    Test {
        name: "arch::context_switch_round_trip",
        run: context_switch_round_trip,
    },
    Test {
        name: "arch::kernel_trap_restores_registers",
        run: kernel_trap_restores_registers,
    },
    Test {
        name: "arch::user_copy_fault_is_an_error",
        run: user_copy_fault_is_an_error,
    },
    Test {
        name: "arch::fpu_states_are_separate",
        run: fpu_states_are_separate,
    },
    Test {
        name: "arch::no_page_is_writable_and_executable",
        run: no_page_is_writable_and_executable,
    },
    Test {
        name: "arch::protection_bits_are_on",
        run: protection_bits_are_on,
    },
    Test {
        name: "arch::kernel_ports_are_reserved",
        run: kernel_ports_are_reserved,
    },
    Test {
        name: "arch::clock_advances",
        run: clock_advances,
    },
    Test {
        name: "arch::a_timer_set_by_ticks_is_never_early",
        run: ticks_and_times,
    },
    Test {
        name: "arch::ipi_and_clock_agree_on_every_cpu",
        run: ipi_and_clock_agree_on_every_cpu,
    },
    Test {
        name: "arch::nmi_reaches_every_cpu",
        run: nmi_reaches_every_cpu,
    },
    Test {
        name: "arch::timer_interrupts",
        run: timer_interrupts,
    },
];

/// Ways to bring the kernel down, for scenarios that look at its last words. Run only when named in full.
pub const CRASHES: &[Test] = &[
    Test {
        name: "crash::panic",
        run: || panic!("as the command line wished"),
    },
    Test {
        name: "crash::fault",
        run: crash_by_fault,
    },
    Test {
        name: "crash::overflow",
        run: crash_by_overflow,
    },
    Test {
        name: "crash::stuck",
        run: be_stuck,
    },
];

/// Reads where nothing is mapped.
fn crash_by_fault() -> Result<(), &'static str> {
    let nowhere: *const u64 = core::hint::black_box(core::ptr::without_provenance(8));
    // SAFETY: it faults, and the kernel ends in an orderly way; or the test has failed.
    let value = unsafe { nowhere.read_volatile() };
    Err(if value == 0 {
        "read zero at 8"
    } else {
        "read something at 8"
    })
}

/// Runs into the guard page below its stack, where not even the page fault can be pushed.
fn crash_by_overflow() -> Result<(), &'static str> {
    #[expect(unconditional_recursion, reason = "that is what it is for")]
    fn recurse(depth: u64) -> u64 {
        let page = core::hint::black_box([depth; 64]);
        recurse(core::hint::black_box(page[0] + 1)) + page[1]
    }
    core::hint::black_box(recurse(core::hint::black_box(1)));
    Err("the stack has no end")
}

/// Turns interrupts off for half a minute, which the watchdog of another CPU should report.
fn be_stuck() -> Result<(), &'static str> {
    let _guard = IrqGuard::new();
    clock::spin_for(30_000_000_000);
    Ok(())
}

fn ensure(condition: bool, what: &'static str) -> Result<(), &'static str> {
    if condition { Ok(()) } else { Err(what) }
}

fn user_frame_is_harmless() -> Result<(), &'static str> {
    let mut frame = TrapFrame::new_user(0x20_0000, 0x7000_0000, 42);
    ensure(
        frame.is_user() && frame.rdi == 42 && frame.rsp == 0x7000_0000,
        "new frame",
    )?;
    frame.rflags = u64::MAX;
    frame.sanitize_flags();
    ensure(frame.rflags & (3 << 12) == 0, "IOPL stayed")?;
    ensure(
        frame.rflags & (7 << 17 | 3 << 19) == 1 << 18,
        "virtual-8086 flags stayed, or AC went",
    )?;
    frame.rflags = 0;
    frame.sanitize_flags();
    ensure(frame.rflags == 0x202, "interrupts could be turned off")
}

/// Contexts of the round trip: the test's and the other one's. Words, because a context is one word.
static HERE: AtomicU64 = AtomicU64::new(0);
static THERE: AtomicU64 = AtomicU64::new(0);
static VISITS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn visitor(argument: usize) -> ! {
    loop {
        VISITS.fetch_add(argument, Ordering::Relaxed);
        // SAFETY: interrupts are off as in the test, which waits in `HERE`.
        unsafe { context::switch(THERE.as_ptr().cast(), HERE.as_ptr().cast()) };
    }
}

fn context_switch_round_trip() -> Result<(), &'static str> {
    const ARGUMENT: usize = 1_000_003;
    let stack = KernelStack::new().map_err(|_| "no memory")?;
    VISITS.store(0, Ordering::Relaxed);
    let guard = IrqGuard::new();
    let mut other = context::prepare(stack.top(), visitor, ARGUMENT);
    // SAFETY: one word, as the layout of a context says.
    THERE.store(
        unsafe { (&raw mut other).cast::<u64>().read() },
        Ordering::Relaxed,
    );
    let mut sum = 0_u64;
    for round in 1..=100_u64 {
        // Kept in callee-saved registers over the switch.
        let (a, b) = (core::hint::black_box(round), core::hint::black_box(round * 3));
        // SAFETY: interrupts are off; `THERE` was prepared or left by the visitor, whose stack is alive.
        unsafe { context::switch(HERE.as_ptr().cast(), THERE.as_ptr().cast()) };
        sum += a + b;
    }
    drop(guard);
    ensure(
        VISITS.load(Ordering::Relaxed) == 100 * ARGUMENT,
        "the other context did not run each time",
    )?;
    ensure(sum == 4 * 5050, "a register was lost")
}

/// A fault in a user copy goes through the whole entry path and back.
fn kernel_trap_restores_registers() -> Result<(), &'static str> {
    let guard = IrqGuard::new();
    super::apic::send(cpu::index(), apic::Vector::Ping);
    let before = cpu::slot(guard.witness()).last_heartbeat();
    drop(guard);
    let wrong: u64;
    // SAFETY: sets registers and looks whether they stay while an interrupt is taken: the one just sent comes at the latest
    // while the loop spins.
    unsafe {
        asm!(
            "mov r8, 0x1108", "mov r9, 0x1109", "mov r10, 0x110a", "mov r11, 0x110b", "mov rsi, 0x1106",
            "mov rdi, 0x1107", "mov rcx, 100000",
            "2:", "pause", "dec rcx", "jnz 2b",
            "xor eax, eax",
            "cmp r8, 0x1108", "setne dl", "or al, dl",
            "cmp r9, 0x1109", "setne dl", "or al, dl",
            "cmp r10, 0x110a", "setne dl", "or al, dl",
            "cmp r11, 0x110b", "setne dl", "or al, dl",
            "cmp rsi, 0x1106", "setne dl", "or al, dl",
            "cmp rdi, 0x1107", "setne dl", "or al, dl",
            out("rax") wrong, out("rcx") _, out("rdx") _, out("rsi") _, out("rdi") _,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            options(nostack),
        );
    }
    ensure(wrong == 0, "a register changed")?;
    let guard = IrqGuard::new();
    ensure(
        cpu::slot(guard.witness()).last_heartbeat() > before,
        "no interrupt came",
    )
}

fn user_copy_fault_is_an_error() -> Result<(), &'static str> {
    // Below the lowest address that programs can map.
    const UNMAPPED: u64 = 0x1000;
    let mut buffer = [7_u8; 24];
    // SAFETY: the buffers are ours, the address is in the lower half, no lock is held.
    unsafe {
        ensure(
            user_copy::copy_in(buffer.as_mut_ptr(), UNMAPPED, 24).is_err(),
            "copy_in",
        )?;
        ensure(
            user_copy::copy_in(buffer.as_mut_ptr(), UNMAPPED, 3).is_err(),
            "copy_in of bytes",
        )?;
        ensure(
            user_copy::copy_out(UNMAPPED, buffer.as_ptr(), 24).is_err(),
            "copy_out",
        )?;
        ensure(user_copy::zero_out(UNMAPPED, 8).is_err(), "zero_out")?;
        ensure(user_copy::load_u32(UNMAPPED).is_err(), "load_u32")?;
        ensure(
            user_copy::compare_exchange_u32(UNMAPPED, 0, 1).is_err(),
            "compare_exchange_u32",
        )?;
        ensure(
            user_copy::compare_exchange_u64(UNMAPPED, 0, 1).is_err(),
            "compare_exchange_u64",
        )?;
        ensure(
            user_copy::copy_in(buffer.as_mut_ptr(), UNMAPPED, 0).is_ok(),
            "a copy of nothing",
        )?;
    }
    ensure(buffer == [7; 24], "a failed copy wrote")
}

/// Sets and reads XMM0 around saves of two states, with interrupts off: nothing else uses the registers meanwhile.
fn fpu_states_are_separate() -> Result<(), &'static str> {
    fn set(value: u64) {
        // SAFETY: the register holds nobody's value here: what a program had in it was saved when its thread was switched out.
        unsafe { asm!("movq xmm0, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
    }
    fn get() -> u64 {
        let value;
        // SAFETY: reads a register.
        unsafe { asm!("movq {}, xmm0", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }
    fn mxcsr() -> u32 {
        let mut value = 0_u32;
        // SAFETY: stores a register to the variable.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags)) };
        value
    }
    let (mut first, mut second) = (
        FpuState::new().map_err(|_| "no memory")?,
        FpuState::new().map_err(|_| "no memory")?,
    );
    let _guard = IrqGuard::new();
    first.restore();
    ensure(
        get() == 0 && mxcsr() == 0x1f80,
        "a new state is not the initial one",
    )?;
    set(0x1111_2222_3333_4444);
    first.save();
    second.restore();
    ensure(get() == 0, "a new state saw another's register")?;
    set(u64::MAX);
    second.save();
    first.restore();
    ensure(get() == 0x1111_2222_3333_4444, "the first state was lost")?;
    second.restore();
    ensure(get() == u64::MAX, "the second state was lost")
}

fn no_page_is_writable_and_executable() -> Result<(), &'static str> {
    let (mut pages, mut bad, mut open_to_user) = (0_u64, 0_u64, 0_u64);
    paging::for_each_kernel_page(&mut |_, page| {
        pages += 1;
        bad += u64::from(page.writable && page.executable);
        open_to_user += u64::from(page.user);
    });
    ensure(pages > 0, "the walk found nothing")?;
    ensure(bad == 0, "a page is writable and executable")?;
    ensure(open_to_user == 0, "a page of the upper half is open to programs")?;
    let sections = boot::sections();
    let at = |address| paging::translate(address).ok_or("a section is not mapped");
    let (text, rodata, data) = (
        at(sections.text.start)?,
        at(sections.rodata.start)?,
        at(sections.data.start)?,
    );
    ensure(text.executable && !text.writable, "text")?;
    ensure(!rodata.executable && !rodata.writable, "rodata")?;
    ensure(!data.executable && data.writable, "data")
}

fn protection_bits_are_on() -> Result<(), &'static str> {
    let control = registers::control_registers();
    let (features, cr4) = (cpu::features(), Cr4Flags::from_bits_retain(control.cr4));
    let same = |flag, wanted, what| ensure(cr4.contains(flag) == wanted, what);
    same(
        Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION,
        features.smep,
        "SMEP",
    )?;
    same(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, features.smap, "SMAP")?;
    same(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, features.umip, "UMIP")?;
    same(Cr4Flags::PAGE_GLOBAL, true, "global pages")?;
    same(Cr4Flags::FSGSBASE, false, "programs can set the GS base")?;
    ensure(control.cr0 & 1 << 16 != 0, "write protection")?;
    ensure(control.efer & 1 << 11 != 0, "no-execute")
}

fn kernel_ports_are_reserved() -> Result<(), &'static str> {
    ensure(
        ports::is_reserved(0x20, 1) && ports::is_reserved(0x10, 0x20),
        "interrupt controller",
    )?;
    ensure(
        ports::is_reserved(0xcf9, 1) && ports::is_reserved(0, u16::MAX),
        "configuration space, everything",
    )?;
    ensure(
        !ports::is_reserved(0x3f8, 8) && !ports::is_reserved(0x60, 1),
        "a free port is refused",
    )
}

fn clock_advances() -> Result<(), &'static str> {
    let mut last = clock::now();
    let start = last;
    for _ in 0..100_000 {
        let now = clock::now();
        ensure(now >= last, "the clock went back")?;
        last = now;
    }
    ensure(last > start, "the clock stands still")?;
    ensure(clock::tsc_frequency() >= 1_000_000, "no frequency")
}

/// Another CPU's interrupt handler reads the clock between two readings here.
fn ipi_and_clock_agree_on_every_cpu() -> Result<(), &'static str> {
    for other in cpu::all().filter(|other| other.index != cpu::index()) {
        for _ in 0..100 {
            let before = clock::now();
            apic::send(other.index, apic::Vector::Ping);
            let limit = before + 5_000_000_000;
            while other.last_heartbeat() < before {
                ensure(clock::now() < limit, "an IPI did not arrive")?;
                core::hint::spin_loop();
            }
            ensure(
                other.last_heartbeat() <= clock::now(),
                "another CPU's clock is ahead",
            )?;
        }
    }
    Ok(())
}

fn nmi_reaches_every_cpu() -> Result<(), &'static str> {
    let guard = IrqGuard::new();
    for other in cpu::all().filter(|other| other.index != cpu::index()) {
        for _ in 0..10 {
            let report = nmi::look_at(other.index).ok_or("a CPU did not answer")?;
            ensure(
                report.instruction() != 0 && report.flags() & 2 != 0,
                "an empty report",
            )?;
        }
    }
    drop(guard);
    Ok(())
}

/// The watchdog's period makes every CPU take a timer interrupt within a second; the test's own CPU must.
fn timer_interrupts() -> Result<(), &'static str> {
    let heartbeat = || cpu::by_index(cpu::index()).last_heartbeat();
    let start = clock::now();
    while heartbeat() <= start {
        ensure(
            clock::now() < start + 3_000_000_000,
            "no timer interrupt within three seconds",
        )?;
        core::hint::spin_loop();
    }
    Ok(())
}

fn ticks_and_times() -> Result<(), &'static str> {
    const YEAR: u64 = 31_557_600_000_000_000;
    for frequency in [
        1_000_000,
        999_999_937,
        2_400_000_000,
        2_999_999_999,
        20_000_000_000_u64,
    ] {
        let scale = ((1_000_000_000_u128 << 32) / u128::from(frequency)) as u64;
        for time in [0, 1, 999, 1_000_000_007, 86_400_000_000_000, YEAR, 10 * YEAR + 1] {
            let ticks = clock::ticks_since_start(time, scale);
            if clock::time_of(ticks, scale) < time {
                return Err("a timer fires before its time");
            }
            if ticks > 0 && clock::time_of(ticks - 1, scale) >= time {
                return Err("a timer fires later than it could");
            }
        }
    }
    Ok(())
}
