//! The one thing that is read from AML: the values that turn the machine off.
//!
//! `\_S5_` is a package of integers in the DSDT (ACPI 6.5, 7.4.2). Firmware writes it as a constant, so it is found by its
//! encoding (ACPI 6.5, 20.2) without interpreting the rest: NameOp, the name, PackageOp, a length, a count, and the elements.

const NAME_OP: u8 = 0x08;
const ROOT_PREFIX: u8 = b'\\';
const PACKAGE_OP: u8 = 0x12;
const ZERO_OP: u8 = 0x00;
const ONE_OP: u8 = 0x01;
const BYTE_PREFIX: u8 = 0x0a;
const WORD_PREFIX: u8 = 0x0b;
const DOUBLE_WORD_PREFIX: u8 = 0x0c;
const NAME: &[u8; 4] = b"_S5_";

/// What to write into the sleep type fields of PM1a and PM1b control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SleepType {
    pub(super) a: u8,
    pub(super) b: u8,
}

/// Finds the soft-off package in AML code. None if it is not there or not constant.
pub(super) fn soft_off(code: &[u8]) -> Option<SleepType> {
    code.windows(NAME.len())
        .enumerate()
        .find_map(|(position, window)| {
            if window != NAME || !is_declared(&code[..position]) {
                return None;
            }
            package(&code[position + NAME.len()..])
        })
}

/// True if what stands before the name makes it a declaration.
fn is_declared(before: &[u8]) -> bool {
    matches!(before, [.., NAME_OP] | [.., NAME_OP, ROOT_PREFIX])
}

fn package(code: &[u8]) -> Option<SleepType> {
    let (&PACKAGE_OP, rest) = code.split_first()? else {
        return None;
    };
    // The top two bits of the length say how many more bytes it has.
    let more = usize::from(rest.first()? >> 6);
    let elements = rest.get(1 + more..)?;
    let (&count, elements) = elements.split_first()?;
    if count == 0 {
        return None;
    }
    let (a, rest) = integer(elements)?;
    let b = if count > 1 { integer(rest)?.0 } else { a };
    // The fields are 3 bits wide (ACPI 6.5, 4.8.3.2.1).
    (a < 8 && b < 8).then_some(SleepType {
        a: a as u8,
        b: b as u8,
    })
}

fn integer(code: &[u8]) -> Option<(u32, &[u8])> {
    let (&prefix, rest) = code.split_first()?;
    let size = match prefix {
        ZERO_OP => return Some((0, rest)),
        ONE_OP => return Some((1, rest)),
        BYTE_PREFIX => 1,
        WORD_PREFIX => 2,
        DOUBLE_WORD_PREFIX => 4,
        _ => return None,
    };
    let (bytes, rest) = rest.split_at_checked(size)?;
    let value = bytes
        .iter()
        .rev()
        .fold(0, |value, &byte| value << 8 | u32::from(byte));
    Some((value, rest))
}

/// The scanner, on code whose meaning is known.
pub(super) fn check() -> Result<(), &'static str> {
    let usual = b"\x10\x20_SB_\x08_S5_\x12\x07\x04\x0a\x05\x0a\x04\x00\x00";
    if soft_off(usual) != Some(SleepType { a: 5, b: 4 }) {
        return Err("byte constants");
    }
    let rooted = b"\x08\\_S5_\x12\x06\x04\x00\x01\x00\x00";
    if soft_off(rooted) != Some(SleepType { a: 0, b: 1 }) {
        return Err("zero and one, from the root");
    }
    let long_length = b"\x08_S5_\x12\x48\x00\x02\x0b\x07\x00\x0c\x06\x00\x00\x00";
    if soft_off(long_length) != Some(SleepType { a: 7, b: 6 }) {
        return Err("longer encodings");
    }
    let used_before_declared = b"\x70_S5_\x60\x08_S5_\x12\x04\x01\x0a\x03";
    if soft_off(used_before_declared) != Some(SleepType { a: 3, b: 3 }) {
        return Err("a use before the declaration");
    }
    for broken in [
        &b"\x08_S5_"[..],
        b"\x08_S5_\x12",
        b"\x08_S5_\x12\xff",
        b"\x08_S5_\x12\x05\x02\x0a",
        b"\x08_S5_\x12\x05\x02\x0a\x09\x00",
    ] {
        if soft_off(broken).is_some() {
            return Err("broken code was taken");
        }
    }
    Ok(())
}
