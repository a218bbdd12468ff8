//! The two legacy interrupt controllers: moved out of the way of the exceptions, and masked for good.

use super::interrupts::PIC_BASE;
use x86_64::instructions::port::PortWriteOnly;

const COMMAND: [u16; 2] = [0x20, 0xa0];
const DATA: [u16; 2] = [0x21, 0xa1];
/// Initialise, cascaded, a fourth word follows.
const INITIALISE: u8 = 0x11;
/// Where the second controller hangs on the first, as each of them wants to hear it.
const CASCADE: [u8; 2] = [1 << 2, 2];
const MODE_8086: u8 = 0x01;
const MASK_ALL: u8 = 0xff;

/// Masks every line of both controllers; a spurious interrupt, which cannot be masked, gets a vector above the exceptions.
pub(super) fn disable() {
    for chip in 0..2 {
        let base = PIC_BASE + chip as u8 * 8;
        // SAFETY: the controllers are the kernel's; a machine without them ignores the writes.
        unsafe {
            PortWriteOnly::new(COMMAND[chip]).write(INITIALISE);
            for word in [base, CASCADE[chip], MODE_8086, MASK_ALL] {
                PortWriteOnly::new(DATA[chip]).write(word);
            }
        }
    }
}
