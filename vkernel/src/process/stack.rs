//! What a new program finds on its stack: arguments, environment, and the auxiliary vector (System V ABI AMD64, section 3.4.1).

use crate::linux::Errno;
use crate::linux::flags::AT_NULL;
use alloc::vec::Vec;

/// Bytes of arguments and environment together at most.
pub const MAX_ARGUMENTS: usize = 512 * 1024;

/// The strings that a program is started with.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    /// The first is the program's name.
    pub arguments: Vec<Vec<u8>>,
    /// `NAME=value`.
    pub environment: Vec<Vec<u8>>,
}

impl Arguments {
    /// Bytes of all strings with their zero bytes, and of the pointers to them.
    fn size(&self) -> usize {
        let strings = self.arguments.iter().chain(&self.environment);
        strings.map(|string| string.len() + 1 + 8).sum()
    }
}

/// A value of the auxiliary vector.
#[derive(Clone, Copy, Debug)]
pub enum Auxiliary<'a> {
    /// A number.
    Value(u64, u64),
    /// A pointer to bytes that are put on the stack.
    Bytes(u64, &'a [u8]),
}

/// Lays out the stack that ends at `top` (16-byte aligned). Returns the stack pointer, and the bytes from there to `top`.
///
/// # Errors
/// `E2BIG` above [`MAX_ARGUMENTS`].
pub fn build(top: u64, strings: &Arguments, auxiliary: &[Auxiliary<'_>]) -> Result<(u64, Vec<u8>), Errno> {
    if strings.size() > MAX_ARGUMENTS {
        return Err(Errno::E2BIG);
    }
    // Strings first, to know their addresses once the size of everything is known.
    let mut bytes = Vec::new();
    let mut place = |string: &[u8], end: &[u8]| {
        let offset = bytes.len() as u64;
        bytes.extend_from_slice(string);
        bytes.extend_from_slice(end);
        offset
    };
    let arguments: Vec<u64> = strings
        .arguments
        .iter()
        .map(|string| place(string, &[0]))
        .collect();
    let environment: Vec<u64> = strings
        .environment
        .iter()
        .map(|string| place(string, &[0]))
        .collect();
    let auxiliary: Vec<(u64, u64, bool)> = auxiliary
        .iter()
        .map(|entry| match *entry {
            Auxiliary::Value(key, value) => (key, value, false),
            Auxiliary::Bytes(key, string) => (key, place(string, &[]), true),
        })
        .collect();

    let words = 1 + arguments.len() + 1 + environment.len() + 1 + 2 * (auxiliary.len() + 1);
    let strings_start = (top - bytes.len() as u64) & !15;
    let pointer = (strings_start - 8 * words as u64) & !15;

    let mut table: Vec<u64> = Vec::with_capacity(words + 1);
    table.push(arguments.len() as u64);
    table.extend(arguments.iter().map(|offset| strings_start + offset));
    table.push(0);
    table.extend(environment.iter().map(|offset| strings_start + offset));
    table.push(0);
    for (key, value, is_offset) in auxiliary {
        table.extend([key, if is_offset { strings_start + value } else { value }]);
    }
    table.extend([AT_NULL, 0]);

    let mut stack: Vec<u8> = table.iter().flat_map(|word| word.to_le_bytes()).collect();
    stack.resize((strings_start - pointer) as usize, 0);
    stack.append(&mut bytes);
    Ok((pointer, stack))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::flags::{AT_PAGESZ, AT_RANDOM};
    use alloc::vec;

    #[test]
    fn a_program_finds_its_arguments() {
        let top = 0x7fff_0000;
        let strings = Arguments {
            arguments: vec![b"/bin/hello".to_vec(), b"a b".to_vec()],
            environment: vec![b"HOME=/".to_vec()],
        };
        let auxiliary = [
            Auxiliary::Value(AT_PAGESZ, 4096),
            Auxiliary::Bytes(AT_RANDOM, &[7; 16]),
        ];
        let (pointer, bytes) = build(top, &strings, &auxiliary).unwrap();
        assert_eq!(pointer % 16, 0);
        assert!(pointer + bytes.len() as u64 <= top);
        let word = |index: usize| u64::from_le_bytes(bytes[8 * index..8 * index + 8].try_into().unwrap());
        let string = |address: u64| {
            let start = (address - pointer) as usize;
            bytes[start..].split(|&byte| byte == 0).next().unwrap()
        };
        assert_eq!(word(0), 2);
        assert_eq!(string(word(1)), b"/bin/hello");
        assert_eq!(string(word(2)), b"a b");
        assert_eq!((word(3), word(5)), (0, 0));
        assert_eq!(string(word(4)), b"HOME=/");
        assert_eq!((word(6), word(7), word(8)), (AT_PAGESZ, 4096, AT_RANDOM));
        let random = (word(9) - pointer) as usize;
        assert_eq!(&bytes[random..random + 16], &[7; 16]);
        assert_eq!((word(10), word(11)), (AT_NULL, 0));
    }

    #[test]
    fn absurd_arguments_are_refused() {
        let strings = Arguments {
            arguments: vec![vec![b'x'; 1000]; 1000],
            environment: vec![],
        };
        assert_eq!(build(0x7fff_0000, &strings, &[]).err(), Some(Errno::E2BIG));
        let empty = vec![Vec::new(); MAX_ARGUMENTS];
        let strings = Arguments {
            arguments: empty,
            environment: vec![],
        };
        assert_eq!(build(0x7fff_0000, &strings, &[]).err(), Some(Errno::E2BIG));
    }
}
