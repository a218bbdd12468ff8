//! The legacy timer's channel 0, as a clock of last resort for calibration. Its interrupt is never let through.

use x86_64::instructions::port::Port;

const CHANNEL_0: u16 = 0x40;
const COMMAND: u16 = 0x43;
/// Channel 0, both bytes, mode 2 (counts down from the reload value again and again), binary.
const RATE_GENERATOR: u8 = 0b0011_0100;
/// Freezes channel 0's count for the next two reads.
const LATCH: u8 = 0b0000_0000;

/// Counts a second.
pub(super) const FREQUENCY: u64 = 1_193_182;

/// Lets the counter run from 65536 down, again and again: 55 ms a turn.
pub(super) fn start() {
    // SAFETY: the timer is the kernel's, and its interrupt is masked.
    unsafe {
        Port::<u8>::new(COMMAND).write(RATE_GENERATOR);
        Port::<u8>::new(CHANNEL_0).write(0);
        Port::<u8>::new(CHANNEL_0).write(0);
    }
}

/// Counts since some moment, modulo 65536.
pub(super) fn counter() -> u64 {
    // SAFETY: the timer is the kernel's; reading has no effect.
    let left = unsafe {
        Port::<u8>::new(COMMAND).write(LATCH);
        let mut data = Port::<u8>::new(CHANNEL_0);
        u16::from_le_bytes([data.read(), data.read()])
    };
    u64::from(0_u16.wrapping_sub(left))
}
