//! I/O ports on behalf of programs that drive devices.

use super::{command_line, power};
use x86_64::instructions::port::Port;

/// Ports that the kernel keeps to itself: (first, count).
const RESERVED: [(u16, u16); 9] = [
    (0x20, 2),  // first interrupt controller
    (0x40, 4),  // timer
    (0x61, 1),  // timer gate
    (0x70, 2),  // calendar clock
    (0x92, 1),  // fast reset
    (0xa0, 2),  // second interrupt controller
    (0xb2, 2),  // system management
    (0x4d0, 2), // trigger modes
    (0xcf8, 8), // PCI configuration, and the chipset's reset register inside it
];

/// True if a range of ports overlaps one that the kernel keeps to itself: interrupt controllers, timers, PCI configuration, ACPI, the
/// exit door.
pub fn is_reserved(base: u16, length: u16) -> bool {
    let end = u32::from(base) + u32::from(length);
    let overlaps = |first: u16, count: u16| {
        u32::from(first) < end && u32::from(base) < u32::from(first) + u32::from(count)
    };
    RESERVED.iter().any(|&(first, count)| overlaps(first, count))
        || power::ports().any(|(first, count)| overlaps(first, count))
        || command_line::exit_door().is_some_and(|door| {
            let (first, count) = door.ports();
            overlaps(first, count)
        })
}

/// Reads a port; `width` is 1, 2 or 4 bytes, anything else reads nothing and gives 0. The caller has checked the right to the port.
pub fn read(port: u16, width: u8) -> u32 {
    // SAFETY: the port belongs to whoever holds its handle, and the kernel's own are refused when handles are made. What the
    // device does with the access is its driver's responsibility.
    unsafe {
        match width {
            1 => u32::from(Port::<u8>::new(port).read()),
            2 => u32::from(Port::<u16>::new(port).read()),
            4 => Port::<u32>::new(port).read(),
            _ => 0,
        }
    }
}

/// Writes a port; `width` is 1, 2 or 4 bytes, anything else does nothing. The caller has checked the right to the port.
pub fn write(port: u16, width: u8, value: u32) {
    // SAFETY: as in `read`.
    unsafe {
        match width {
            1 => Port::<u8>::new(port).write(value as u8),
            2 => Port::<u16>::new(port).write(value as u16),
            4 => Port::<u32>::new(port).write(value),
            _ => {}
        }
    }
}
