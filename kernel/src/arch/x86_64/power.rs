//! The ways out: off, reset, and the doors of emulators.

use super::aml_sleep::SleepType;
use super::command_line::{self, ExitDoor};
use super::{clock, irq, nmi};
use crate::debug::log as kernel_log;
use acpi::address::{AddressSpace, GenericAddress};
use acpi::fadt::Fadt;
use core::ptr::NonNull;
use spin::Once;
use volatile::VolatilePtr;
use x86_64::instructions::port::Port;
use x86_64::structures::DescriptorTablePointer;
use x86_64::{PhysAddr, VirtAddr};

/// PM1 control: the firmware has handed ACPI over.
const ACPI_ENABLED: u16 = 1 << 0;
const SLEEP_ENABLE: u16 = 1 << 13;
const SLEEP_TYPE_SHIFT: u16 = 10;
const SLEEP_TYPE_MASK: u16 = 7 << SLEEP_TYPE_SHIFT;
/// How long the hardware may take to act, in nanoseconds.
const PATIENCE: u64 = 500_000_000;
const SECOND: u64 = 1_000_000_000;

/// Keyboard controller: command port and the pulse on the reset line.
const KEYBOARD_COMMAND: u16 = 0x64;
const PULSE_RESET: u8 = 0xfe;
/// Chipset reset register: hard reset, then go.
const CHIPSET_RESET: u16 = 0xcf9;

#[derive(Clone, Copy, Debug)]
enum Register {
    Port(u16),
    /// Mapped for good.
    Memory(VirtAddr),
}

/// What FADT and DSDT say about power.
#[derive(Clone, Copy, Debug)]
struct Power {
    control: [Option<u16>; 2],
    event: [Option<(u16, u16)>; 2],
    timer: Option<u16>,
    sleep_type: Option<SleepType>,
    handover: Option<(u16, u8)>,
    reset: Option<(Register, u8)>,
}

static POWER: Once<Power> = Once::new();

fn port_of(address: GenericAddress) -> Option<u16> {
    let is_port = address.address_space == AddressSpace::SystemIo && address.address != 0;
    is_port.then(|| u16::try_from(address.address).ok()).flatten()
}

/// Notes what the tables say.
pub(super) fn learn(fadt: &Fadt, sleep_type: Option<SleepType>) {
    let event = |address: GenericAddress| Some((port_of(address)?, u16::from(address.bit_width / 8)));
    let flags = fadt.flags;
    let reset = fadt
        .reset_register()
        .ok()
        .filter(|_| flags.supports_system_reset_via_fadt());
    let reset = reset.and_then(|register| match register.address_space {
        AddressSpace::SystemIo => Some(Register::Port(u16::try_from(register.address).ok()?)),
        AddressSpace::SystemMemory => {
            let address = PhysAddr::try_new(register.address).ok()?;
            Some(Register::Memory(crate::pmap::map_device(address, 1).ok()?))
        }
        _ => None,
    });
    let command = u16::try_from(fadt.smi_cmd_port).ok().filter(|&port| port != 0);
    let power = Power {
        control: [
            fadt.pm1a_control_block().ok().and_then(port_of),
            fadt.pm1b_control_block().ok().flatten().and_then(port_of),
        ],
        event: [
            fadt.pm1a_event_block().ok().and_then(event),
            fadt.pm1b_event_block().ok().flatten().and_then(event),
        ],
        timer: fadt.pm_timer_block().ok().flatten().and_then(port_of),
        sleep_type,
        handover: command
            .filter(|_| fadt.acpi_enable != 0)
            .map(|port| (port, fadt.acpi_enable)),
        reset: reset.map(|register| (register, fadt.reset_value)),
    };
    if power.sleep_type.is_none() || power.control[0].is_none() {
        log::warn!("ACPI does not say how to turn the machine off");
    }
    POWER.call_once(|| power);
}

/// Ports of ACPI's registers, which the kernel keeps to itself: (first, count).
pub(super) fn ports() -> impl Iterator<Item = (u16, u16)> {
    let power = POWER.get();
    let control = power
        .into_iter()
        .flat_map(|power| power.control)
        .flatten()
        .map(|port| (port, 2));
    let event = power.into_iter().flat_map(|power| power.event).flatten();
    let timer = power.and_then(|power| power.timer).map(|port| (port, 4));
    control.chain(event).chain(timer)
}

/// Ends the machine's run with a status: the log's last line says it, then the door of the command line, or ACPI.
pub fn exit_status(status: u8) -> ! {
    leave(status);
    turn_off();
    kernel_log::last_line(format_args!(
        "dragonet: the machine cannot be turned off; it is safe to do so by hand"
    ));
    halt()
}

/// Ends the machine's run after a panic: like [`exit_status`], but without a door the machine stays on, so that what the screen
/// says can be read.
pub fn exit_with_report(status: u8) -> ! {
    leave(status);
    kernel_log::last_line(format_args!("dragonet: halted"));
    halt()
}

/// Stops everything, says the status, and goes through the door if there is one.
fn leave(status: u8) {
    irq::disable();
    nmi::stop_others();
    kernel_log::enter_emergency();
    kernel_log::last_line(format_args!("dragonet: exit status {status}"));
    super::serial::flush();
    if let Some(door) = command_line::exit_door() {
        door.leave(status);
    }
}

impl ExitDoor {
    /// The ports that it needs: (first, count).
    pub(super) fn ports(self) -> (u16, u16) {
        match self {
            ExitDoor::IsaDebugExit(port) => (port, 4),
            ExitDoor::Bochs => (BOCHS_PORT, 1),
        }
    }

    fn leave(self, status: u8) {
        // SAFETY: the command line says that the emulator has a door at this port.
        unsafe {
            match self {
                ExitDoor::IsaDebugExit(port) => Port::<u32>::new(port).write(u32::from(status)),
                ExitDoor::Bochs => {
                    for byte in *b"Shutdown" {
                        Port::<u8>::new(BOCHS_PORT).write(byte);
                    }
                }
            }
        }
        clock::spin_for(PATIENCE);
    }
}

const BOCHS_PORT: u16 = 0x8900;

/// ACPI soft off (ACPI 6.5, 16.1): returns if the hardware does not follow.
fn turn_off() {
    let Some(power) = POWER.get() else { return };
    let (Some(sleep_type), Some(control)) = (power.sleep_type, power.control[0]) else {
        return;
    };
    hand_over(power, control);
    let values = [sleep_type.a, sleep_type.b];
    for (port, value) in power.control.iter().zip(values) {
        let Some(port) = *port else { continue };
        // SAFETY: FADT says that this is a PM1 control register. Everything but the sleep fields stays.
        unsafe {
            let mut register = Port::<u16>::new(port);
            let kept = register.read() & !SLEEP_TYPE_MASK;
            register.write(kept | u16::from(value) << SLEEP_TYPE_SHIFT | SLEEP_ENABLE);
        }
    }
    clock::spin_for(PATIENCE);
}

/// Takes ACPI over from the firmware's management mode, if that has not happened (ACPI 6.5, 16.3.1).
fn hand_over(power: &Power, control: u16) {
    // SAFETY: FADT says that this is the PM1a control register; reading has no effect.
    let enabled = || unsafe { Port::<u16>::new(control).read() } & ACPI_ENABLED != 0;
    let Some((port, value)) = power.handover.filter(|_| !enabled()) else {
        return;
    };
    // SAFETY: FADT says that this value at this port hands ACPI over.
    unsafe { Port::<u8>::new(port).write(value) };
    let end = clock::now() + SECOND;
    while !enabled() && clock::now() < end {
        core::hint::spin_loop();
    }
}

/// Resets the machine: by ACPI, the chipset, the keyboard controller, and last by a triple fault.
pub fn reset() -> ! {
    irq::disable();
    nmi::stop_others();
    kernel_log::enter_emergency();
    kernel_log::last_line(format_args!("dragonet: reset"));
    super::serial::flush();
    match POWER.get().and_then(|power| power.reset) {
        // SAFETY: FADT says that writing the value there resets the machine.
        Some((Register::Port(port), value)) => unsafe { Port::<u8>::new(port).write(value) },
        Some((Register::Memory(address), value)) => {
            if let Some(pointer) = NonNull::new(address.as_mut_ptr::<u8>()) {
                // SAFETY: as above, and `learn` mapped it.
                unsafe { VolatilePtr::new(pointer).write(value) };
            }
        }
        None => {}
    }
    clock::spin_for(PATIENCE);
    // SAFETY: the machine is to be reset, and these are ways to do it.
    unsafe {
        let mut chipset = Port::<u8>::new(CHIPSET_RESET);
        chipset.write(0x02);
        chipset.write(0x06);
        clock::spin_for(PATIENCE);
        Port::<u8>::new(KEYBOARD_COMMAND).write(PULSE_RESET);
        clock::spin_for(PATIENCE);
        let nothing = DescriptorTablePointer {
            limit: 0,
            base: VirtAddr::zero(),
        };
        x86_64::instructions::tables::lidt(&nothing);
        core::arch::asm!("int3");
    }
    halt()
}

/// Stops this CPU for good.
pub fn halt() -> ! {
    loop {
        irq::disable();
        x86_64::instructions::hlt();
    }
}
