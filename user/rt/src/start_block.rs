//! The startup block as bytes: writing one for a child, reading our own.

#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::mem::size_of;
use dragonet_abi::Errno;
use dragonet_abi::startup::{MAX_STARTUP_SIZE, STARTUP_MAGIC, StartupHandle, StartupHeader};
use zerocopy::{FromBytes, IntoBytes};

/// Encodes a startup block.
///
/// # Errors
/// `E2BIG` above [`MAX_STARTUP_SIZE`], `EINVAL` if a string contains a zero byte.
pub fn encode<'text>(
    handles: &[StartupHandle],
    arguments: impl Iterator<Item = &'text str> + Clone,
    environment: impl Iterator<Item = &'text str> + Clone,
) -> Result<Vec<u8>, Errno> {
    let strings = || arguments.clone().chain(environment.clone());
    if strings().any(|text| text.contains('\0')) {
        return Err(Errno::EINVAL);
    }
    let size = size_of::<StartupHeader>()
        + size_of_val(handles)
        + strings()
            .map(|text| text.len().saturating_add(1))
            .fold(0, usize::saturating_add);
    if size > MAX_STARTUP_SIZE {
        return Err(Errno::E2BIG);
    }
    let header = StartupHeader {
        magic: STARTUP_MAGIC,
        size: size as u32,
        handle_count: handles.len() as u32,
        argument_count: arguments.clone().count() as u32,
        environment_count: environment.clone().count() as u32,
    };
    let mut block = Vec::with_capacity(size);
    block.extend_from_slice(header.as_bytes());
    block.extend_from_slice(handles.as_bytes());
    for text in strings() {
        block.extend_from_slice(text.as_bytes());
        block.push(0);
    }
    Ok(block)
}

/// A startup block that was found to be well-formed.
#[derive(Clone, Copy)]
pub struct StartBlock<'block> {
    header: StartupHeader,
    handles: &'block [u8],
    strings: &'block [u8],
}

impl<'block> StartBlock<'block> {
    /// Checks a block. `None` if it is not one.
    pub fn parse(block: &'block [u8]) -> Option<Self> {
        let (header, rest) = StartupHeader::read_from_prefix(block).ok()?;
        let handle_bytes = (header.handle_count as usize).checked_mul(size_of::<StartupHandle>())?;
        if header.magic != STARTUP_MAGIC || header.size as usize != block.len() || handle_bytes > rest.len() {
            return None;
        }
        let (handles, strings) = rest.split_at(handle_bytes);
        Some(StartBlock {
            header,
            handles,
            strings,
        })
    }

    /// The first handles.
    pub fn handles(&self) -> impl Iterator<Item = StartupHandle> + use<'block> {
        let handles: &'block [u8] = self.handles;
        handles
            .chunks_exact(size_of::<StartupHandle>())
            .filter_map(|bytes| StartupHandle::read_from_bytes(bytes).ok())
    }

    /// The arguments, the program's name first.
    pub fn arguments(&self) -> impl Iterator<Item = &'block str> + Clone + use<'block> {
        strings(self.strings).take(self.header.argument_count as usize)
    }

    /// The environment, `NAME=value` each.
    pub fn environment(&self) -> impl Iterator<Item = &'block str> + Clone + use<'block> {
        strings(self.strings)
            .skip(self.header.argument_count as usize)
            .take(self.header.environment_count as usize)
    }
}

/// The strings that end with a zero byte; one that is not UTF-8 reads as empty.
fn strings(bytes: &[u8]) -> impl Iterator<Item = &str> + Clone {
    bytes
        .split_inclusive(|byte| *byte == 0)
        .filter_map(|text| text.strip_suffix(&[0]))
        .map(|text| core::str::from_utf8(text).unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use dragonet_abi::Handle;

    const HANDLES: [StartupHandle; 2] = [
        StartupHandle {
            role: 1,
            handle: Handle(7),
        },
        StartupHandle {
            role: 4,
            handle: Handle(0x10_0002),
        },
    ];

    fn block() -> Vec<u8> {
        encode(
            &HANDLES,
            ["sh", "-c", "", "echo grün"].into_iter(),
            ["A=1", "B="].into_iter(),
        )
        .unwrap()
    }

    #[test]
    fn what_goes_in_comes_out() {
        let bytes = block();
        let parsed = StartBlock::parse(&bytes).unwrap();
        let handles: Vec<_> = parsed.handles().map(|entry| (entry.role, entry.handle)).collect();
        assert_eq!(handles, [(1, Handle(7)), (4, Handle(0x10_0002))]);
        assert_eq!(
            parsed.arguments().collect::<Vec<_>>(),
            ["sh", "-c", "", "echo grün"]
        );
        assert_eq!(parsed.environment().collect::<Vec<_>>(), ["A=1", "B="]);
        let empty = encode(&[], [].into_iter(), [].into_iter()).unwrap();
        assert_eq!(StartBlock::parse(&empty).unwrap().arguments().count(), 0);
    }

    #[test]
    fn limits() {
        let none = || [].into_iter();
        let long = String::from_utf8(alloc::vec![b'x'; MAX_STARTUP_SIZE]).unwrap();
        assert_eq!(
            encode(&[], [long.as_str()].into_iter(), none()),
            Err(Errno::E2BIG)
        );
        let fits = &long[..MAX_STARTUP_SIZE - size_of::<StartupHeader>() - 1];
        assert_eq!(
            encode(&[], [fits].into_iter(), none()).unwrap().len(),
            MAX_STARTUP_SIZE
        );
        assert_eq!(encode(&[], ["a\0b"].into_iter(), none()), Err(Errno::EINVAL));
    }

    #[test]
    fn damage_is_found_or_harmless() {
        let good = block();
        assert!(StartBlock::parse(&good[..good.len() - 1]).is_none());
        assert!(StartBlock::parse(&[]).is_none());
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0xff;
            if let Some(parsed) = StartBlock::parse(&bytes) {
                assert!(
                    parsed.handles().count() + parsed.arguments().count() + parsed.environment().count() < 64
                );
            }
        }
    }
}
