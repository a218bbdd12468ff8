//! Little-endian numbers and texts at given offsets of a byte slice, with every bound checked.
#![forbid(unsafe_code)]

use crate::PhysicalMemory;

/// The byte at `offset`.
pub fn u8_at(bytes: &[u8], offset: usize) -> Option<u8> {
    bytes.get(offset).copied()
}

/// The 16-bit number at `offset`.
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// The 32-bit number at `offset`.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// The 64-bit number at `offset`.
pub fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// The text at the start of `bytes`, up to its terminating zero or the end of the slice, cut at the first byte that
/// is not UTF-8.
pub fn text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    match core::str::from_utf8(&bytes[..end]) {
        Ok(text) => text,
        Err(error) => core::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or(""),
    }
}

/// The longest text that [`text_at`] reads, in bytes.
pub const LONGEST_TEXT: u64 = 4096;

/// The zero-terminated text at a physical address; empty for address 0 or one out of reach.
pub fn text_at(memory: &impl PhysicalMemory, address: u64) -> &str {
    if address == 0 {
        return "";
    }
    let reachable = crate::REACHABLE_END.saturating_sub(address).min(LONGEST_TEXT);
    let mut length = reachable;
    while length > 0 {
        if let Some(bytes) = memory.bytes(address, length) {
            return text(bytes);
        }
        length /= 2;
    }
    ""
}

/// The sum of all bytes, modulo 256: zero over a valid table of the firmware.
pub fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_bounded_by_the_slice() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        assert_eq!(u16_at(&bytes, 7), Some(0x0908));
        assert_eq!(u16_at(&bytes, 8), None);
        assert_eq!(u32_at(&bytes, 5), Some(0x0908_0706));
        assert_eq!(u64_at(&bytes, 1), Some(0x0908_0706_0504_0302));
        assert_eq!(u64_at(&bytes, 2), None);
        assert_eq!(u64_at(&bytes, usize::MAX), None);
    }

    #[test]
    fn text_ends_at_zero_or_at_bad_utf8() {
        assert_eq!(text(b"kernel\0junk"), "kernel");
        assert_eq!(text(b"kernel"), "kernel");
        assert_eq!(text(b"ker\xffnel\0"), "ker");
        assert_eq!(text(b""), "");
    }
}
