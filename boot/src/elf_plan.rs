//! Where the pieces of the kernel's ELF file go.
//!
//! [`LoadPlan::new`] accepts what the stage can load exactly as the Limine boot protocol says: a 64-bit x86-64
//! executable with fixed addresses at or above [`LOWEST_ADDRESS`]. No page of it may be both writable and executable.
#![forbid(unsafe_code)]

use arrayvec::ArrayVec;
use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_EXEC, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;

use crate::PAGE_SIZE;
use crate::memory_map::{page_ceiling, page_floor};

/// The protocol loads executables at or above this address.
pub const LOWEST_ADDRESS: u64 = 0xffff_ffff_8000_0000;

/// The largest image, in bytes.
pub const LARGEST_IMAGE: u64 = 512 << 20;

/// The most loadable segments.
pub const MOST_SEGMENTS: usize = 16;

/// One loadable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Virtual address of its first byte.
    pub address: u64,
    /// Bytes in memory; those beyond `file_size` are zero.
    pub memory_size: u64,
    /// First byte in the file.
    pub file_offset: u64,
    /// Bytes from the file.
    pub file_size: u64,
    /// May be written.
    pub writable: bool,
    /// May be executed.
    pub executable: bool,
}

impl Segment {
    /// First and one-past-last virtual address of the pages it touches.
    pub fn pages(&self) -> (u64, u64) {
        (
            page_floor(self.address),
            page_ceiling(self.address + self.memory_size),
        )
    }
}

/// How to load one executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadPlan {
    /// Virtual address of the image's first page.
    pub base: u64,
    /// Bytes of the image: whole pages.
    pub size: u64,
    /// Virtual address of the entry point.
    pub entry: u64,
    /// The segments, by ascending address.
    pub segments: ArrayVec<Segment, MOST_SEGMENTS>,
}

/// Why a file cannot be loaded as a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// Not an ELF file of 64 bits, or damaged.
    NotElf,
    /// An ELF file, but for another machine.
    WrongMachine,
    /// Not an executable with fixed addresses.
    NotFixed,
    /// No loadable segment, or too many.
    SegmentCount(usize),
    /// A segment outside the top 2 GiB, larger in the file than in memory, or beyond the end of the file.
    BadSegment(u64),
    /// A segment that is writable and executable, or shares a page with one of other permissions.
    NotSeparated(u64),
    /// The entry point is in no executable segment.
    BadEntry(u64),
    /// Larger than [`LARGEST_IMAGE`].
    TooLarge(u64),
}

impl core::fmt::Display for PlanError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            PlanError::NotElf => write!(formatter, "the module `kernel` is not a 64-bit ELF file"),
            PlanError::WrongMachine => write!(formatter, "the module `kernel` is not for x86-64"),
            PlanError::NotFixed => write!(formatter, "the kernel is not an executable with fixed addresses"),
            PlanError::SegmentCount(count) => {
                write!(
                    formatter,
                    "the kernel has {count} loadable segments, not 1 to {MOST_SEGMENTS}"
                )
            }
            PlanError::BadSegment(address) => {
                write!(
                    formatter,
                    "the kernel's segment at {address:#x} is damaged or below {LOWEST_ADDRESS:#x}"
                )
            }
            PlanError::NotSeparated(address) => {
                write!(
                    formatter,
                    "the kernel's page at {address:#x} would be writable and executable"
                )
            }
            PlanError::BadEntry(address) => {
                write!(
                    formatter,
                    "the kernel's entry point {address:#x} is in no executable segment"
                )
            }
            PlanError::TooLarge(size) => write!(formatter, "the kernel's image is too large: {size} bytes"),
        }
    }
}

impl LoadPlan {
    /// Reads the headers of `file`.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn new(file: &[u8]) -> Result<Self, PlanError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| PlanError::NotElf)?;
        if elf.ehdr.class != elf::file::Class::ELF64 {
            return Err(PlanError::NotElf);
        }
        if elf.ehdr.e_machine != EM_X86_64 {
            return Err(PlanError::WrongMachine);
        }
        if elf.ehdr.e_type != ET_EXEC {
            return Err(PlanError::NotFixed);
        }
        let headers = elf.segments().ok_or(PlanError::SegmentCount(0))?;
        let loadable = || {
            headers
                .iter()
                .filter(|header| header.p_type == PT_LOAD && header.p_memsz > 0)
        };
        let count = loadable().count();
        let mut segments: ArrayVec<Segment, MOST_SEGMENTS> = ArrayVec::new();
        for header in loadable() {
            let segment = Segment {
                address: header.p_vaddr,
                memory_size: header.p_memsz,
                file_offset: header.p_offset,
                file_size: header.p_filesz,
                writable: header.p_flags & PF_W != 0,
                executable: header.p_flags & PF_X != 0,
            };
            check(&segment, file.len() as u64)?;
            segments
                .try_push(segment)
                .map_err(|_| PlanError::SegmentCount(count))?;
        }
        segments.sort_unstable_by_key(|segment| segment.address);
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
            return Err(PlanError::SegmentCount(0));
        };
        let base = first.pages().0;
        let size = last.pages().1 - base;
        if size > LARGEST_IMAGE {
            return Err(PlanError::TooLarge(size));
        }
        for pair in segments.windows(2) {
            let alike = (pair[0].writable, pair[0].executable) == (pair[1].writable, pair[1].executable);
            if pair[0].address + pair[0].memory_size > pair[1].address {
                return Err(PlanError::BadSegment(pair[1].address));
            }
            if pair[0].pages().1 > pair[1].pages().0 && !alike {
                return Err(PlanError::NotSeparated(pair[1].address));
            }
        }
        let plan = LoadPlan {
            base,
            size,
            entry: elf.ehdr.e_entry,
            segments,
        };
        match plan.may_execute(plan.entry) {
            true => Ok(plan),
            false => Err(PlanError::BadEntry(plan.entry)),
        }
    }

    /// Whether a virtual address is in an executable segment.
    pub fn may_execute(&self, address: u64) -> bool {
        self.segments.iter().any(|segment| {
            segment.executable
                && address
                    .checked_sub(segment.address)
                    .is_some_and(|offset| offset < segment.memory_size)
        })
    }

    /// Fills `image`, which has [`LoadPlan::size`] bytes, from the file that the plan was made for.
    pub fn load(&self, file: &[u8], image: &mut [u8]) {
        image.fill(0);
        for segment in &self.segments {
            let from = segment.file_offset as usize;
            let to = (segment.address - self.base) as usize;
            let size = segment.file_size as usize;
            image[to..to + size].copy_from_slice(&file[from..from + size]);
        }
    }
}

/// Refuses a segment that cannot be loaded by itself. Its last page must not be the last of the address space, so
/// that no sum of its addresses and sizes overflows.
fn check(segment: &Segment, file_length: u64) -> Result<(), PlanError> {
    let end = segment.address.checked_add(segment.memory_size);
    let file_end = segment.file_offset.checked_add(segment.file_size);
    let in_memory = segment.address >= LOWEST_ADDRESS && end.is_some_and(|end| end <= u64::MAX - PAGE_SIZE);
    let in_file = file_end.is_some_and(|end| end <= file_length) && segment.file_size <= segment.memory_size;
    if !in_memory || !in_file {
        return Err(PlanError::BadSegment(segment.address));
    }
    match segment.writable && segment.executable {
        true => Err(PlanError::NotSeparated(segment.address)),
        false => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const TEXT: u64 = 0xffff_ffff_8000_1000;

    /// An ELF file with program headers of (address, memory size, file size, flags); the file bytes are 0xab.
    pub(crate) fn file(entry: u64, segments: &[(u64, u64, u64, u32)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([2, 0, 62, 0, 1, 0, 0, 0]);
        for word in [entry, 64, 0] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend([
            0,
            0,
            0,
            0,
            64,
            0,
            56,
            0,
            segments.len() as u8,
            0,
            64,
            0,
            0,
            0,
            0,
            0,
        ]);
        let mut offset = 64 + 56 * segments.len() as u64;
        for &(address, memory_size, file_size, flags) in segments {
            bytes.extend([1, 0, 0, 0]);
            bytes.extend(flags.to_le_bytes());
            for word in [offset, address, address, file_size, memory_size, 4096] {
                bytes.extend(word.to_le_bytes());
            }
            offset += file_size;
        }
        bytes.resize(offset as usize, 0xab);
        bytes
    }

    #[test]
    fn plans_and_loads_a_kernel() {
        let file = file(
            TEXT + 8,
            &[(TEXT + 0x2010, 0x3000, 0x20, 6), (TEXT, 0x1800, 0x1800, 5)],
        );
        let plan = LoadPlan::new(&file).unwrap();
        assert_eq!((plan.base, plan.size, plan.entry), (TEXT, 0x6000, TEXT + 8));
        let mut image = std::vec![1u8; 0x6000];
        plan.load(&file, &mut image);
        assert!(image[..0x1800].iter().all(|&byte| byte == 0xab));
        assert!(image[0x1800..0x2010].iter().all(|&byte| byte == 0));
        assert!(image[0x2010..0x2030].iter().all(|&byte| byte == 0xab));
        assert!(image[0x2030..].iter().all(|&byte| byte == 0));
        assert!(plan.may_execute(TEXT) && !plan.may_execute(TEXT + 0x2010));
    }

    #[test]
    fn refuses_what_it_cannot_load() {
        let plan = |entry, segments: &[_]| LoadPlan::new(&file(entry, segments)).unwrap_err();
        assert_eq!(LoadPlan::new(b"not an ELF file"), Err(PlanError::NotElf));
        assert_eq!(plan(TEXT, &[]), PlanError::SegmentCount(0));
        assert_eq!(plan(TEXT, &[(TEXT, 16, 16, 7)]), PlanError::NotSeparated(TEXT));
        assert_eq!(
            plan(TEXT, &[(TEXT, 16, 16, 5), (TEXT + 16, 16, 16, 6)]),
            PlanError::NotSeparated(TEXT + 16)
        );
        assert_eq!(
            plan(TEXT, &[(TEXT, 32, 32, 5), (TEXT + 16, 16, 16, 5)]),
            PlanError::BadSegment(TEXT + 16)
        );
        assert_eq!(plan(TEXT, &[(TEXT, 16, 32, 5)]), PlanError::BadSegment(TEXT));
        assert_eq!(plan(TEXT, &[(TEXT, 16, 16, 6)]), PlanError::BadEntry(TEXT));
        assert_eq!(
            plan(0x20_0000, &[(0x20_0000, 16, 16, 5)]),
            PlanError::BadSegment(0x20_0000)
        );
        assert_eq!(
            plan(TEXT, &[(TEXT, 0x4000_0000, 16, 5)]),
            PlanError::TooLarge(0x4000_0000)
        );
        assert_eq!(
            plan(TEXT, &[(TEXT, u64::MAX - TEXT, 16, 5)]),
            PlanError::BadSegment(TEXT)
        );
        let mut relocatable = file(TEXT, &[(TEXT, 16, 16, 5)]);
        relocatable[16] = 3;
        assert_eq!(LoadPlan::new(&relocatable), Err(PlanError::NotFixed));
        let mut foreign = file(TEXT, &[(TEXT, 16, 16, 5)]);
        foreign[18] = 40;
        assert_eq!(LoadPlan::new(&foreign), Err(PlanError::WrongMachine));
    }

    proptest! {
        #[test]
        fn damaged_files_never_panic(
            damage in prop::collection::vec((0usize..240, any::<u8>()), 1..6),
            cut in 0usize..2000,
        ) {
            let mut file = file(TEXT, &[(TEXT, 0x800, 0x300, 5), (TEXT + 0x1000, 0x800, 0x300, 6)]);
            for (position, byte) in damage {
                file[position] = byte;
            }
            file.truncate(cut.max(1));
            if let Ok(plan) = LoadPlan::new(&file)
                && plan.size <= 1 << 20
            {
                plan.load(&file, &mut std::vec![0; plan.size as usize]);
            }
        }
    }
}
