//! Multiboot version 1: a structure with flags that say which of its fields are valid, and pointers.
#![forbid(unsafe_code)]

use super::{BootInformation, Module, ParseError, read_framebuffer, region_kind};
use crate::PhysicalMemory;
use crate::bytes::{text_at, u32_at, u64_at};
use crate::memory_map::Region;

/// The value in EAX at entry.
pub const MAGIC: u32 = 0x2bad_b002;

const SIZE: u64 = 116;

const FLAG_COMMAND_LINE: u32 = 1 << 2;
const FLAG_MODULES: u32 = 1 << 3;
const FLAG_MEMORY_MAP: u32 = 1 << 6;
const FLAG_LOADER_NAME: u32 = 1 << 9;
const FLAG_FRAMEBUFFER: u32 = 1 << 12;

/// Reads the structure at physical `address`.
///
/// # Errors
/// See [`ParseError`].
pub fn parse<M: PhysicalMemory>(memory: &M, address: u32) -> Result<BootInformation<'_>, ParseError> {
    let unreachable = ParseError::Unreachable(address);
    let structure = memory.bytes(address.into(), SIZE).ok_or(unreachable)?;
    let word = |offset: usize| u32_at(structure, offset).unwrap_or(0);
    let flags = word(0);
    let mut information = BootInformation::default();
    note(&mut information, address.into(), SIZE)?;

    if flags & FLAG_LOADER_NAME != 0 {
        information.loader = text_at(memory, word(64).into());
        let length = information.loader.len() as u64 + 1;
        note(&mut information, word(64).into(), length)?;
    }
    if flags & FLAG_COMMAND_LINE != 0 {
        let line = text_at(memory, word(16).into());
        note(&mut information, word(16).into(), line.len() as u64 + 1)?;
        information.command_line = match information.loader {
            // QEMU puts the name of the kernel file in front, GRUB does not.
            "qemu" => line.split_once(' ').map_or("", |(_, rest)| rest),
            _ => line,
        };
    }
    if flags & FLAG_MODULES != 0 && word(20) > 0 {
        let list = memory
            .bytes(word(24).into(), u64::from(word(20)) * 16)
            .ok_or(unreachable)?;
        note(&mut information, word(24).into(), list.len() as u64)?;
        for entry in list.chunks_exact(16) {
            let field = |offset: usize| u64::from(u32_at(entry, offset).unwrap_or(0));
            let string = text_at(memory, field(8));
            note(&mut information, field(8), string.len() as u64 + 1)?;
            let module = Module {
                start: field(0),
                end: field(4),
                string,
            };
            information
                .modules
                .try_push(module)
                .map_err(|_| ParseError::TooMany("modules"))?;
        }
    }
    if flags & FLAG_MEMORY_MAP != 0 {
        let map = memory
            .bytes(word(48).into(), word(44).into())
            .ok_or(unreachable)?;
        note(&mut information, word(48).into(), map.len() as u64)?;
        read_memory_map(map, &mut information)?;
    }
    if flags & FLAG_FRAMEBUFFER != 0 {
        let _ = read_framebuffer(&structure[88..], &structure[110..], &mut information);
    } else {
        information.text_screen = true;
    }
    Ok(information)
}

/// Remembers that `length` bytes at `start` hold information.
fn note(information: &mut BootInformation<'_>, start: u64, length: u64) -> Result<(), ParseError> {
    if start == 0 {
        return Ok(());
    }
    information
        .ranges
        .try_push((start, start + length))
        .map_err(|_| ParseError::TooMany("pieces of information"))
}

/// Each entry begins with its size, which does not count the size field itself.
fn read_memory_map(mut map: &[u8], information: &mut BootInformation<'_>) -> Result<(), ParseError> {
    while let (Some(size), Some(start), Some(length), Some(kind)) =
        (u32_at(map, 0), u64_at(map, 4), u64_at(map, 12), u32_at(map, 20))
    {
        let region = Region {
            start,
            end: start.saturating_add(length),
            kind: region_kind(kind),
        };
        information
            .memory
            .try_push(region)
            .map_err(|_| ParseError::TooMany("memory regions"))?;
        map = map.get(size as usize + 4..).unwrap_or(&[]);
        if size < 20 {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_map::Kind;
    use crate::multiboot::fake::FakeMemory;

    fn qemu() -> FakeMemory {
        let mut memory = FakeMemory::new(0x9000, 0x1000);
        let flags = FLAG_COMMAND_LINE | FLAG_MODULES | FLAG_MEMORY_MAP | FLAG_LOADER_NAME;
        memory.put_u32(
            0x9500,
            &[flags, 639, 64512, 0, 0x9800, 2, 0x9600, 0, 0, 0, 0, 48, 0x9700],
        );
        memory.put_u32(0x9540, &[0x9900]);
        memory.put_u32(
            0x9600,
            &[0x20_0000, 0x20_1234, 0x9840, 0, 0x30_0000, 0x30_0001, 0x9880, 0],
        );
        memory.put_u32(
            0x9700,
            &[20, 0, 0, 0x9fc00, 0, 1, 20, 0x10_0000, 0, 0x3f0_0000, 0, 1],
        );
        memory.put(0x9800, b"out/boot exit=isa:0xf4 log=debug\0");
        memory.put(0x9840, b"out/kernel kernel\0");
        memory.put(0x9880, b"/tmp/root.tar root.tar\0");
        memory.put(0x9900, b"qemu\0");
        memory
    }

    #[test]
    fn reads_what_qemu_passes() {
        let memory = qemu();
        let information = super::super::parse(&memory, MAGIC, 0x9500).unwrap();
        assert_eq!(information.command_line, "exit=isa:0xf4 log=debug");
        assert_eq!(information.loader, "qemu");
        assert_eq!(information.modules.len(), 2);
        assert_eq!(information.modules[0].name(), "kernel");
        assert_eq!(information.modules[0].path(), "out/kernel");
        assert_eq!(
            (information.modules[1].start, information.modules[1].end),
            (0x30_0000, 0x30_0001)
        );
        assert_eq!(information.modules[1].name(), "root.tar");
        assert_eq!(information.memory.len(), 2);
        assert_eq!(
            information.memory[1],
            Region {
                start: 0x10_0000,
                end: 0x400_0000,
                kind: Kind::Usable
            }
        );
        assert!(information.ranges.contains(&(0x9700, 0x9730)));
        assert!(information.text_screen);
    }

    #[test]
    fn another_loader_keeps_the_whole_command_line() {
        let mut memory = qemu();
        memory.put(0x9900, b"GRUB\0");
        let information = parse(&memory, 0x9500).unwrap();
        assert_eq!(information.command_line, "out/boot exit=isa:0xf4 log=debug");
    }

    #[test]
    fn a_framebuffer_of_direct_colours_is_taken() {
        let mut memory = qemu();
        memory.put_u32(0x9500, &[FLAG_FRAMEBUFFER]);
        memory.put_u32(0x9558, &[0xe000_0000, 0, 4096, 1024, 768]);
        memory.put(0x956c, &[32, 1, 16, 8, 8, 8, 0, 8]);
        let information = parse(&memory, 0x9500).unwrap();
        let framebuffer = information.framebuffer.unwrap();
        assert_eq!(
            (framebuffer.address, framebuffer.size()),
            (0xe000_0000, 4096 * 768)
        );
        assert_eq!(framebuffer.fields, [(16, 8), (8, 8), (0, 8)]);
    }

    #[test]
    fn wild_pointers_are_refused() {
        let mut memory = qemu();
        assert_eq!(
            parse(&memory, 0x1_0000).unwrap_err(),
            ParseError::Unreachable(0x1_0000)
        );
        assert_eq!(
            super::super::parse(&memory, 7, 0x9500).unwrap_err(),
            ParseError::UnknownMagic(7)
        );
        memory.put_u32(0x9514, &[0xffff_ffff]);
        assert_eq!(
            parse(&memory, 0x9500).unwrap_err(),
            ParseError::Unreachable(0x9500)
        );
    }

    #[test]
    fn no_memory_map_is_an_error() {
        let mut memory = qemu();
        memory.put_u32(0x9500, &[FLAG_COMMAND_LINE]);
        assert_eq!(
            super::super::parse(&memory, MAGIC, 0x9500).unwrap_err(),
            ParseError::NoMemoryMap
        );
    }
}
