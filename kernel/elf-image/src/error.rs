//! Why a file is not a program that can be loaded.

use core::fmt;

/// What is wrong with a program file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// The file does not begin with a whole, valid ELF header.
    NotElf,
    /// 32-bit, or big-endian.
    WrongClass,
    /// Not for x86-64.
    WrongMachine,
    /// Neither an executable nor a position-independent executable.
    WrongType,
    /// It asks for a dynamic linker.
    NeedsInterpreter,
    /// The program header table lies outside the file, or its entries have an unknown size.
    BadHeaders,
    /// There is nothing to load.
    NoSegments,
    /// More loadable segments than [`crate::MAX_SEGMENTS`].
    TooManySegments,
    /// A segment's bytes lie outside the file, or it has more bytes in the file than in memory.
    BadFileRange,
    /// File offset and address of a segment differ modulo its alignment, or the alignment is not a power of two.
    BadAlignment,
    /// A segment lies outside the bounds given by the caller.
    OutOfBounds,
    /// Two segments share a page, or they are not in ascending order.
    Overlap,
    /// A segment is writable and executable.
    WritableAndExecutable,
    /// A segment is writable but not readable.
    WriteOnly,
    /// The entry point is not inside an executable segment.
    BadEntry,
    /// The load bias is not a multiple of the image's alignment.
    BadBias,
}

impl ImageError {
    /// A few words for a person.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotElf => "not an ELF file",
            Self::WrongClass => "not a 64-bit little-endian program",
            Self::WrongMachine => "not an x86-64 program",
            Self::WrongType => "not an executable",
            Self::NeedsInterpreter => "dynamically linked; only static programs can be loaded",
            Self::BadHeaders => "bad program header table",
            Self::NoSegments => "nothing to load",
            Self::TooManySegments => "too many segments",
            Self::BadFileRange => "a segment lies outside the file",
            Self::BadAlignment => "a segment is badly aligned",
            Self::OutOfBounds => "a segment lies outside the address range for programs",
            Self::Overlap => "segments overlap or are out of order",
            Self::WritableAndExecutable => "a segment is writable and executable",
            Self::WriteOnly => "a segment is writable but not readable",
            Self::BadEntry => "the entry point is not in executable memory",
            Self::BadBias => "the load address does not suit the program's alignment",
        }
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text())
    }
}

impl core::error::Error for ImageError {}
