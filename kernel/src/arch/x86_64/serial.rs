//! The first serial line, for the kernel's own output. It has no state, so that a panic can write whatever happened before; the lock
//! that keeps lines apart is the log's.

use core::sync::atomic::{AtomicBool, Ordering};
use uart_16550::SerialPort;
use x86_64::instructions::port::Port;

const BASE: u16 = 0x3f8;
const DIVISOR_LOW: u16 = BASE;
const DIVISOR_HIGH: u16 = BASE + 1;
const LINE_CONTROL: u16 = BASE + 3;
const LINE_STATUS: u16 = BASE + 5;
const SCRATCH: u16 = BASE + 7;
const DIVISOR_LATCH: u8 = 0x80;
const EIGHT_BITS: u8 = 0x03;
const TRANSMITTER_EMPTY: u8 = 1 << 6;
/// Tries to send a byte before the line is given up; a byte takes 87 microseconds at 115200 baud.
const PATIENCE: u32 = 200_000;

/// There is a line, and it takes bytes.
static WORKS: AtomicBool = AtomicBool::new(false);

/// Sets the line to 115200 baud, 8 bits, no parity, if it is there.
pub fn init() {
    // SAFETY: the standard place of the first serial line; the scratch register has no effect.
    let is_there = unsafe {
        let mut scratch = Port::<u8>::new(SCRATCH);
        scratch.write(0x5a);
        scratch.read() == 0x5a
    };
    if !is_there {
        return;
    }
    // SAFETY: a 16550 or compatible, as the scratch register shows.
    unsafe {
        SerialPort::new(BASE).init();
        // `init` chose 38400 baud.
        Port::<u8>::new(LINE_CONTROL).write(DIVISOR_LATCH | EIGHT_BITS);
        Port::<u8>::new(DIVISOR_LOW).write(1);
        Port::<u8>::new(DIVISOR_HIGH).write(0);
        Port::<u8>::new(LINE_CONTROL).write(EIGHT_BITS);
    }
    WORKS.store(true, Ordering::Relaxed);
}

/// Writes text; a line feed also returns the carriage. A line that stops taking bytes is given up for good.
pub fn write(text: &str) {
    if !WORKS.load(Ordering::Relaxed) {
        return;
    }
    // SAFETY: `init` found the line. The type has no state.
    let mut port = unsafe { SerialPort::new(BASE) };
    for byte in text.bytes() {
        if byte == b'\n' {
            send(&mut port, b'\r');
        }
        send(&mut port, byte);
    }
}

fn send(port: &mut SerialPort, byte: u8) {
    for _ in 0..PATIENCE {
        if port.try_send_raw(byte).is_ok() {
            return;
        }
        core::hint::spin_loop();
    }
    WORKS.store(false, Ordering::Relaxed);
}

/// Waits until everything has left the line, within limits.
pub fn flush() {
    if !WORKS.load(Ordering::Relaxed) {
        return;
    }
    for _ in 0..PATIENCE {
        // SAFETY: reading the status has no effect on output.
        if unsafe { Port::<u8>::new(LINE_STATUS).read() } & TRANSMITTER_EMPTY != 0 {
            return;
        }
    }
}
