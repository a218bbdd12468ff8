//! Multiboot version 2: one block with a total size and a list of tags.
#![forbid(unsafe_code)]

use super::{
    BootInformation, EfiMemoryMap, EfiSystemTable, Module, ParseError, read_framebuffer, region_kind,
};
use crate::PhysicalMemory;
use crate::bytes::{text, u32_at, u64_at};
use crate::memory_map::Region;

/// The value in EAX at entry.
pub const MAGIC: u32 = 0x36d7_6289;

/// More than any loader passes; a larger size is taken for nonsense.
const LARGEST: u32 = 16 << 20;

const TAG_END: u32 = 0;
const TAG_COMMAND_LINE: u32 = 1;
const TAG_LOADER_NAME: u32 = 2;
const TAG_MODULE: u32 = 3;
const TAG_MEMORY_MAP: u32 = 6;
const TAG_FRAMEBUFFER: u32 = 8;
const TAG_EFI_32: u32 = 11;
const TAG_EFI_64: u32 = 12;
const TAG_OLD_RSDP: u32 = 14;
const TAG_NEW_RSDP: u32 = 15;
const TAG_EFI_MEMORY_MAP: u32 = 17;

/// Reads the block at physical `address`.
///
/// # Errors
/// See [`ParseError`].
pub fn parse<M: PhysicalMemory>(memory: &M, address: u32) -> Result<BootInformation<'_>, ParseError> {
    let unreachable = ParseError::Unreachable(address);
    let size = memory
        .bytes(address.into(), 8)
        .and_then(|head| u32_at(head, 0))
        .ok_or(unreachable)?;
    if !(16..=LARGEST).contains(&size) {
        return Err(unreachable);
    }
    let block = memory.bytes(address.into(), size.into()).ok_or(unreachable)?;
    let mut information = BootInformation::default();
    information
        .ranges
        .push((address.into(), u64::from(address) + u64::from(size)));

    let mut offset = 8;
    let mut new_rsdp = false;
    while let (Some(kind), Some(length)) = (u32_at(block, offset), u32_at(block, offset + 4)) {
        let Some(tag) = block.get(offset..offset.saturating_add(length as usize)) else {
            break;
        };
        if kind == TAG_END || length < 8 {
            break;
        }
        let tag_address = u64::from(address) + offset as u64;
        match kind {
            TAG_COMMAND_LINE => information.command_line = text(&tag[8..]),
            TAG_LOADER_NAME => information.loader = text(&tag[8..]),
            TAG_MODULE => read_module(tag, &mut information)?,
            TAG_MEMORY_MAP => read_memory_map(tag, &mut information)?,
            TAG_FRAMEBUFFER if tag.len() >= 30 => {
                let _ = read_framebuffer(&tag[8..], tag.get(32..).unwrap_or(&[]), &mut information);
            }
            TAG_EFI_32 => {
                let table = u32_at(tag, 8).map(|table| EfiSystemTable::Bits32(table.into()));
                information.efi_system_table = information.efi_system_table.or(table);
            }
            TAG_EFI_64 => information.efi_system_table = u64_at(tag, 8).map(EfiSystemTable::Bits64),
            TAG_OLD_RSDP if !new_rsdp => information.rsdp_copy = Some(tag_address + 8),
            TAG_NEW_RSDP => {
                information.rsdp_copy = Some(tag_address + 8);
                new_rsdp = true;
            }
            TAG_EFI_MEMORY_MAP => {
                information.efi_memory_map = read_efi_memory_map(tag);
            }
            _ => {}
        }
        offset += (length as usize).next_multiple_of(8);
    }
    Ok(information)
}

fn read_module<'memory>(
    tag: &'memory [u8],
    information: &mut BootInformation<'memory>,
) -> Result<(), ParseError> {
    let (Some(start), Some(end)) = (u32_at(tag, 8), u32_at(tag, 12)) else {
        return Ok(());
    };
    let module = Module {
        start: start.into(),
        end: end.into(),
        string: text(&tag[16..]),
    };
    information
        .modules
        .try_push(module)
        .map_err(|_| ParseError::TooMany("modules"))
}

fn read_memory_map(tag: &[u8], information: &mut BootInformation<'_>) -> Result<(), ParseError> {
    let entry_size = u32_at(tag, 8).unwrap_or(0) as usize;
    if entry_size < 20 {
        return Ok(());
    }
    for entry in tag.get(16..).unwrap_or(&[]).chunks_exact(entry_size) {
        let (Some(start), Some(length), Some(kind)) = (u64_at(entry, 0), u64_at(entry, 8), u32_at(entry, 16))
        else {
            break;
        };
        let region = Region {
            start,
            end: start.saturating_add(length),
            kind: region_kind(kind),
        };
        information
            .memory
            .try_push(region)
            .map_err(|_| ParseError::TooMany("memory regions"))?;
    }
    Ok(())
}

fn read_efi_memory_map(tag: &[u8]) -> Option<EfiMemoryMap<'_>> {
    Some(EfiMemoryMap {
        descriptor_size: u32_at(tag, 8)?,
        descriptor_version: u32_at(tag, 12)?,
        descriptors: tag.get(16..)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_map::Kind;
    use crate::multiboot::fake::FakeMemory;
    use std::vec::Vec;

    /// Tags with their contents; sizes and padding are filled in.
    fn block(tags: &[(u32, Vec<u8>)]) -> FakeMemory {
        let mut bytes: Vec<u8> = std::vec![0; 8];
        for (kind, content) in tags.iter().chain(&[(TAG_END, Vec::new())]) {
            bytes.extend(kind.to_le_bytes());
            bytes.extend((content.len() as u32 + 8).to_le_bytes());
            bytes.extend(content);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        let size = bytes.len() as u32;
        bytes[..4].copy_from_slice(&size.to_le_bytes());
        FakeMemory {
            base: 0x1_0000,
            bytes,
        }
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn module(start: u32, end: u32, string: &str) -> (u32, Vec<u8>) {
        let mut content = words(&[start, end]);
        content.extend(string.as_bytes());
        content.push(0);
        (TAG_MODULE, content)
    }

    #[test]
    fn reads_what_grub_passes() {
        let mut framebuffer = words(&[0xfd00_0000, 0, 5120, 1280, 800]);
        framebuffer.extend([32, 1, 0, 0, 16, 8, 8, 8, 0, 8]);
        let memory = block(&[
            (TAG_COMMAND_LINE, b"exit=bochs\0".to_vec()),
            (TAG_LOADER_NAME, b"GRUB 2.06\0".to_vec()),
            module(0x20_0000, 0x28_0000, "/boot/kernel kernel"),
            module(0x30_0000, 0x30_0010, "init"),
            (
                TAG_MEMORY_MAP,
                words(&[
                    24, 0, 0, 0, 0x9f000, 0, 1, 0, 0x10_0000, 0, 0x700_0000, 0, 1, 0, 0, 1, 0, 1, 5, 0,
                ]),
            ),
            (TAG_FRAMEBUFFER, framebuffer),
            (TAG_OLD_RSDP, b"RSD PTR old".to_vec()),
            (TAG_NEW_RSDP, b"RSD PTR new".to_vec()),
            (TAG_EFI_64, words(&[0x7f00_0018, 0])),
            (TAG_EFI_MEMORY_MAP, words(&[48, 1, 7, 7, 7])),
        ]);
        let information = super::super::parse(&memory, MAGIC, 0x1_0000).unwrap();
        assert_eq!(information.command_line, "exit=bochs");
        assert_eq!(information.modules[0].name(), "kernel");
        assert_eq!(information.modules[1].name(), "init");
        assert_eq!(information.modules[1].path(), "init");
        assert_eq!(information.memory.len(), 3);
        assert_eq!(information.memory[2].kind, Kind::Bad);
        assert_eq!(information.framebuffer.unwrap().size(), 5120 * 800);
        let copy = memory.bytes(information.rsdp_copy.unwrap(), 11).unwrap();
        assert_eq!(copy, b"RSD PTR new");
        assert_eq!(
            information.efi_system_table,
            Some(EfiSystemTable::Bits64(0x7f00_0018))
        );
        let map = information.efi_memory_map.unwrap();
        assert_eq!((map.descriptor_size, map.descriptors.len()), (48, 12));
        assert_eq!(
            information.ranges[0],
            (0x1_0000, 0x1_0000 + memory.bytes.len() as u64)
        );
    }

    #[test]
    fn a_text_screen_is_no_framebuffer() {
        let mut content = words(&[0xb_8000, 0, 160, 80, 25]);
        content.extend([16, 2, 0, 0]);
        let memory = block(&[(TAG_FRAMEBUFFER, content)]);
        let information = parse(&memory, 0x1_0000).unwrap();
        assert!(information.text_screen && information.framebuffer.is_none());
    }

    #[test]
    fn truncated_blocks_end_early() {
        let memory = block(&[
            module(0x20_0000, 0x28_0000, "kernel"),
            (TAG_MEMORY_MAP, words(&[24, 0, 0, 0, 0x9f000, 0, 1, 0])),
        ]);
        for size in 16..memory.bytes.len() {
            let mut cut = FakeMemory {
                base: 0x1_0000,
                bytes: memory.bytes[..size].to_vec(),
            };
            cut.put_u32(0x1_0000, &[size as u32]);
            let information = parse(&cut, 0x1_0000).unwrap();
            assert!(information.modules.len() <= 1);
        }
        let mut wild = block(&[]);
        wild.put_u32(0x1_0000, &[u32::MAX]);
        assert_eq!(
            parse(&wild, 0x1_0000).unwrap_err(),
            ParseError::Unreachable(0x1_0000)
        );
    }
}
