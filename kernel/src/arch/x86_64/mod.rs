//! x86-64: boot entry, CPU set-up, traps, interrupt controllers, clocks, power.
//!
//! `boot` is where the kernel begins. It brings up serial line and log, checks the CPU, makes the boot CPU's own tables
//! (`segments`, `interrupt_table`, `control`), reads the boot protocol's answers, and calls `crate::kernel_main`, which
//! calls [`init`] as soon as it has memory and page tables of its own, and [`smp::start_others`] when the scheduler is
//! ready.
//!
//! References "SDM 3A 5.8" are to the Intel 64 and IA-32 Architectures Software Developer's Manual, volume and section.

mod acpi;
mod aml_sleep;
pub mod apic;
pub mod boot;
mod boot_answers;
mod calibration;
pub mod clock;
mod command_line;
pub mod context;
mod control;
pub mod cpu;
mod entry;
pub mod features;
pub mod fpu;
pub mod frame_memory;
mod hpet;
mod interrupt_table;
mod interrupts;
pub mod ioapic;
pub mod irq;
mod limine_requests;
pub mod machine_check;
pub mod nmi;
pub mod paging;
mod pic;
mod pit;
pub mod ports;
pub mod power;
pub mod registers;
mod rtc;
pub mod segments;
pub mod serial;
pub mod smp;
mod syscall;
pub mod tests;
pub mod thread;
pub mod trap;
pub mod user_copy;
pub mod vmx;

use self::boot::BootInfo;

/// Brings up the boot CPU's devices: interrupt controllers, clocks, the screen's own mapping. Called once, on the boot CPU, when
/// memory can be allocated and mapped and the kernel's own page table is in use.
/// A machine that lacks something that the kernel cannot do without is refused, with a text that says what.
pub fn init(boot: &BootInfo) {
    map_screen(boot);
    pic::disable();
    let clocks = match acpi::init(boot.rsdp) {
        Ok(clocks) => clocks,
        Err(why) => crate::debug::panic::refuse(why),
    };
    calibration::calibrate_tsc(clocks.hpet, clocks.power_timer);
    calibration::calibrate_apic_timer();
    match rtc::read(clocks.century) {
        Some(seconds) => clock::set_realtime(seconds),
        None => log::warn!("the calendar clock shows no time"),
    }
    cpu::set_online(0);
    apic::disarm_timer();
}

/// The loader's direct map had the screen; the kernel's own page table need not.
fn map_screen(boot: &BootInfo) {
    let Some(screen) = &boot.framebuffer else { return };
    match crate::pmap::map_device_as(
        screen.physical,
        screen.length(),
        page_table::CacheMode::WriteCombining,
    ) {
        // SAFETY: the loader says that the range is the frame buffer, and it was mapped as a device for good.
        Ok(base) => unsafe { frame_memory::set(base, screen.length()) },
        Err(_) => log::warn!("no memory to map the screen"),
    }
}
