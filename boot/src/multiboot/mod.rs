//! What a Multiboot loader left in memory, of either version, as one [`BootInformation`].
//!
//! The parsers ([`one`], [`two`]) read through [`PhysicalMemory`] and trust nothing: a length that leads out of
//! reach ends the list it belongs to. The stage calls [`parse`] once, first thing.
#![forbid(unsafe_code)]

pub mod one;
pub mod two;

use arrayvec::ArrayVec;

use crate::PhysicalMemory;
use crate::memory_map::{FirmwareRegions, page_ceiling, page_floor};

/// The most modules a loader can pass.
pub const MOST_MODULES: usize = 64;

/// The most separate ranges of memory that hold the loader's own information.
pub const MOST_INFORMATION_RANGES: usize = 2 * MOST_MODULES;

/// A file that the loader has put into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module<'memory> {
    /// Physical address of its first byte.
    pub start: u64,
    /// Physical address after its last byte.
    pub end: u64,
    /// The whole string that came with it.
    pub string: &'memory str,
}

impl<'memory> Module<'memory> {
    /// Its name: the last word of the string.
    pub fn name(&self) -> &'memory str {
        self.string.split_ascii_whitespace().next_back().unwrap_or("")
    }

    /// The file it was read from, as far as the loader says: the first word of the string.
    pub fn path(&self) -> &'memory str {
        self.string.split_ascii_whitespace().next().unwrap_or("")
    }
}

/// A linear framebuffer with direct colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framebuffer {
    /// Physical address of the first pixel.
    pub address: u64,
    /// Bytes from one line to the next.
    pub pitch: u32,
    /// Pixels in a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// Bits of a pixel: 15, 16, 24 or 32.
    pub bits_per_pixel: u8,
    /// Position and size, in bits, of the red, green and blue fields of a pixel.
    pub fields: [(u8, u8); 3],
}

impl Framebuffer {
    /// The bytes of memory it covers.
    pub fn size(&self) -> u64 {
        u64::from(self.pitch) * u64::from(self.height)
    }
}

/// The EFI memory map as the loader passes it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EfiMemoryMap<'memory> {
    /// Bytes from one descriptor to the next.
    pub descriptor_size: u32,
    /// Version of the descriptors.
    pub descriptor_version: u32,
    /// The descriptors.
    pub descriptors: &'memory [u8],
}

/// An EFI system table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EfiSystemTable {
    /// Of 32-bit firmware, at this physical address.
    Bits32(u64),
    /// Of 64-bit firmware, at this physical address.
    Bits64(u64),
}

/// Everything the loader told, in the terms of the stage.
#[derive(Clone, Debug, Default)]
pub struct BootInformation<'memory> {
    /// The kernel's command line, without the name of a file at its front.
    pub command_line: &'memory str,
    /// Name of the loader.
    pub loader: &'memory str,
    /// Physical memory as the firmware describes it.
    pub memory: FirmwareRegions,
    /// Files in memory, in the loader's order.
    pub modules: ArrayVec<Module<'memory>, MOST_MODULES>,
    /// A framebuffer, if one was set up.
    pub framebuffer: Option<Framebuffer>,
    /// The screen is in a text mode whose cells are at 0xb8000.
    pub text_screen: bool,
    /// Physical address of a copy of ACPI's root pointer.
    pub rsdp_copy: Option<u64>,
    /// The EFI system table, on such firmware.
    pub efi_system_table: Option<EfiSystemTable>,
    /// The EFI memory map, on such firmware.
    pub efi_memory_map: Option<EfiMemoryMap<'memory>>,
    /// Memory in which this information lies: start and end addresses.
    pub ranges: ArrayVec<(u64, u64), MOST_INFORMATION_RANGES>,
}

impl BootInformation<'_> {
    /// Whether the module with an index begins on a page boundary and nothing else is in its pages: no other module,
    /// no information, and nothing of the range `stage`.
    pub fn has_own_pages(&self, index: usize, stage: (u64, u64)) -> bool {
        let Some(module) = self.modules.get(index) else {
            return false;
        };
        let (start, end) = (page_floor(module.start), page_ceiling(module.end));
        let apart = |other: (u64, u64)| other.1 <= start || end <= other.0;
        let others = self
            .modules
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index);
        module.start == start
            && others.map(|(_, other)| (other.start, other.end)).all(apart)
            && self.ranges.iter().copied().all(apart)
            && apart(stage)
    }
}

/// Why there is no information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// The magic number in EAX is of neither version.
    UnknownMagic(u32),
    /// The information is not where the loader says, or has no sensible size.
    Unreachable(u32),
    /// The loader gave no memory map.
    NoMemoryMap,
    /// There is more of something than the stage has room for.
    TooMany(&'static str),
}

impl core::fmt::Display for ParseError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ParseError::UnknownMagic(magic) => {
                write!(formatter, "not entered by a Multiboot loader: EAX is {magic:#x}")
            }
            ParseError::Unreachable(address) => {
                write!(
                    formatter,
                    "the loader's information at {address:#x} cannot be read"
                )
            }
            ParseError::NoMemoryMap => write!(formatter, "the loader passed no memory map"),
            ParseError::TooMany(what) => write!(formatter, "the loader passed too many {what}"),
        }
    }
}

/// Reads the information at physical `address` that a loader of the version named by `magic` left there.
///
/// # Errors
/// See [`ParseError`].
pub fn parse<M: PhysicalMemory>(
    memory: &M,
    magic: u32,
    address: u32,
) -> Result<BootInformation<'_>, ParseError> {
    let information = match magic {
        one::MAGIC => one::parse(memory, address)?,
        two::MAGIC => two::parse(memory, address)?,
        other => return Err(ParseError::UnknownMagic(other)),
    };
    match information.memory.is_empty() {
        true => Err(ParseError::NoMemoryMap),
        false => Ok(information),
    }
}

/// The type of a memory-map entry, which both versions take from the firmware.
fn region_kind(number: u32) -> crate::memory_map::Kind {
    use crate::memory_map::Kind;
    match number {
        1 => Kind::Usable,
        3 => Kind::AcpiReclaimable,
        4 => Kind::AcpiNvs,
        5 => Kind::Bad,
        _ => Kind::Reserved,
    }
}

/// Reads the part that both versions have in common: address (8 bytes), pitch, width, height, depth, type (1: direct
/// colours, 2: text). `fields` are the six bytes with position and size of red, green and blue.
fn read_framebuffer(common: &[u8], fields: &[u8], information: &mut BootInformation<'_>) -> Option<()> {
    use crate::bytes::{u8_at, u32_at, u64_at};
    match u8_at(common, 21)? {
        1 => {
            let field = |index: usize| Some((u8_at(fields, index)?, u8_at(fields, index + 1)?));
            let framebuffer = Framebuffer {
                address: u64_at(common, 0)?,
                pitch: u32_at(common, 8)?,
                width: u32_at(common, 12)?,
                height: u32_at(common, 16)?,
                bits_per_pixel: u8_at(common, 20)?,
                fields: [field(0)?, field(2)?, field(4)?],
            };
            let line = u64::from(framebuffer.width) * u64::from(framebuffer.bits_per_pixel.div_ceil(8));
            if framebuffer.size() > 0 && line <= u64::from(framebuffer.pitch) {
                information.framebuffer = Some(framebuffer);
            }
        }
        2 => information.text_screen = true,
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(start: u64, end: u64) -> Module<'static> {
        Module {
            start,
            end,
            string: "",
        }
    }

    #[test]
    fn own_pages() {
        let mut information = BootInformation::default();
        information.modules.extend([
            module(0x20_0000, 0x20_0801),
            module(0x20_0900, 0x20_1000),
            module(0x20_2000, 0x20_2001),
            module(0x20_4000, 0x20_4010),
            module(0x10_0000, 0x10_0010),
        ]);
        information.ranges.push((0x20_2fff, 0x20_3010));
        let own = |index| information.has_own_pages(index, (0x10_0000, 0x10_1000));
        assert!(!own(0), "shares a page with the next module");
        assert!(!own(1), "not on a page boundary");
        assert!(!own(2), "shares a page with information");
        assert!(own(3));
        assert!(!own(4), "in the stage");
        assert!(!own(5), "there is none");
    }
}

#[cfg(test)]
pub(crate) mod fake {
    use crate::PhysicalMemory;
    use std::vec::Vec;

    /// Memory with one range of bytes in it.
    pub struct FakeMemory {
        pub base: u64,
        pub bytes: Vec<u8>,
    }

    impl FakeMemory {
        pub fn new(base: u64, size: usize) -> Self {
            FakeMemory {
                base,
                bytes: std::vec![0; size],
            }
        }

        pub fn put(&mut self, address: u64, bytes: &[u8]) {
            let start = (address - self.base) as usize;
            self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        }

        pub fn put_u32(&mut self, address: u64, words: &[u32]) {
            for (index, word) in words.iter().enumerate() {
                self.put(address + 4 * index as u64, &word.to_le_bytes());
            }
        }
    }

    impl PhysicalMemory for FakeMemory {
        fn bytes(&self, address: u64, length: u64) -> Option<&[u8]> {
            let start = usize::try_from(address.checked_sub(self.base)?).ok()?;
            let end = start.checked_add(usize::try_from(length).ok()?)?;
            (length > 0).then(|| self.bytes.get(start..end)).flatten()
        }
    }
}
