//! The legacy timer's channel 2, as a clock of last resort for calibration: its gate and output are in port 0x61.

use x86_64::instructions::port::Port;

const CHANNEL_2: u16 = 0x42;
const COMMAND: u16 = 0x43;
const CONTROL: u16 = 0x61;
/// Channel 2, both bytes, mode 0 (count down once), binary.
const ONE_SHOT: u8 = 0b1011_0000;
const GATE: u8 = 1 << 0;
const SPEAKER: u8 = 1 << 1;
const OUTPUT: u8 = 1 << 5;

/// Counts a second.
pub(super) const FREQUENCY: u64 = 1_193_182;

/// Starts a countdown of `counts`. [`is_done`] tells when it has passed.
pub(super) fn start(counts: u16) {
    let (mut control, mut command, mut data) = (
        Port::<u8>::new(CONTROL),
        Port::<u8>::new(COMMAND),
        Port::<u8>::new(CHANNEL_2),
    );
    // SAFETY: the timer and its gate are the kernel's; the speaker stays off.
    unsafe {
        let bits = control.read();
        control.write(bits & !(SPEAKER | GATE));
        command.write(ONE_SHOT);
        data.write(counts as u8);
        data.write((counts >> 8) as u8);
        control.write(bits & !SPEAKER | GATE);
    }
}

/// True when the countdown has passed.
pub(super) fn is_done() -> bool {
    // SAFETY: reading the port has no effect.
    unsafe { Port::<u8>::new(CONTROL).read() & OUTPUT != 0 }
}
