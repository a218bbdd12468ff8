//! The interrupt controllers, quiet as the protocol promises.

use dragonet_boot::acpi::InterruptControllers;
use x86_64::instructions::port::Port;

const MASKED: u32 = 1 << 16;

/// Masks every line of the two legacy controllers.
pub fn mask_legacy_controllers() {
    for port in [0x21, 0xa1] {
        // SAFETY: the mask registers of the controllers; a set bit keeps its line from interrupting.
        unsafe { Port::<u8>::new(port).write(0xff) };
    }
}

/// Masks those lines of the I/O APICs that would be delivered as fixed or lowest-priority interrupts.
pub fn mask_io_apics(controllers: &InterruptControllers) {
    for &address in &controllers.io_apics {
        let lines = (read(address, 1) >> 16 & 0xff) + 1;
        for line in 0..lines {
            let register = 0x10 + 2 * line;
            let low = read(address, register);
            if low >> 8 & 7 <= 1 {
                write(address, register, low | MASKED);
            }
        }
    }
}

fn read(io_apic: u32, register: u32) -> u32 {
    // SAFETY: the MADT says that an I/O APIC is there, and the first 4 GiB are mapped.
    unsafe {
        (io_apic as u64 as *mut u32).write_volatile(register);
        (u64::from(io_apic) as *const u32).byte_add(0x10).read_volatile()
    }
}

fn write(io_apic: u32, register: u32, value: u32) {
    // SAFETY: as in `read`; the values written only ever mask a line.
    unsafe {
        (io_apic as u64 as *mut u32).write_volatile(register);
        (u64::from(io_apic) as *mut u32)
            .byte_add(0x10)
            .write_volatile(value);
    }
}
