//! Text on the first serial port, and the end of the run.

use core::fmt::{self, Write};

use x86_64::instructions::hlt;
use x86_64::instructions::port::Port;

use crate::requests::command_line;

const PORT: u16 = 0x3f8;

/// The serial port COM1, as firmware or loader left it.
#[derive(Clone, Copy, Debug)]
pub struct Serial;

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: the registers of COM1 have no effect on memory.
            unsafe {
                while Port::<u8>::new(PORT + 5).read() & 0x20 == 0 {
                    core::hint::spin_loop();
                }
                if byte == b'\n' {
                    Port::<u8>::new(PORT).write(b'\r');
                }
                Port::<u8>::new(PORT).write(byte);
            }
        }
        Ok(())
    }
}

/// Prints a line on the serial port.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => {{
        use core::fmt::Write;
        let _ = writeln!($crate::console::Serial, $($argument)*);
    }};
}

/// Prints the last line and leaves the machine.
pub fn exit(status: u8) -> ! {
    say!("dragonet: exit status {status}");
    // An emulator that ends drops what is still in the port.
    // SAFETY: reading the line status has no effect on memory.
    while unsafe { Port::<u8>::new(PORT + 5).read() } & 0x40 == 0 {
        core::hint::spin_loop();
    }
    for word in command_line().split_ascii_whitespace() {
        if word == "exit=bochs" {
            for byte in *b"Shutdown" {
                // SAFETY: the port exists in Bochs only, where it ends the emulation.
                unsafe { Port::<u8>::new(0x8900).write(byte) };
            }
        }
        if word == "exit=isa:0xf4" {
            // SAFETY: the command line says that the device which ends the emulation is at this port.
            unsafe { Port::<u32>::new(0xf4).write(status.into()) };
        }
    }
    loop {
        hlt();
    }
}
