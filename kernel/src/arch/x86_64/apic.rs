//! The local APIC of each CPU: inter-processor interrupts and the timer. xAPIC by memory, x2APIC by registers.

pub use super::interrupts::Vector;

use super::irq::{IrqGuard, IrqsOff};
use super::{clock, cpu};
use crate::debug::counters;
use crate::debug::watchdog;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use dragonet_abi::counters::Counter;
use spin::Once;
use volatile::VolatilePtr;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{ApicBase, ApicBaseFlags, Msr};

/// Registers by their number in x2APIC mode; in memory they are 16 bytes apart (SDM 3A 11.12.1.2).
#[derive(Clone, Copy)]
#[repr(u32)]
enum Register {
    Id = 0x02,
    Version = 0x03,
    TaskPriority = 0x08,
    EndOfInterrupt = 0x0b,
    SpuriousVector = 0x0f,
    ErrorStatus = 0x28,
    InterruptCommand = 0x30,
    /// xAPIC only.
    InterruptDestination = 0x31,
    Timer = 0x32,
    Thermal = 0x33,
    Performance = 0x34,
    Line0 = 0x35,
    Line1 = 0x36,
    Error = 0x37,
    InitialCount = 0x38,
    CurrentCount = 0x39,
    DivideConfiguration = 0x3e,
}

const X2APIC_BASE: u32 = 0x800;
const TSC_DEADLINE: u32 = 0x6e0;
const MASKED: u32 = 1 << 16;
const SOFTWARE_ENABLE: u32 = 1 << 8;
const TIMER_TSC_DEADLINE: u32 = 2 << 17;
/// Divide by 4 (SDM 3A 11.5.4).
const DIVIDE_BY_4: u32 = 0b0001;
const DELIVERY_NMI: u32 = 4 << 8;
const DELIVERY_PENDING: u32 = 1 << 12;
const LEVEL_ASSERT: u32 = 1 << 14;
/// Reads of a busy interrupt command register before it is written anyway.
const COMMAND_PATIENCE: u32 = 1_000_000;

#[derive(Clone, Copy)]
enum Access {
    Memory(VirtAddr),
    Msr,
}

static ACCESS: Once<Access> = Once::new();
static NMI_LINE: AtomicBool = AtomicBool::new(false);
/// Timer counts in 2^32 nanoseconds; 0 = the timer takes TSC deadlines.
static TIMER_SCALE: AtomicU64 = AtomicU64::new(0);

fn read(register: Register) -> u32 {
    match ACCESS.get() {
        // SAFETY: the page is the local APIC's, mapped for good; every register is 32 bits wide.
        Some(Access::Memory(base)) => unsafe { memory(*base, register).read() },
        // SAFETY: x2APIC mode is on, and the register exists there.
        Some(Access::Msr) => unsafe { Msr::new(X2APIC_BASE + register as u32).read() as u32 },
        None => 0,
    }
}

fn write(register: Register, value: u32) {
    match ACCESS.get() {
        // SAFETY: as in `read`. What is written is this module's business with the APIC.
        Some(Access::Memory(base)) => unsafe { memory(*base, register).write(value) },
        // SAFETY: as in `read`.
        Some(Access::Msr) => unsafe { Msr::new(X2APIC_BASE + register as u32).write(u64::from(value)) },
        None => {}
    }
}

/// # Safety
/// 1. `base` is where the local APIC's page is mapped.
unsafe fn memory(base: VirtAddr, register: Register) -> VolatilePtr<'static, u32> {
    let address = (base + u64::from(register as u32) * 16).as_mut_ptr();
    // SAFETY: inside the page, aligned, not null.
    unsafe { VolatilePtr::new(NonNull::new_unchecked(address)) }
}

/// Finds the local APIC, on the boot CPU, and chooses the way to it. `nmi_line` says that the firmware wired NMIs to LINT1.
///
/// # Errors
/// A text when the APIC is off or cannot be mapped.
pub(super) fn init(nmi_line: bool) -> Result<(), &'static str> {
    let (frame, flags) = ApicBase::read();
    if !flags.contains(ApicBaseFlags::LAPIC_ENABLE) {
        return Err("the firmware turned the local APIC off");
    }
    NMI_LINE.store(nmi_line, Ordering::Relaxed);
    let access = if cpu::features().x2apic {
        Access::Msr
    } else {
        let mapped = crate::pmap::map_device(frame.start_address(), 4096);
        Access::Memory(mapped.map_err(|_| "no memory to map the local APIC")?)
    };
    ACCESS.call_once(|| access);
    init_cpu();
    Ok(())
}

/// Sets up the local APIC of this CPU.
pub(super) fn init_cpu() {
    let guard = IrqGuard::new();
    if matches!(ACCESS.get(), Some(Access::Msr)) {
        let (frame, flags) = ApicBase::read();
        // SAFETY: the CPU has x2APIC mode; from xAPIC mode it is entered by setting the bit (SDM 3A 11.12.1).
        unsafe {
            ApicBase::write(
                frame,
                flags | ApicBaseFlags::LAPIC_ENABLE | ApicBaseFlags::X2APIC_ENABLE,
            )
        };
    }
    let entries = (read(Register::Version) >> 16 & 0xff) + 1;
    write(
        Register::SpuriousVector,
        SOFTWARE_ENABLE | Vector::Spurious as u32,
    );
    write(Register::TaskPriority, 0);
    write(Register::Timer, MASKED);
    write(Register::Line0, MASKED);
    let nmi = if NMI_LINE.load(Ordering::Relaxed) {
        DELIVERY_NMI
    } else {
        MASKED
    };
    write(Register::Line1, nmi);
    write(Register::Error, Vector::ApicError as u32);
    if entries > 4 {
        write(Register::Performance, MASKED);
    }
    if entries > 5 {
        write(Register::Thermal, MASKED);
    }
    // The error status register shows what happened since it was last written (SDM 3A 11.5.3).
    write(Register::ErrorStatus, 0);
    write(Register::ErrorStatus, 0);
    end_of_interrupt();
    cpu::slot(guard.witness()).set_apic_id(current_id());
    set_timer_mode();
}

fn current_id() -> u32 {
    let id = read(Register::Id);
    if matches!(ACCESS.get(), Some(Access::Msr)) {
        id
    } else {
        id >> 24
    }
}

/// The name of the mode in use.
pub fn mode() -> &'static str {
    match ACCESS.get() {
        Some(Access::Msr) => "x2APIC",
        Some(Access::Memory(_)) => "xAPIC",
        None => "no APIC",
    }
}

/// Signals the end of the interrupt being served.
pub(super) fn end_of_interrupt() {
    write(Register::EndOfInterrupt, 0);
}

/// Sends an interrupt to a CPU. The stores before it are visible to the handler.
pub fn send(cpu_index: usize, vector: Vector) {
    if vector != Vector::Ping {
        counters::count(Counter::IpiSent);
    }
    command(cpu::by_index(cpu_index).apic_id(), vector as u32);
}

/// Sends a non-maskable interrupt to a CPU; `nmi` says what for.
pub(super) fn send_nmi(cpu_index: usize) {
    command(cpu::by_index(cpu_index).apic_id(), DELIVERY_NMI);
}

/// True once the local APIC can be used.
pub(super) fn is_ready() -> bool {
    ACCESS.is_completed()
}

fn command(destination: u32, command: u32) {
    let guard = IrqGuard::new();
    let command = command | LEVEL_ASSERT;
    match ACCESS.get() {
        Some(Access::Msr) => {
            let value = u64::from(destination) << 32 | u64::from(command);
            // SAFETY: x2APIC mode is on. WRMSR does not wait for earlier stores there; the fences do (SDM 3A 11.12.3).
            unsafe {
                core::arch::x86_64::_mm_mfence();
                core::arch::x86_64::_mm_lfence();
                Msr::new(X2APIC_BASE + Register::InterruptCommand as u32).write(value);
            }
        }
        Some(Access::Memory(_)) => {
            wait_for_command();
            write(Register::InterruptDestination, destination << 24);
            write(Register::InterruptCommand, command);
        }
        None => {}
    }
    drop(guard);
}

fn wait_for_command() {
    for _ in 0..COMMAND_PATIENCE {
        if read(Register::InterruptCommand) & DELIVERY_PENDING == 0 {
            return;
        }
        core::hint::spin_loop();
    }
}

/// The error interrupt: something was sent that could not be.
pub(super) fn on_error() {
    write(Register::ErrorStatus, 0);
    let status = read(Register::ErrorStatus);
    log::warn!("local APIC error, status {status:#x}");
}

fn set_timer_mode() {
    if cpu::features().tsc_deadline {
        write(Register::Timer, TIMER_TSC_DEADLINE | Vector::Timer as u32);
        // In xAPIC mode the store to the timer entry must be done before the first deadline is written (SDM 3A 11.5.4.1).
        // SAFETY: a fence.
        unsafe { core::arch::x86_64::_mm_mfence() };
    } else {
        write(Register::DivideConfiguration, DIVIDE_BY_4);
        write(Register::Timer, Vector::Timer as u32);
        write(Register::InitialCount, 0);
    }
}

/// Lets the timer of this CPU count for as long as `wait` takes, and returns the counts that passed.
pub(super) fn count_during(wait: impl FnOnce()) -> u32 {
    write(Register::DivideConfiguration, DIVIDE_BY_4);
    write(Register::Timer, MASKED | Vector::Timer as u32);
    write(Register::InitialCount, u32::MAX);
    let before = read(Register::CurrentCount);
    wait();
    let after = read(Register::CurrentCount);
    write(Register::InitialCount, 0);
    before.saturating_sub(after)
}

/// Tells how fast the timers count, in Hz, where they do not take TSC deadlines.
pub(super) fn set_timer_frequency(frequency: u64) {
    let scale = (u128::from(frequency) << 32) / 1_000_000_000;
    TIMER_SCALE.store((scale as u64).max(1), Ordering::Relaxed);
    set_timer_mode();
}

/// Sets this CPU's timer to fire once, at `deadline` (nanoseconds since boot). One that has passed fires at once, one that is too
/// far away for the hardware is checked again on the way. A later call replaces it.
pub fn arm_timer(deadline: u64) {
    let guard = IrqGuard::new();
    cpu::slot(guard.witness())
        .timer_deadline
        .store(deadline, Ordering::Relaxed);
    set_hardware_timer(deadline);
}

/// Forgets the deadline.
pub fn disarm_timer() {
    arm_timer(u64::MAX);
}

/// The watchdog looks at every CPU once in a while, so the hardware always has a deadline.
fn set_hardware_timer(deadline: u64) {
    let now = clock::now();
    let deadline = deadline.min(now.saturating_add(watchdog::PERIOD));
    if cpu::features().tsc_deadline {
        // 0 would mean "no deadline".
        let ticks = clock::ticks_at(deadline).max(1);
        // SAFETY: the CPU has the register. A value that has passed fires at once.
        unsafe { Msr::new(TSC_DEADLINE).write(ticks) };
    } else {
        let scale = TIMER_SCALE.load(Ordering::Relaxed);
        let wait = deadline.saturating_sub(now);
        let counts = (u128::from(wait) * u128::from(scale)) >> 32;
        write(
            Register::InitialCount,
            u32::try_from(counts).unwrap_or(u32::MAX).saturating_add(1),
        );
    }
}

/// The timer of this CPU fired: by the scheduler's deadline, or for the watchdog's look.
pub(super) fn on_timer(irqs: &IrqsOff) {
    let now = clock::now();
    let local = cpu::slot(irqs);
    let deadline = local.timer_deadline.load(Ordering::Relaxed);
    if deadline <= now {
        local.timer_deadline.store(u64::MAX, Ordering::Relaxed);
        crate::trap::on_timer(irqs);
        if local.timer_deadline.load(Ordering::Relaxed) == u64::MAX {
            set_hardware_timer(u64::MAX);
        }
    } else {
        set_hardware_timer(deadline);
    }
    watchdog::look(irqs, now);
}
