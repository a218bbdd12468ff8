//! The end: every other CPU is stopped, registers and a backtrace are printed, and the machine is left with status 101.

use super::{backtrace, log as kernel_log};
use crate::arch::trap::{MACHINE_CHECK, TrapFrame};
use crate::arch::{cpu, irq, machine_check, nmi, power, registers};
use core::fmt::Arguments;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Exit status of a panic.
pub const STATUS: u8 = 101;

/// The CPU that panics; `usize::MAX` = none.
static OWNER: AtomicUsize = AtomicUsize::new(usize::MAX);

#[panic_handler]
fn on_panic(info: &PanicInfo<'_>) -> ! {
    begin();
    let message = info.message();
    match info.location() {
        Some(place) => {
            announce(format_args!(
                "{message} ({}:{}:{})",
                place.file(),
                place.line(),
                place.column()
            ));
        }
        None => announce(format_args!("{message}")),
    }
    print_control_registers();
    let (stack, frame) = registers::stack_and_frame_pointer();
    kernel_log::last_line(format_args!("  rsp {stack:#018x} rbp {frame:#018x}"));
    print_other_cpus();
    print_backtrace(|visit| backtrace::walk_chain(frame, visit));
    power::exit_with_report(STATUS)
}

/// An exception in the kernel that nothing expects. `address` is CR2 for those that set it.
pub fn on_exception(frame: &TrapFrame, address: u64) -> ! {
    begin();
    let name = dragonet_abi::process::exception_name(frame.vector as u32);
    announce(format_args!(
        "{name} (vector {}, error code {:#x}) at {:#x}, address {address:#x}",
        frame.vector, frame.error_code, frame.rip
    ));
    print_frame(frame);
    print_control_registers();
    if frame.vector == MACHINE_CHECK {
        machine_check::for_each_error(|bank, status, address| {
            kernel_log::last_line(format_args!(
                "  bank {bank}: status {status:#018x} address {address:#x}"
            ));
        });
    }
    print_other_cpus();
    print_backtrace(|visit| backtrace::walk(frame.rip, frame.rsp, frame.rbp, visit));
    power::exit_with_report(STATUS)
}

/// Ends a boot that cannot work, saying why. The reason is the machine's, so there is nothing to trace.
pub fn refuse(reason: impl core::fmt::Display) -> ! {
    kernel_log::last_line(format_args!("dragonet: panic: cannot boot: {reason}"));
    power::exit_with_report(STATUS)
}

/// Makes this CPU the only one that runs. A second panic of the same CPU leaves at once; of another CPU, waits to be stopped.
fn begin() {
    irq::disable();
    let own = cpu::index();
    match OWNER.compare_exchange(usize::MAX, own, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {}
        Err(owner) if owner == own => {
            kernel_log::last_line(format_args!("dragonet: panic: again, while panicking"));
            power::exit_with_report(STATUS);
        }
        Err(_) => power::halt(),
    }
    nmi::stop_others();
    kernel_log::enter_emergency();
}

fn announce(what: Arguments<'_>) {
    kernel_log::last_line(format_args!("dragonet: panic: cpu{}: {what}", cpu::index()));
}

fn print_control_registers() {
    let control = registers::control_registers();
    kernel_log::last_line(format_args!(
        "  cr0 {:#010x} cr2 {:#018x} cr3 {:#012x} cr4 {:#08x} efer {:#06x}",
        control.cr0, control.cr2, control.cr3, control.cr4, control.efer
    ));
}

fn print_frame(frame: &TrapFrame) {
    let rows = [
        [
            ("rax", frame.rax),
            ("rbx", frame.rbx),
            ("rcx", frame.rcx),
            ("rdx", frame.rdx),
        ],
        [
            ("rsi", frame.rsi),
            ("rdi", frame.rdi),
            ("rbp", frame.rbp),
            ("rsp", frame.rsp),
        ],
        [
            ("r8 ", frame.r8),
            ("r9 ", frame.r9),
            ("r10", frame.r10),
            ("r11", frame.r11),
        ],
        [
            ("r12", frame.r12),
            ("r13", frame.r13),
            ("r14", frame.r14),
            ("r15", frame.r15),
        ],
    ];
    for [a, b, c, d] in rows {
        kernel_log::last_line(format_args!(
            "  {} {:#018x} {} {:#018x} {} {:#018x} {} {:#018x}",
            a.0, a.1, b.0, b.1, c.0, c.1, d.0, d.1
        ));
    }
    kernel_log::last_line(format_args!(
        "  rip {:#018x} cs {:#06x} rflags {:#010x} ss {:#06x}",
        frame.rip, frame.cs, frame.rflags, frame.ss
    ));
}

fn print_other_cpus() {
    let own = cpu::index();
    for other in cpu::all().filter(|other| other.index != own) {
        match nmi::report_of(other.index) {
            Some(report) if report.is_user() => {
                kernel_log::last_line(format_args!("  cpu{} in a program", other.index));
            }
            Some(report) => kernel_log::last_line(format_args!(
                "  cpu{} at {:#x}, rsp {:#x}",
                other.index,
                report.instruction(),
                report.stack()
            )),
            None => kernel_log::last_line(format_args!("  cpu{} did not stop", other.index)),
        }
    }
}

fn print_backtrace(walk: impl FnOnce(&mut dyn FnMut(u64))) {
    let mut addresses = arrayvec::ArrayVec::<u64, { backtrace::MAX_DEPTH + 1 }>::new();
    walk(&mut |address| {
        // A longer trace than the walk allows does not exist.
        let _ = addresses.try_push(address);
    });
    kernel_log::last_line(format_args!("dragonet: backtrace{}", Addresses(&addresses)));
}

/// Addresses in hexadecimal, each after a space.
pub(super) struct Addresses<'addresses>(pub(super) &'addresses [u64]);

impl core::fmt::Display for Addresses<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0
            .iter()
            .try_for_each(|address| write!(formatter, " {address:#x}"))
    }
}
