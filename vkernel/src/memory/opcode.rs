//! `syscall` where the processor has none: as a guest it is an undefined opcode (EFER.SCE is off), and what it is, only its bytes say.
//!
//! Nothing here depends on how programs run. Where the processor has the instruction, an undefined opcode is never a `syscall`.

use crate::linux::Errno;
use crate::memory::space::AddressSpace;
use dragonet_abi::vmspace::{RUN_EXCEPTION, RUN_SYSCALL, RunState};

/// Vector of an undefined opcode.
const UNDEFINED_OPCODE: u32 = 6;
/// Bytes of an instruction at most (Intel SDM volume 2, section 2.3.11).
const MOST_BYTES: usize = 15;
/// RFLAGS.RF: set in what a fault saves, clear in what `syscall` saves.
const RESUME_FLAG: u64 = 1 << 16;

/// Bytes of the `syscall` instruction that `code` begins with, redundant prefixes included; `None` if it is another instruction.
fn syscall_length(code: &[u8]) -> Option<usize> {
    let is_prefix = |byte: &u8| {
        matches!(
            byte,
            0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf2 | 0xf3
        )
    };
    let prefixes = code.iter().take_while(|byte| is_prefix(byte)).count();
    code[prefixes..]
        .starts_with(&[0x0f, 0x05])
        .then_some(prefixes + 2)
}

impl AddressSpace {
    /// If the exception that ended a run was a `syscall`, turns `state` into that system call, as the instruction would have left it
    /// (Intel SDM volume 2, SYSCALL).
    ///
    /// # Errors
    /// Why the program's instruction cannot be read: its page has changed since, so the program has to try again.
    pub(super) fn recognize_syscall(&self, state: &mut RunState) -> Result<(), Errno> {
        if state.reason != RUN_EXCEPTION || state.vector != UNDEFINED_OPCODE {
            return Ok(());
        }
        let mut code = [0; MOST_BYTES];
        let available = self.fetch(state.registers.rip, &mut code)?;
        if let Some(length) = syscall_length(&code[..available]) {
            let registers = &mut state.registers;
            registers.rip += length as u64;
            registers.rflags &= !RESUME_FLAG;
            registers.rcx = registers.rip;
            registers.r11 = registers.rflags;
            state.reason = RUN_SYSCALL;
            state.vector = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_syscall_is_a_system_call() {
        for (code, length) in [
            (&[0x0f, 0x05][..], Some(2)),
            (&[0x0f, 0x05, 0xc3], Some(2)),
            (&[0x48, 0x0f, 0x05], Some(3)),
            (&[0xf3, 0x66, 0x2e, 0x0f, 0x05], Some(5)),
            // LOCK makes it undefined.
            (&[0xf0, 0x0f, 0x05], None),
            (&[0x0f, 0x0b], None),
            (&[0x0f, 0x34], None),
            (&[0x0f], None),
            (&[0x66; MOST_BYTES], None),
            (&[], None),
        ] {
            assert_eq!(syscall_length(code), length, "{code:x?}");
        }
    }
}
