//! A framebuffer where the loader sets up none: QEMU's own Multiboot loader does not, but its standard display
//! adapter needs only a few port writes. Other adapters are left alone.

use dragonet_boot::multiboot::Framebuffer;
use x86_64::instructions::port::Port;

/// Vendor and device number of the adapter.
const ADAPTER: u32 = 0x1111_1234;

const WIDTH: u16 = 1024;
const HEIGHT: u16 = 768;
const DEPTH: u16 = 32;

const REGISTER_ID: u16 = 0;
const REGISTER_WIDTH: u16 = 1;
const REGISTER_HEIGHT: u16 = 2;
const REGISTER_DEPTH: u16 = 3;
const REGISTER_ENABLE: u16 = 4;
const ENABLED_LINEAR: u16 = 0x41;

/// Switches the adapter to a linear framebuffer, if it is there and in its place in memory.
pub fn set_up() -> Option<Framebuffer> {
    let device = (0..32).find(|&device| configuration(device, 0) == ADAPTER)?;
    let address = u64::from(configuration(device, 0x10) & !0xf);
    if address == 0 || register(REGISTER_ID, None) & 0xfff0 != 0xb0c0 {
        return None;
    }
    let settings = [
        (REGISTER_ENABLE, 0),
        (REGISTER_WIDTH, WIDTH),
        (REGISTER_HEIGHT, HEIGHT),
        (REGISTER_DEPTH, DEPTH),
        (REGISTER_ENABLE, ENABLED_LINEAR),
    ];
    for (index, value) in settings {
        register(index, Some(value));
    }
    Some(Framebuffer {
        address,
        pitch: u32::from(WIDTH) * u32::from(DEPTH) / 8,
        width: WIDTH.into(),
        height: HEIGHT.into(),
        bits_per_pixel: DEPTH as u8,
        fields: [(16, 8), (8, 8), (0, 8)],
    })
}

/// A word of the configuration space of a device on the first PCI bus.
fn configuration(device: u32, offset: u32) -> u32 {
    // SAFETY: the address and data ports of PCI; reading these words changes nothing.
    unsafe {
        Port::<u32>::new(0xcf8).write(1 << 31 | device << 11 | offset);
        Port::<u32>::new(0xcfc).read()
    }
}

/// Writes a register of the adapter, if there is a value, and reads it.
fn register(index: u16, value: Option<u16>) -> u16 {
    // SAFETY: the index and data ports of the adapter, which has been found. They change the picture only.
    unsafe {
        Port::<u16>::new(0x1ce).write(index);
        let mut data = Port::<u16>::new(0x1cf);
        if let Some(value) = value {
            data.write(value);
        }
        data.read()
    }
}
