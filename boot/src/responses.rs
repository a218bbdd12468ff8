//! The answers of the Limine boot protocol, laid out in one piece of memory.
//!
//! [`Arena`] is that memory: words and texts are appended to it, and each gets the virtual address at which the
//! kernel will find it. [`answer`] fills in every answer but the multiprocessor one's structures, which the caller
//! has made beforehand with [`Arena::processor`], since the processors wait on them already.

#![forbid(unsafe_code)]

use crate::DIRECT_MAP_BASE;
use crate::memory_map::Region;
use crate::multiboot::{EfiMemoryMap, EfiSystemTable, Framebuffer};
use crate::requests::{Feature, Request, Requests};

/// The arena has no room left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaFull;

/// Memory that answers are written to.
#[derive(Debug)]
pub struct Arena<'bytes> {
    bytes: &'bytes mut [u8],
    address: u64,
    used: usize,
}

impl<'bytes> Arena<'bytes> {
    /// An arena in `bytes`, which the kernel will see at virtual `address`, a multiple of eight.
    pub fn new(bytes: &'bytes mut [u8], address: u64) -> Self {
        Arena {
            bytes,
            address,
            used: 0,
        }
    }

    /// Appends words; returns the virtual address of the first.
    ///
    /// # Errors
    /// [`ArenaFull`].
    pub fn words(&mut self, words: &[u64]) -> Result<u64, ArenaFull> {
        let start = self.used.next_multiple_of(8);
        let end = start + 8 * words.len();
        let place = self.bytes.get_mut(start..end).ok_or(ArenaFull)?;
        for (bytes, word) in place.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        self.used = end;
        Ok(self.address + start as u64)
    }

    /// Appends a text and a terminating zero; returns the virtual address of its first byte.
    ///
    /// # Errors
    /// [`ArenaFull`].
    pub fn text(&mut self, parts: &[&str]) -> Result<u64, ArenaFull> {
        let start = self.used;
        for part in parts.iter().chain(&["\0"]) {
            let end = self.used + part.len();
            self.bytes
                .get_mut(self.used..end)
                .ok_or(ArenaFull)?
                .copy_from_slice(part.as_bytes());
            self.used = end;
        }
        Ok(self.address + start as u64)
    }

    /// Appends the structure on which a processor waits, with its goto address still zero.
    ///
    /// # Errors
    /// [`ArenaFull`].
    pub fn processor(&mut self, uid: u32, apic_id: u32) -> Result<u64, ArenaFull> {
        self.words(&[pair(uid, apic_id), 0, 0, 0])
    }

    /// Appends an array of pointers made one by one; returns its virtual address and the number of pointers.
    fn pointers(
        &mut self,
        count: usize,
        mut make: impl FnMut(&mut Self, usize) -> Result<u64, ArenaFull>,
    ) -> Result<u64, ArenaFull> {
        let mut array = None;
        for _ in 0..count {
            let place = self.words(&[0])?;
            array.get_or_insert(place);
        }
        let array = array.unwrap_or(self.address);
        for index in 0..count {
            let pointer = make(self, index)?;
            let offset = (array - self.address) as usize + 8 * index;
            self.bytes[offset..offset + 8].copy_from_slice(&pointer.to_le_bytes());
        }
        Ok(array)
    }
}

/// Two 32-bit fields as they lie in one word.
fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// The virtual address of a physical one in the direct map.
fn direct(physical: u64) -> u64 {
    DIRECT_MAP_BASE + physical
}

/// A file in memory.
#[derive(Clone, Copy, Debug)]
pub struct File<'text> {
    /// Physical address.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// Where it was read from.
    pub path: &'text str,
    /// The text associated with it.
    pub string: &'text str,
}

/// The processors that were started.
#[derive(Clone, Copy, Debug)]
pub struct Processors<'list> {
    /// The local APICs are in x2APIC mode.
    pub x2apic: bool,
    /// Local APIC id of the boot processor.
    pub boot_apic_id: u32,
    /// Virtual addresses of the processors' structures in the arena, the boot processor's too.
    pub structures: &'list [u64],
}

/// Everything the answers are made of. Addresses are physical.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'facts> {
    /// Name and version of the boot loader, which is this stage.
    pub loader: (&'facts str, &'facts str),
    /// The kernel's file; its string is the command line.
    pub kernel: File<'facts>,
    /// The modules without the kernel.
    pub modules: &'facts [File<'facts>],
    /// The screen.
    pub framebuffer: Option<Framebuffer>,
    /// ACPI's root pointer.
    pub rsdp: Option<u64>,
    /// Entry points of SMBIOS, 32-bit and 64-bit.
    pub smbios: (Option<u64>, Option<u64>),
    /// The EFI system table.
    pub efi_system_table: Option<EfiSystemTable>,
    /// The EFI memory map and its physical address.
    pub efi_memory_map: Option<(u64, EfiMemoryMap<'facts>)>,
    /// Unix time of the boot.
    pub time: i64,
    /// First address of the kernel's image: physical, virtual.
    pub image: (u64, u64),
    /// The started processors, if the kernel asked for them.
    pub processors: Option<Processors<'facts>>,
    /// The final memory map.
    pub regions: &'facts [Region],
}

/// Writes the answer to every request in `image` that can be answered. Requests for what the machine does not have
/// stay without.
///
/// # Errors
/// [`ArenaFull`].
pub fn answer(
    requests: &Requests,
    image: &mut [u8],
    arena: &mut Arena<'_>,
    facts: &Facts<'_>,
) -> Result<(), ArenaFull> {
    use Feature::*;
    let command_line = arena.text(&[facts.kernel.string])?;
    for feature in [
        BootloaderInfo,
        ExecutableCommandLine,
        FirmwareType,
        StackSize,
        DirectMap,
        Framebuffer,
        PagingMode,
        Multiprocessor,
        MemoryMap,
        EntryPoint,
        ExecutableFile,
        Modules,
        Rsdp,
        Smbios,
        EfiSystemTable,
        EfiMemoryMap,
        DateAtBoot,
        ExecutableAddress,
    ] {
        let Some(request) = requests.get(feature) else {
            continue;
        };
        if let Some(address) = answer_one(request, requests.revision, arena, facts, command_line)? {
            request.answer(image, address);
        }
    }
    Ok(())
}

/// Lays out the answer to one request. Every answer begins with its own revision.
fn answer_one(
    request: &Request,
    base_revision: u64,
    arena: &mut Arena<'_>,
    facts: &Facts<'_>,
    command_line: u64,
) -> Result<Option<u64>, ArenaFull> {
    // From base revision 3 on, pointers to the firmware's own tables are physical.
    let firmware_pointer = |address: u64| {
        if base_revision >= 3 {
            address
        } else {
            direct(address)
        }
    };
    let response = match request.feature {
        Feature::BootloaderInfo => {
            let (name, version) = (arena.text(&[facts.loader.0])?, arena.text(&[facts.loader.1])?);
            arena.words(&[0, name, version])?
        }
        Feature::ExecutableCommandLine => arena.words(&[0, command_line])?,
        Feature::FirmwareType => {
            let firmware = match facts.efi_system_table {
                None => 0,
                Some(EfiSystemTable::Bits32(_)) => 1,
                Some(EfiSystemTable::Bits64(_)) => 2,
            };
            arena.words(&[0, firmware])?
        }
        Feature::StackSize | Feature::EntryPoint => arena.words(&[0])?,
        Feature::DirectMap => arena.words(&[0, DIRECT_MAP_BASE])?,
        Feature::PagingMode => arena.words(&[0, 0])?,
        Feature::Framebuffer => match &facts.framebuffer {
            Some(framebuffer) => answer_framebuffer(arena, framebuffer)?,
            None => return Ok(None),
        },
        Feature::Multiprocessor => match &facts.processors {
            Some(processors) => {
                let list = processors.structures;
                let array = arena.pointers(list.len(), |_, index| Ok(list[index]))?;
                let flags = pair(processors.x2apic.into(), processors.boot_apic_id);
                arena.words(&[0, flags, list.len() as u64, array])?
            }
            None => return Ok(None),
        },
        Feature::MemoryMap => {
            let regions = facts.regions;
            let array = arena.pointers(regions.len(), |arena, index| {
                let region = &regions[index];
                arena.words(&[region.start, region.length(), region.kind as u64])
            })?;
            arena.words(&[0, regions.len() as u64, array])?
        }
        Feature::ExecutableFile => {
            let file = answer_file(arena, &facts.kernel, command_line)?;
            arena.words(&[0, file])?
        }
        Feature::Modules if facts.modules.is_empty() => return Ok(None),
        Feature::Modules => {
            let array = arena.pointers(facts.modules.len(), |arena, index| {
                let module = &facts.modules[index];
                let string = arena.text(&[module.string])?;
                answer_file(arena, module, string)
            })?;
            arena.words(&[0, facts.modules.len() as u64, array])?
        }
        Feature::Rsdp => match facts.rsdp {
            Some(address) => arena.words(&[0, firmware_pointer(address)])?,
            None => return Ok(None),
        },
        Feature::Smbios => match facts.smbios {
            (None, None) => return Ok(None),
            (old, new) => arena.words(&[
                0,
                old.map_or(0, firmware_pointer),
                new.map_or(0, firmware_pointer),
            ])?,
        },
        Feature::EfiSystemTable => match facts.efi_system_table {
            Some(EfiSystemTable::Bits32(address) | EfiSystemTable::Bits64(address)) => {
                arena.words(&[0, firmware_pointer(address)])?
            }
            None => return Ok(None),
        },
        Feature::EfiMemoryMap => match &facts.efi_memory_map {
            Some((address, map)) => arena.words(&[
                0,
                direct(*address),
                map.descriptors.len() as u64,
                map.descriptor_size.into(),
                map.descriptor_version.into(),
            ])?,
            None => return Ok(None),
        },
        Feature::DateAtBoot => arena.words(&[0, facts.time as u64])?,
        Feature::ExecutableAddress => arena.words(&[0, facts.image.0, facts.image.1])?,
    };
    Ok(Some(response))
}

/// A file structure: where on which medium it was is not known, so those fields are zero.
fn answer_file(arena: &mut Arena<'_>, file: &File<'_>, string: u64) -> Result<u64, ArenaFull> {
    let slash = if file.path.starts_with('/') { "" } else { "/" };
    let path = arena.text(&[slash, file.path])?;
    let mut words = [0; 14];
    words[1..5].copy_from_slice(&[direct(file.start), file.size, path, string]);
    arena.words(&words)
}

/// One framebuffer whose only mode is the one it is in.
fn answer_framebuffer(arena: &mut Arena<'_>, framebuffer: &Framebuffer) -> Result<u64, ArenaFull> {
    const MODEL_RGB: u8 = 1;
    let [(red_at, red), (green_at, green), (blue_at, blue)] = framebuffer.fields;
    let depth = u64::from(framebuffer.bits_per_pixel);
    let format = [red, red_at, green, green_at, blue];
    let mut format_word = depth | u64::from(MODEL_RGB) << 16;
    for (index, byte) in format.into_iter().enumerate() {
        format_word |= u64::from(byte) << (24 + 8 * index);
    }
    let (width, height, pitch) = (
        framebuffer.width.into(),
        framebuffer.height.into(),
        framebuffer.pitch.into(),
    );
    let mode = arena.words(&[pitch, width, height, format_word, blue_at.into()])?;
    let modes = arena.words(&[mode])?;
    let structure = arena.words(&[
        direct(framebuffer.address),
        width,
        height,
        pitch,
        format_word,
        blue_at.into(),
        0,
        0,
        1,
        modes,
    ])?;
    let array = arena.words(&[structure])?;
    arena.words(&[1, 1, array])
}

/// Bytes of arena that are enough for a machine with this many processors and modules, and texts of this length.
pub fn arena_size(processors: usize, modules: usize, text: usize) -> u64 {
    const FIXED: usize = 8192;
    const REGION: usize = 32;
    let regions = crate::memory_map::MOST_REGIONS * REGION;
    (FIXED + regions + processors * 48 + modules * 144 + 2 * text) as u64
}
