//! EFI as a boot loader leaves it behind: the memory map, and the configuration tables that the system table lists.
#![forbid(unsafe_code)]

use crate::PhysicalMemory;
use crate::bytes::{u32_at, u64_at};
use crate::memory_map::{FirmwareRegions, Kind, Region};
use crate::multiboot::{EfiMemoryMap, EfiSystemTable};

/// Addresses of the tables that firmware publishes; each is physical.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigurationTables {
    /// ACPI's root pointer, the newer kind if there are both.
    pub rsdp: Option<u64>,
    /// Entry point of 32-bit SMBIOS.
    pub smbios_32: Option<u64>,
    /// Entry point of 64-bit SMBIOS.
    pub smbios_64: Option<u64>,
}

const ACPI_1: [u8; 16] = guid(0xeb9d_2d30, 0x2d88, 0x11d3, 0x9a16_0090_273f_c14d);
const ACPI_2: [u8; 16] = guid(0x8868_e871, 0xe4f1, 0x11d3, 0xbc22_0080_c73c_8881);
const SMBIOS: [u8; 16] = guid(0xeb9d_2d31, 0x2d88, 0x11d3, 0x9a16_0090_273f_c14d);
const SMBIOS_3: [u8; 16] = guid(0xf2fd_1544, 0x9794, 0x4a2c, 0x992e_e5bb_cf20_e394);

/// A GUID as it lies in memory: three little-endian numbers, then eight bytes in the order they are written.
const fn guid(first: u32, second: u16, third: u16, rest: u64) -> [u8; 16] {
    let (first, second, third) = (first.to_le_bytes(), second.to_le_bytes(), third.to_le_bytes());
    let r = rest.to_be_bytes();
    [
        first[0], first[1], first[2], first[3], second[0], second[1], third[0], third[1], r[0], r[1], r[2],
        r[3], r[4], r[5], r[6], r[7],
    ]
}

/// More entries than any firmware has.
const MOST_TABLES: u64 = 256;

/// Reads the list of configuration tables; empty if the system table is out of reach or is none.
pub fn configuration_tables(
    memory: &impl PhysicalMemory,
    system_table: EfiSystemTable,
) -> ConfigurationTables {
    read_tables(memory, system_table).unwrap_or_default()
}

fn read_tables(memory: &impl PhysicalMemory, system_table: EfiSystemTable) -> Option<ConfigurationTables> {
    let (count, list, width) = match system_table {
        EfiSystemTable::Bits64(address) => {
            let table = memory
                .bytes(address, 120)
                .filter(|table| table.starts_with(b"IBI SYST"))?;
            (u64_at(table, 104)?, u64_at(table, 112)?, 8)
        }
        EfiSystemTable::Bits32(address) => {
            let table = memory
                .bytes(address, 72)
                .filter(|table| table.starts_with(b"IBI SYST"))?;
            (u32_at(table, 64)?.into(), u32_at(table, 68)?.into(), 4)
        }
    };
    let size = 16 + width;
    let entries = memory.bytes(list, count.min(MOST_TABLES) * size as u64)?;
    let mut tables = ConfigurationTables::default();
    for entry in entries.chunks_exact(size) {
        let address = match width {
            8 => u64_at(entry, 16)?,
            _ => u32_at(entry, 16)?.into(),
        };
        match *entry.first_chunk()? {
            ACPI_2 => tables.rsdp = Some(address),
            ACPI_1 => tables.rsdp = tables.rsdp.or(Some(address)),
            SMBIOS => tables.smbios_32 = Some(address),
            SMBIOS_3 => tables.smbios_64 = Some(address),
            _ => {}
        }
    }
    Some(tables)
}

/// The kind that the protocol prescribes for an EFI memory type.
fn kind(efi_type: u32) -> Kind {
    match efi_type {
        1..=4 => Kind::BootloaderReclaimable,
        7 => Kind::Usable,
        9 => Kind::AcpiReclaimable,
        10 => Kind::AcpiNvs,
        _ => Kind::Reserved,
    }
}

/// The regions of an EFI memory map; nothing if it is damaged or has too many.
pub fn regions(map: &EfiMemoryMap<'_>) -> Option<FirmwareRegions> {
    let mut regions = FirmwareRegions::new();
    if map.descriptor_size < 40 {
        return None;
    }
    for descriptor in map.descriptors.chunks_exact(map.descriptor_size as usize) {
        let (start, pages) = (u64_at(descriptor, 8)?, u64_at(descriptor, 24)?);
        let end = start.checked_add(pages.checked_mul(crate::PAGE_SIZE)?)?;
        let region = Region {
            start,
            end,
            kind: kind(u32_at(descriptor, 0)?),
        };
        match regions.last_mut() {
            Some(last) if last.end == region.start && last.kind == region.kind => last.end = region.end,
            _ => regions.try_push(region).ok()?,
        }
    }
    (!regions.is_empty()).then_some(regions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multiboot::fake::FakeMemory;
    use std::vec::Vec;

    fn descriptor(efi_type: u32, start: u64, pages: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [efi_type.into(), start, 0, pages, 0xf, 0] {
            bytes.extend(word.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn memory_types_become_kinds() {
        let types = [(0, 1), (7, 0x10), (7, 0x20), (4, 0x100), (9, 8), (6, 4), (10, 4)];
        let mut start = 0x1000;
        let mut descriptors = Vec::new();
        for (efi_type, pages) in types {
            descriptors.extend(descriptor(efi_type, start, pages));
            start += pages * 4096;
        }
        let map = EfiMemoryMap {
            descriptor_size: 48,
            descriptor_version: 1,
            descriptors: &descriptors,
        };
        let regions = regions(&map).unwrap();
        let kinds: Vec<Kind> = regions.iter().map(|region| region.kind).collect();
        let expected = [
            Kind::Reserved,
            Kind::Usable,
            Kind::BootloaderReclaimable,
            Kind::AcpiReclaimable,
            Kind::Reserved,
            Kind::AcpiNvs,
        ];
        assert_eq!(kinds, expected);
        assert_eq!((regions[1].start, regions[1].end), (0x2000, 0x32000));
        assert!(
            super::regions(&EfiMemoryMap {
                descriptor_size: 8,
                ..map
            })
            .is_none()
        );
    }

    #[test]
    fn configuration_tables_of_both_widths() {
        let mut memory = FakeMemory::new(0x1000, 0x1000);
        memory.put(0x1000, b"IBI SYST");
        memory.put_u32(0x1000 + 104, &[3, 0, 0x1200, 0]);
        for (index, (guid, address)) in [(ACPI_2, 0x7000u64), (ACPI_1, 0x6000), (SMBIOS_3, 0x5000)]
            .iter()
            .enumerate()
        {
            memory.put(0x1200 + 24 * index as u64, guid);
            memory.put(0x1210 + 24 * index as u64, &address.to_le_bytes());
        }
        let tables = configuration_tables(&memory, EfiSystemTable::Bits64(0x1000));
        let expected = ConfigurationTables {
            rsdp: Some(0x7000),
            smbios_32: None,
            smbios_64: Some(0x5000),
        };
        assert_eq!(tables, expected);
        assert_eq!(
            configuration_tables(&memory, EfiSystemTable::Bits64(0x1008)),
            ConfigurationTables::default()
        );

        memory.put(0x1800, b"IBI SYST");
        memory.put_u32(0x1840, &[1, 0x1900]);
        memory.put(0x1900, &SMBIOS);
        memory.put_u32(0x1910, &[0x4000]);
        let tables = configuration_tables(&memory, EfiSystemTable::Bits32(0x1800));
        assert_eq!(tables.smbios_32, Some(0x4000));
    }

    #[test]
    fn a_guid_lies_in_memory_as_the_specification_says() {
        assert_eq!(ACPI_2[..8], [0x71, 0xe8, 0x68, 0x88, 0xf1, 0xe4, 0xd3, 0x11]);
        assert_eq!(ACPI_2[8..], [0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81]);
    }
}
