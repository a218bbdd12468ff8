//! Stripping of ELF files to what a loader reads: the header, the program headers and the segments' bytes.
//!
//! Symbols and debug information make a program ten times larger, and every byte of a boot module is memory of the
//! machine and time of the loader. The unstripped files stay in the target folder for the symbolizer and gdb.

use anyhow::{Result, bail};

const SECTION_HEADER_OFFSET: usize = 0x28;
const PROGRAM_HEADER_OFFSET: usize = 0x20;
const PROGRAM_HEADER_SIZE: usize = 0x36;
const PROGRAM_HEADER_COUNT: usize = 0x38;
const SECTION_HEADER_COUNT: usize = 0x3c;
const SECTION_NAMES_INDEX: usize = 0x3e;

/// The 64-bit little-endian ELF file `file` without anything that no segment holds.
pub fn strip(file: &[u8]) -> Result<Vec<u8>> {
    if file.get(..6) != Some(b"\x7fELF\x02\x01") {
        bail!("not a 64-bit little-endian ELF file");
    }
    let table = usize::try_from(number(file, PROGRAM_HEADER_OFFSET, 8)?)?;
    let size = usize::try_from(number(file, PROGRAM_HEADER_SIZE, 2)?)?;
    let count = usize::try_from(number(file, PROGRAM_HEADER_COUNT, 2)?)?;
    let mut end = table + size * count;
    for index in 0..count {
        let header = table + index * size;
        let offset = usize::try_from(number(file, header + 0x08, 8)?)?;
        let length = usize::try_from(number(file, header + 0x20, 8)?)?;
        end = end.max(offset.saturating_add(length));
    }
    let Some(kept) = file.get(..end) else {
        bail!("a segment ends behind the end of the file")
    };
    let mut stripped = kept.to_vec();
    for (offset, length) in [
        (SECTION_HEADER_OFFSET, 8),
        (SECTION_HEADER_COUNT, 2),
        (SECTION_NAMES_INDEX, 2),
    ] {
        if let Some(field) = stripped.get_mut(offset..offset + length) {
            field.fill(0);
        }
    }
    Ok(stripped)
}

/// The little-endian number of `length` bytes at `offset`.
fn number(file: &[u8], offset: usize, length: usize) -> Result<u64> {
    let Some(bytes) = file.get(offset..offset.saturating_add(length)) else {
        bail!("the file is cut short")
    };
    Ok(bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with one segment of 16 bytes at 0x80, followed by 100 bytes that nobody loads.
    fn file() -> Vec<u8> {
        let mut file = vec![0; 0x90 + 100];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[0x20] = 0x40;
        file[0x28] = 0x90;
        file[0x36] = 56;
        file[0x38] = 1;
        file[0x3c] = 3;
        file[0x40] = 1;
        file[0x48] = 0x80;
        file[0x60] = 0x10;
        file
    }

    #[test]
    fn everything_behind_the_last_segment_goes() {
        let stripped = strip(&file()).unwrap();
        assert_eq!(stripped.len(), 0x90);
        assert_eq!((stripped[0x28], stripped[0x3c]), (0, 0));
        assert_eq!(stripped[0x40..], file()[0x40..0x90]);
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(strip(b"#!/bin/sh").is_err());
        assert!(strip(&file()[..0x30]).is_err());
        let mut long = file();
        long[0x62] = 1;
        assert!(strip(&long).is_err());
    }
}
