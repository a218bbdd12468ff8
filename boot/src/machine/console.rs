//! Text on the first serial port, and the doors by which the machine can be left.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, Ordering};

use dragonet_boot::command_line::ExitDoor;
use x86_64::instructions::port::Port;
use x86_64::instructions::{hlt, interrupts};

const PORT: u16 = 0x3f8;

/// Polls of the line status before a character is given up, so that a machine without the port goes on.
const PATIENCE: u32 = 100_000;

/// Line status: there is room for a byte; and every byte has left the port.
const ROOM: u8 = 0x20;
const SENT: u8 = 0x40;

/// The serial port COM1.
#[derive(Clone, Copy, Debug)]
pub struct Serial;

impl Serial {
    /// Sets 115200 baud, 8 bits, no parity, one stop bit.
    pub fn initialise() {
        for (offset, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 0xc7), (4, 3)] {
            // SAFETY: these are the registers of COM1; writing them has no effect on memory.
            unsafe { Port::<u8>::new(PORT + offset).write(value) };
        }
    }

    fn send(byte: u8) {
        Serial::wait(ROOM);
        // SAFETY: writing the data register has no effect on memory.
        unsafe { Port::<u8>::new(PORT).write(byte) };
    }
}

impl Serial {
    /// Waits until a bit of the line status is set, with patience.
    fn wait(bit: u8) {
        let mut status = Port::<u8>::new(PORT + 5);
        for _ in 0..PATIENCE {
            // SAFETY: reading the line status register has no effect on memory.
            if unsafe { status.read() } & bit != 0 {
                break;
            }
        }
    }
}

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                Serial::send(b'\r');
            }
            Serial::send(byte);
        }
        Ok(())
    }
}

/// Prints a line on the serial port.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => {{
        use core::fmt::Write;
        let _ = writeln!($crate::machine::console::Serial, $($argument)*);
    }};
}

/// The exit door as a number that an atomic can hold: 0 = none, 1 = Bochs, otherwise a port and bit 31.
static DOOR: AtomicU32 = AtomicU32::new(0);
const BOCHS: u32 = 1;
const ISA: u32 = 1 << 31;

/// Remembers the door that the command line names.
pub fn set_exit_door(door: ExitDoor) {
    let number = match door {
        ExitDoor::Halt => 0,
        ExitDoor::Bochs => BOCHS,
        ExitDoor::IsaDebugExit(port) => ISA | u32::from(port),
    };
    DOOR.store(number, Ordering::Relaxed);
}

/// Prints the last line and leaves the machine.
pub fn exit(status: u8) -> ! {
    say!("dragonet: exit status {status}");
    // An emulator that ends drops what is still in the port.
    Serial::wait(SENT);
    match DOOR.load(Ordering::Relaxed) {
        0 => {}
        BOCHS => {
            for byte in *b"Shutdown" {
                // SAFETY: the port exists in Bochs only, where it ends the emulation.
                unsafe { Port::<u8>::new(0x8900).write(byte) };
            }
        }
        isa => {
            // SAFETY: the command line says that the device which ends the emulation is at this port.
            unsafe { Port::<u32>::new(isa as u16).write(status.into()) };
        }
    }
    loop {
        interrupts::disable();
        hlt();
    }
}
