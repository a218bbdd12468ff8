//! The few tables of ACPI that the stage needs: the root pointer, the processors and interrupt controllers (MADT),
//! and the clocks that the fixed description (FADT) names.
#![forbid(unsafe_code)]

use arrayvec::ArrayVec;

use crate::PhysicalMemory;
use crate::bytes::{checksum, u8_at, u16_at, u32_at, u64_at};

/// The most processors the stage starts.
pub const MOST_PROCESSORS: usize = 256;

/// The most I/O APICs it masks.
pub const MOST_IO_APICS: usize = 32;

const HEADER: usize = 36;

/// Finds the root pointer the way BIOS machines publish it: on a 16-byte boundary in the first KiB of the extended
/// BIOS data area, or from 0xe0000 to 0xfffff. Returns its physical address.
pub fn find_root_pointer(memory: &impl PhysicalMemory) -> Option<u64> {
    let segment = memory
        .bytes(0x40e, 2)
        .and_then(|bytes| u16_at(bytes, 0))
        .unwrap_or(0);
    let extended = u64::from(segment) << 4;
    [(extended, 1024), (0xe_0000, 0x2_0000)]
        .into_iter()
        .filter(|&(start, _)| start >= 0x8_0000)
        .find_map(|(start, length)| {
            let area = memory.bytes(start, length)?;
            let valid = |offset: &usize| {
                area.get(*offset..offset + 20)
                    .is_some_and(|pointer| pointer.starts_with(b"RSD PTR ") && checksum(pointer) == 0)
            };
            let found = (0..area.len()).step_by(16).find(valid)?;
            Some(start + found as u64)
        })
}

/// The table with a signature, whole and with a valid checksum, found from the root pointer at `root`.
pub fn find_table<'memory>(
    memory: &'memory impl PhysicalMemory,
    root: u64,
    signature: &[u8; 4],
) -> Option<&'memory [u8]> {
    let pointer = memory.bytes(root, 20)?;
    let extended = match u8_at(pointer, 15)? {
        0 | 1 => 0,
        _ => memory
            .bytes(root, 36)
            .and_then(|pointer| u64_at(pointer, 24))
            .unwrap_or(0),
    };
    let (list, width) = match table(memory, extended) {
        Some(list) => (list, 8),
        None => (table(memory, u32_at(pointer, 16)?.into())?, 4),
    };
    list[HEADER..]
        .chunks_exact(width)
        .filter_map(|entry| match width {
            8 => u64_at(entry, 0),
            _ => u32_at(entry, 0).map(u64::from),
        })
        .filter_map(|address| table(memory, address))
        .find(|table| table.starts_with(signature))
}

/// The table at a physical address, if there is a valid one.
fn table(memory: &impl PhysicalMemory, address: u64) -> Option<&[u8]> {
    let length = u32_at(memory.bytes(address, HEADER as u64)?, 4)?;
    let whole = memory.bytes(address, length.into())?;
    (whole.len() >= HEADER && checksum(whole) == 0).then_some(whole)
}

/// A processor that can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processor {
    /// ACPI's number for it.
    pub uid: u32,
    /// Id of its local APIC.
    pub apic_id: u32,
}

/// Processors and interrupt controllers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterruptControllers {
    /// The enabled processors, in the order of the table.
    pub processors: ArrayVec<Processor, MOST_PROCESSORS>,
    /// Physical addresses of the I/O APICs.
    pub io_apics: ArrayVec<u32, MOST_IO_APICS>,
}

impl InterruptControllers {
    /// Reads a MADT. A processor listed twice, as APIC and as x2APIC, is taken once.
    pub fn new(madt: &[u8]) -> Self {
        let mut controllers = InterruptControllers::default();
        let mut rest = madt.get(HEADER + 8..).unwrap_or(&[]);
        while let (Some(kind), Some(length)) = (u8_at(rest, 0), u8_at(rest, 1)) {
            let Some(entry) = rest.get(..length.into()).filter(|entry| entry.len() >= 2) else {
                break;
            };
            let processor = match kind {
                0 => read_processor(
                    u8_at(entry, 2).map(u32::from),
                    u8_at(entry, 3).map(u32::from),
                    u32_at(entry, 4),
                ),
                9 => read_processor(u32_at(entry, 12), u32_at(entry, 4), u32_at(entry, 8)),
                _ => None,
            };
            if let Some(processor) = processor
                && controllers
                    .processors
                    .iter()
                    .all(|known| known.apic_id != processor.apic_id)
            {
                let _ = controllers.processors.try_push(processor);
            }
            if kind == 1
                && let Some(address) = u32_at(entry, 4)
            {
                let _ = controllers.io_apics.try_push(address);
            }
            rest = &rest[entry.len()..];
        }
        controllers
    }
}

/// A processor, if all its fields are there and it is enabled.
fn read_processor(uid: Option<u32>, apic_id: Option<u32>, flags: Option<u32>) -> Option<Processor> {
    let processor = Processor {
        uid: uid?,
        apic_id: apic_id?,
    };
    (flags? & 1 != 0).then_some(processor)
}

/// Where the power-management timer is, which counts 3 579 545 times a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerTimer {
    /// At an I/O port.
    Port(u16),
    /// At a physical address.
    Memory(u64),
}

/// What the stage uses of the FADT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FixedDescription {
    /// The power-management timer.
    pub power_timer: Option<PowerTimer>,
    /// Index of the clock's century register.
    pub century_register: Option<u8>,
}

impl FixedDescription {
    /// Reads a FADT.
    pub fn new(fadt: &[u8]) -> Self {
        let extended = fadt
            .get(208..220)
            .and_then(|address| match (address[0], u64_at(address, 4)?) {
                (_, 0) => None,
                (0, address) => Some(PowerTimer::Memory(address)),
                (1, port) => u16::try_from(port).ok().map(PowerTimer::Port),
                _ => None,
            });
        let port = u32_at(fadt, 76)
            .and_then(|port| u16::try_from(port).ok())
            .filter(|&port| port != 0);
        FixedDescription {
            power_timer: port.map(PowerTimer::Port).or(extended),
            century_register: u8_at(fadt, 108).filter(|&index| index != 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multiboot::fake::FakeMemory;
    use std::vec::Vec;

    fn seal(table: &mut [u8], checksum_at: usize) {
        table[checksum_at] = 0;
        table[checksum_at] = checksum(table).wrapping_neg();
    }

    fn make_table(signature: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let mut table = std::vec![0; HEADER];
        table[..4].copy_from_slice(signature);
        table.extend(content);
        let length = table.len() as u32;
        table[4..8].copy_from_slice(&length.to_le_bytes());
        seal(&mut table, 9);
        table
    }

    fn machine() -> FakeMemory {
        let mut memory = FakeMemory::new(0xe_0000, 0x2_0000);
        let mut pointer = Vec::from(*b"RSD PTR \0DRAGON\0");
        pointer.extend(0xf_0000u32.to_le_bytes());
        seal(&mut pointer, 8);
        memory.put(0xf_5ad0, &pointer);
        let list: Vec<u8> = [0xf_1000u32, 0xf_2000]
            .iter()
            .flat_map(|entry| entry.to_le_bytes())
            .collect();
        memory.put(0xf_0000, &make_table(b"RSDT", &list));
        memory.put(0xf_1000, &make_table(b"FACP", &[0; 80]));
        memory.put(0xf_2000, &make_table(b"APIC", &[1, 2, 3, 4, 0, 0, 0, 0]));
        memory
    }

    #[test]
    fn finds_tables_from_the_bios_area() {
        let mut memory = machine();
        let root = find_root_pointer(&memory).unwrap();
        assert_eq!(root, 0xf_5ad0);
        memory.put(0xe_0010, b"RSD PTR by chance, with a wrong sum");
        assert_eq!(find_root_pointer(&memory), Some(root));
        assert_eq!(find_table(&memory, root, b"APIC").unwrap().len(), HEADER + 8);
        assert!(find_table(&memory, root, b"HPET").is_none());
        memory.put(0xf_2004, &[200]);
        assert!(find_table(&memory, root, b"APIC").is_none(), "bad checksum");
        memory.put(0xf_5ad9, b"X");
        assert_eq!(find_root_pointer(&memory), None, "bad checksum");
    }

    #[test]
    fn reads_processors_and_controllers() {
        let mut content = std::vec![0; 8];
        content.extend([0, 8, 1, 0, 1, 0, 0, 0]);
        content.extend([0, 8, 2, 2, 0, 0, 0, 0]);
        content.extend([1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
        content.extend([0, 8, 3, 4, 1, 0, 0, 0]);
        content.extend([9, 16, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0]);
        content.extend([9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0]);
        let table = make_table(b"APIC", &content);
        let controllers = InterruptControllers::new(&table);
        let expected = [
            Processor { uid: 1, apic_id: 0 },
            Processor { uid: 3, apic_id: 4 },
            Processor { uid: 9, apic_id: 256 },
        ];
        assert_eq!(controllers.processors[..], expected);
        assert_eq!(controllers.io_apics[..], [0xfec0_0000]);
        for length in 0..table.len() {
            InterruptControllers::new(&table[..length]);
        }
    }

    #[test]
    fn an_entry_of_no_length_ends_the_list() {
        let table = make_table(b"APIC", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 5]);
        assert!(InterruptControllers::new(&table).processors.is_empty());
    }

    #[test]
    fn reads_the_clocks() {
        let mut table = std::vec![0; 244];
        table[76..80].copy_from_slice(&0xb008u32.to_le_bytes());
        table[108] = 0x32;
        let fixed = FixedDescription::new(&table);
        assert_eq!(fixed.power_timer, Some(PowerTimer::Port(0xb008)));
        assert_eq!(fixed.century_register, Some(0x32));
        table[76..80].fill(0);
        table[212..220].copy_from_slice(&0xfed8_0808u64.to_le_bytes());
        assert_eq!(
            FixedDescription::new(&table).power_timer,
            Some(PowerTimer::Memory(0xfed8_0808))
        );
        assert_eq!(FixedDescription::new(&[]), FixedDescription::default());
    }
}
