//! What the firmware's ACPI tables say: interrupt controllers, timers, power registers.

use super::{aml_sleep, apic, hpet::Hpet, ioapic, paging, power};
use acpi::fadt::Fadt;
use acpi::madt::{Madt, MadtEntry};
use acpi::{AcpiHandler, AcpiTables, HpetInfo, PhysicalMapping};
use core::ptr::NonNull;
use x86_64::PhysAddr;

/// ACPI's power management timer.
#[derive(Clone, Copy, Debug)]
pub(super) struct PowerTimer {
    pub(super) port: u16,
    pub(super) is_32_bit: bool,
}

/// Clocks that the tables name, for calibration.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    pub(super) hpet: Option<Hpet>,
    pub(super) power_timer: Option<PowerTimer>,
    /// Register of the calendar clock that has the century.
    pub(super) century: Option<u8>,
}

/// Maps tables for the `acpi` crate. A mapping is never taken back: there are few tables, and they are read at boot only.
#[derive(Clone, Copy, Debug)]
struct Tables;

impl AcpiHandler for Tables {
    unsafe fn map_physical_region<T>(&self, address: usize, size: usize) -> PhysicalMapping<Self, T> {
        let size = size.max(size_of::<T>());
        let virtual_address = paging::reach(PhysAddr::new(address as u64), size as u64)
            .expect("memory to map the ACPI tables at boot");
        let start = NonNull::new(virtual_address.as_mut_ptr()).expect("the kernel maps nothing at 0");
        // SAFETY: `reach` gives `size` bytes mapped for good.
        unsafe { PhysicalMapping::new(address, start, size, size, *self) }
    }

    fn unmap_physical_region<T>(_region: &PhysicalMapping<Self, T>) {}
}

/// MPS INTI flags (ACPI 6.5, table 5.26) of a source override: polarity and trigger, "as the bus has it" being that of ISA.
fn decode_flags(flags: u16) -> (bool, bool) {
    let active_low = flags & 0b11 == 0b11;
    let level = flags >> 2 & 0b11 == 0b11;
    (active_low, level)
}

/// Reads the tables, sets up local APIC and I/O APICs, and notes how to turn the machine off.
///
/// # Errors
/// A text when something is missing that the kernel cannot do without.
pub(super) fn init(rsdp: Option<PhysAddr>) -> Result<Clocks, &'static str> {
    let rsdp = rsdp.ok_or("the firmware has no ACPI")?;
    // SAFETY: the boot protocol says that the RSDP is there; the crate checks its signature and checksum.
    let tables = unsafe { AcpiTables::from_rsdp(Tables, rsdp.as_u64() as usize) }.map_err(|error| {
        log::error!("ACPI: {error:?}");
        "the firmware's ACPI tables are damaged"
    })?;
    read_madt(&tables)?;
    let mut clocks = Clocks::default();
    match HpetInfo::new(&tables) {
        Ok(info) => clocks.hpet = Hpet::new(PhysAddr::new(info.base_address as u64)),
        Err(_) => log::debug!("no HPET"),
    }
    match tables.find_table::<Fadt>() {
        Ok(fadt) => read_fadt(&tables, &fadt, &mut clocks),
        Err(error) => log::warn!("ACPI without FADT ({error:?}): the machine cannot be turned off"),
    }
    Ok(clocks)
}

fn read_madt(tables: &AcpiTables<Tables>) -> Result<(), &'static str> {
    let madt = tables
        .find_table::<Madt>()
        .map_err(|_| "ACPI names no interrupt controllers (no MADT)")?;
    let mut nmi_line = false;
    for entry in madt.get().entries() {
        if let MadtEntry::LocalApicNmi(nmi) = entry {
            nmi_line |= nmi.nmi_line == 1;
        }
    }
    apic::init(nmi_line)?;
    for entry in madt.get().entries() {
        match entry {
            MadtEntry::IoApic(controller) => {
                let address = PhysAddr::new(u64::from(controller.io_apic_address));
                ioapic::add(address, controller.global_system_interrupt_base);
            }
            MadtEntry::InterruptSourceOverride(source) => {
                let (active_low, level) = decode_flags(source.flags);
                ioapic::set_isa_line(source.irq, source.global_system_interrupt, active_low, level);
            }
            _ => {}
        }
    }
    if ioapic::controllers() == 0 {
        log::warn!("no I/O APIC: devices cannot interrupt");
    }
    Ok(())
}

fn read_fadt(tables: &AcpiTables<Tables>, fadt: &Fadt, clocks: &mut Clocks) {
    if let Ok(Some(timer)) = fadt.pm_timer_block()
        && timer.address_space == acpi::address::AddressSpace::SystemIo
        && let Ok(port) = u16::try_from(timer.address)
    {
        let flags = fadt.flags;
        clocks.power_timer = Some(PowerTimer {
            port,
            is_32_bit: flags.pm_timer_is_32_bit(),
        });
    }
    // A register number above the standard clock's own 14, or none.
    clocks.century = (fadt.century >= 0x0e && fadt.century < 0x80).then_some(fadt.century);
    let sleep_type = tables.dsdt().ok().and_then(|table| {
        let length = u64::from(table.length);
        let start = paging::reach(PhysAddr::new(table.address as u64), length).ok()?;
        // SAFETY: the table was validated over its whole length and is mapped for good; firmware does not write to it.
        let code = unsafe { core::slice::from_raw_parts(start.as_ptr::<u8>(), length as usize) };
        aml_sleep::soft_off(code)
    });
    power::learn(fadt, sleep_type);
}

/// The decoding of override flags, on the values of the specification.
pub(super) fn check_flags() -> Result<(), &'static str> {
    let cases = [
        (0b0000, (false, false)),
        (0b0101, (false, false)),
        (0b1111, (true, true)),
        (0b1101, (false, true)),
    ];
    let wrong = cases
        .iter()
        .any(|&(flags, expected)| decode_flags(flags) != expected);
    if wrong { Err("MPS INTI flags") } else { Ok(()) }
}
