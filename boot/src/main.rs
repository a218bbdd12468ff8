//! Dragonet's own boot stage: a Multiboot 1 and 2 program that enters the kernel, the module named `kernel`, exactly
//! as the Limine boot protocol promises, so that the kernel cannot tell which of the two has loaded it.
//!
//! The entry code (`machine/entry.s`) calls [`stage_main`] in 64-bit mode on the boot CPU. What needs no machine is
//! in the library of this package. Messages go to the first serial port; a machine that cannot be booted says why
//! there and on the screen, ends with `dragonet: exit status 102`, and leaves by the door of the command line.
#![no_std]
#![no_main]

mod machine;
mod stage;

use core::fmt::Write;

use dragonet_boot::command_line::exit_door;
use dragonet_boot::multiboot::{self, BootInformation};

use machine::console::{self, Serial};
use machine::memory::IdentityMapped;
use machine::screen::Screen;
use machine::{display, exceptions};

/// The exit status of a machine that cannot be booted.
const STATUS_CANNOT_BOOT: u8 = 102;

/// The exit status after a defect of the stage itself.
const STATUS_PANIC: u8 = 101;

/// Called by the entry code with the loader's magic number and the physical address of its information.
#[unsafe(no_mangle)]
extern "C" fn stage_main(magic: u32, address: u32) -> ! {
    Serial::initialise();
    exceptions::initialise();
    let mut information = match multiboot::parse(&IdentityMapped, magic, address) {
        Ok(information) => information,
        Err(error) => {
            let unknown = BootInformation {
                text_screen: true,
                ..BootInformation::default()
            };
            refuse(&unknown, &error)
        }
    };
    if information.loader == "qemu" && information.framebuffer.is_none() {
        information.framebuffer = display::set_up();
    }
    console::set_exit_door(exit_door(information.command_line));
    match stage::run(&information) {
        Ok(never) => match never {},
        Err(error) => refuse(&information, &error),
    }
}

/// Says why the machine cannot be booted, and ends.
fn refuse(information: &BootInformation<'_>, reason: &dyn core::fmt::Display) -> ! {
    say!("dragonet: cannot boot: {reason}");
    if let Some(mut screen) = Screen::new(information) {
        let _ = write!(screen, "dragonet: cannot boot: {reason}");
    }
    console::exit(STATUS_CANNOT_BOOT)
}

#[panic_handler]
fn panic(information: &core::panic::PanicInfo<'_>) -> ! {
    say!("dragonet: panic: in the boot stage: {information}");
    console::exit(STATUS_PANIC)
}
