//! The few words of the kernel's command line that the stage itself obeys.
#![forbid(unsafe_code)]

/// How the machine is left when the stage cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitDoor {
    /// There is none: the CPU stops.
    Halt,
    /// QEMU's `isa-debug-exit` device at this I/O port.
    IsaDebugExit(u16),
    /// Bochs' shutdown port 0x8900.
    Bochs,
}

/// The door named by the word `exit=isa:PORT` (hexadecimal with `0x`) or `exit=bochs`; the last one counts.
pub fn exit_door(command_line: &str) -> ExitDoor {
    let mut door = ExitDoor::Halt;
    for word in command_line.split_ascii_whitespace() {
        if word == "exit=bochs" {
            door = ExitDoor::Bochs;
        } else if let Some(port) = word.strip_prefix("exit=isa:0x")
            && let Ok(port) = u16::from_str_radix(port, 16)
        {
            door = ExitDoor::IsaDebugExit(port);
        }
    }
    door
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors() {
        assert_eq!(exit_door(""), ExitDoor::Halt);
        assert_eq!(exit_door("log=debug exit=isa:0xf4"), ExitDoor::IsaDebugExit(0xf4));
        assert_eq!(exit_door("exit=bochs log=info"), ExitDoor::Bochs);
        assert_eq!(exit_door("exit=isa:nonsense exit=isa:0x12345"), ExitDoor::Halt);
        assert_eq!(exit_door("noexit=bochs"), ExitDoor::Halt);
    }
}
