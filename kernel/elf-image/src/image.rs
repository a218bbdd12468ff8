//! From the bytes of a file to a checked plan.

use crate::{ImageError, PAGE_SIZE, Protection, Segment};
use arrayvec::ArrayVec;
use core::ops::Range;
use elf::abi;
use elf::endian::AnyEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::parse::ParsingTable;
use elf::segment::{ProgramHeader, SegmentTable};

/// Loadable segments of one program at most.
pub const MAX_SEGMENTS: usize = 16;

/// Bytes of the ELF64 file header.
const FILE_HEADER_SIZE: usize = 64;
/// Bytes of one ELF64 program header.
const PROGRAM_HEADER_SIZE: usize = 56;

/// Where a program may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// At the addresses in the file.
    Fixed,
    /// At those addresses plus the load bias.
    PositionIndependent,
}

/// A checked loading plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Whether the load bias was applied.
    pub kind: Kind,
    /// Address of the first instruction, load bias included.
    pub entry: u64,
    /// What was added to every address in the file: 0 for [`Kind::Fixed`].
    pub bias: u64,
    /// Address of the program header table in memory (`AT_PHDR`), if a segment covers it.
    pub headers_address: Option<u64>,
    /// Count of program headers (`AT_PHNUM`).
    pub header_count: usize,
    /// Largest alignment that a segment asks for, a power of two, at least [`PAGE_SIZE`].
    pub alignment: u64,
    segments: ArrayVec<Segment, MAX_SEGMENTS>,
}

impl Image {
    /// Bytes of one program header (`AT_PHENT`).
    pub const HEADER_SIZE: usize = PROGRAM_HEADER_SIZE;

    /// Checks `file` and plans its loading.
    ///
    /// `bias` is added to every address of a position-independent program and ignored for others. All pages of the
    /// program must lie inside `bounds`.
    ///
    /// # Errors
    /// The first thing that is wrong with the file.
    pub fn parse(file: &[u8], bias: u64, bounds: Range<u64>) -> Result<Self, ImageError> {
        let header = file_header(file)?;
        let kind = match header.e_type {
            abi::ET_EXEC => Kind::Fixed,
            abi::ET_DYN => Kind::PositionIndependent,
            _ => return Err(ImageError::WrongType),
        };
        let bias = if kind == Kind::Fixed { 0 } else { bias };
        if !bias.is_multiple_of(PAGE_SIZE) {
            return Err(ImageError::BadBias);
        }
        let headers = program_headers(file, &header)?;

        let mut image = Image {
            kind,
            entry: header.e_entry.checked_add(bias).ok_or(ImageError::BadEntry)?,
            bias,
            headers_address: None,
            header_count: headers.len(),
            alignment: PAGE_SIZE,
            segments: ArrayVec::new(),
        };
        for program_header in headers.iter() {
            match program_header.p_type {
                abi::PT_INTERP => return Err(ImageError::NeedsInterpreter),
                abi::PT_LOAD if program_header.p_memsz > 0 => {
                    image.add(&program_header, file.len() as u64, &bounds)?;
                }
                _ => {}
            }
        }
        if image.segments.is_empty() {
            return Err(ImageError::NoSegments);
        }
        if !bias.is_multiple_of(image.alignment) {
            return Err(ImageError::BadBias);
        }
        let entry = image.entry;
        if !image
            .segments
            .iter()
            .any(|segment| segment.protection.execute && segment.contains(entry))
        {
            return Err(ImageError::BadEntry);
        }
        image.headers_address = image.find_in_memory(header.e_phoff, headers.len() * PROGRAM_HEADER_SIZE);
        Ok(image)
    }

    /// The segments in ascending order of address; no two share a page.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// From the first page of the program to the end of its last.
    #[must_use]
    pub fn span(&self) -> Range<u64> {
        match (self.segments.first(), self.segments.last()) {
            (Some(first), Some(last)) => first.pages().start..last.pages().end,
            _ => 0..0,
        }
    }

    fn add(
        &mut self,
        header: &ProgramHeader,
        file_length: u64,
        bounds: &Range<u64>,
    ) -> Result<(), ImageError> {
        let file_end = header
            .p_offset
            .checked_add(header.p_filesz)
            .ok_or(ImageError::BadFileRange)?;
        if file_end > file_length || header.p_filesz > header.p_memsz {
            return Err(ImageError::BadFileRange);
        }
        // An alignment of 0 or 1 means none; mapping needs page congruence in any case.
        let alignment = header.p_align.max(PAGE_SIZE);
        if header.p_align > 1 && !header.p_align.is_power_of_two()
            || header.p_vaddr % alignment != header.p_offset % alignment
        {
            return Err(ImageError::BadAlignment);
        }
        let protection = Protection {
            read: header.p_flags & abi::PF_R != 0,
            write: header.p_flags & abi::PF_W != 0,
            execute: header.p_flags & abi::PF_X != 0,
        };
        if protection.write && protection.execute {
            return Err(ImageError::WritableAndExecutable);
        }
        if protection.write && !protection.read {
            return Err(ImageError::WriteOnly);
        }

        let address = header
            .p_vaddr
            .checked_add(self.bias)
            .ok_or(ImageError::OutOfBounds)?;
        let end = address
            .checked_add(header.p_memsz)
            .ok_or(ImageError::OutOfBounds)?;
        let end = end
            .checked_next_multiple_of(PAGE_SIZE)
            .ok_or(ImageError::OutOfBounds)?;
        if address & !(PAGE_SIZE - 1) < bounds.start || end > bounds.end {
            return Err(ImageError::OutOfBounds);
        }
        let segment = Segment {
            address,
            memory_size: header.p_memsz,
            file_offset: header.p_offset,
            file_size: header.p_filesz,
            protection,
        };
        if self
            .segments
            .last()
            .is_some_and(|previous| previous.pages().end > segment.pages().start)
        {
            return Err(ImageError::Overlap);
        }
        self.alignment = self.alignment.max(alignment);
        self.segments
            .try_push(segment)
            .map_err(|_| ImageError::TooManySegments)
    }

    /// The address at which `length` bytes from `offset` of the file are found in memory.
    fn find_in_memory(&self, offset: u64, length: usize) -> Option<u64> {
        let end = offset.checked_add(length as u64)?;
        self.segments
            .iter()
            .find(|segment| offset >= segment.file_offset && end <= segment.file_offset + segment.file_size)
            .map(|segment| segment.address + (offset - segment.file_offset))
    }
}

/// Reads the file header and refuses other classes and machines. Section headers are not looked at: they mean nothing
/// to a loader, so a file without them, or with bad ones, loads.
fn file_header(file: &[u8]) -> Result<FileHeader<AnyEndian>, ImageError> {
    let head = file.get(..FILE_HEADER_SIZE).ok_or(ImageError::NotElf)?;
    let (identity, tail) = head.split_at(abi::EI_NIDENT);
    let identity = parse_ident::<AnyEndian>(identity).map_err(|_| ImageError::NotElf)?;
    if identity.0 != AnyEndian::Little || identity.1 != Class::ELF64 {
        return Err(ImageError::WrongClass);
    }
    let header = FileHeader::parse_tail(identity, tail).map_err(|_| ImageError::NotElf)?;
    if header.e_machine != abi::EM_X86_64 {
        return Err(ImageError::WrongMachine);
    }
    Ok(header)
}

fn program_headers<'file>(
    file: &'file [u8],
    header: &FileHeader<AnyEndian>,
) -> Result<SegmentTable<'file, AnyEndian>, ImageError> {
    if header.e_phnum == 0 {
        return Err(ImageError::NoSegments);
    }
    if usize::from(header.e_phentsize) != PROGRAM_HEADER_SIZE || header.e_phnum == abi::PN_XNUM {
        return Err(ImageError::BadHeaders);
    }
    let start = usize::try_from(header.e_phoff).map_err(|_| ImageError::BadHeaders)?;
    let length = usize::from(header.e_phnum) * PROGRAM_HEADER_SIZE;
    let end = start.checked_add(length).ok_or(ImageError::BadHeaders)?;
    let bytes = file.get(start..end).ok_or(ImageError::BadHeaders)?;
    Ok(ParsingTable::new(header.endianness, Class::ELF64, bytes))
}
