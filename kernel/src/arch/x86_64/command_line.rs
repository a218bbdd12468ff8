//! The kernel's command line: words, some of them `key=value`.

use super::boot;

/// How an emulator is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitDoor {
    /// QEMU's isa-debug-exit at this port.
    IsaDebugExit(u16),
    /// Bochs's shutdown port.
    Bochs,
}

/// The value of `key=value` on the command line; "" for a key without value.
pub fn option(key: &str) -> Option<&'static str> {
    find_option(boot::command_line()?, key)
}

fn find_option<'line>(line: &'line str, key: &str) -> Option<&'line str> {
    line.split_ascii_whitespace().find_map(|word| {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        (name == key).then_some(value)
    })
}

/// The door that the command line names: `exit=isa:0xf4` or `exit=bochs`.
pub fn exit_door() -> Option<ExitDoor> {
    parse_door(option("exit")?)
}

fn parse_door(value: &str) -> Option<ExitDoor> {
    if value == "bochs" {
        return Some(ExitDoor::Bochs);
    }
    let number = value.strip_prefix("isa:")?;
    let digits = number.strip_prefix("0x")?;
    u16::from_str_radix(digits, 16).ok().map(ExitDoor::IsaDebugExit)
}

/// The command line's decoding, on lines whose meaning is known.
pub(super) fn check_options() -> Result<(), &'static str> {
    let line = "log=debug  exit=isa:0xf4 quiet test=";
    if find_option(line, "log") != Some("debug") || find_option(line, "quiet") != Some("") {
        return Err("a key was not found");
    }
    if find_option(line, "test") != Some("") || find_option(line, "exi").is_some() {
        return Err("an empty value, or a prefix of a key");
    }
    if parse_door("isa:0xf4") != Some(ExitDoor::IsaDebugExit(0xf4))
        || parse_door("bochs") != Some(ExitDoor::Bochs)
    {
        return Err("a door was not found");
    }
    if parse_door("isa:f4").is_some() || parse_door("isa:0x1ffff").is_some() || parse_door("").is_some() {
        return Err("a broken door was taken");
    }
    Ok(())
}
