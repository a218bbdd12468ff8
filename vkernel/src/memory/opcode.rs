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

/// How many prefixes that `syscall` ignores `code` begins with.
fn redundant_prefixes(code: &[u8]) -> usize {
    let is_prefix = |byte: &u8| {
        matches!(
            byte,
            0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf2 | 0xf3
        )
    };
    code.iter().take_while(|byte| is_prefix(byte)).count()
}

/// True if `code` may be the beginning of `syscall`, and what follows decides.
fn is_undecided(code: &[u8]) -> bool {
    matches!(code[redundant_prefixes(code)..], [] | [0x0f])
}

/// Bytes of the `syscall` instruction that `code` begins with, redundant prefixes included; `None` if it is another instruction.
fn syscall_length(code: &[u8]) -> Option<usize> {
    let prefixes = redundant_prefixes(code);
    code[prefixes..]
        .starts_with(&[0x0f, 0x05])
        .then_some(prefixes + 2)
}

impl AddressSpace {
    /// If the exception that ended a run was a `syscall`, turns `state` into that system call, as the instruction would have left it
    /// (Intel SDM volume 2, SYSCALL).
    ///
    /// # Errors
    /// Why the program's instruction cannot be read: one of its pages has changed since, so the program has to try again.
    pub(super) fn recognize_syscall(&self, state: &mut RunState) -> Result<(), Errno> {
        if state.reason != RUN_EXCEPTION || state.vector != UNDEFINED_OPCODE {
            return Ok(());
        }
        let mut code = [0; MOST_BYTES];
        let available = self.fetch(state.registers.rip, &mut code)?;
        let code = &code[..available];
        if available < MOST_BYTES && is_undecided(code) {
            return Err(Errno::EFAULT);
        }
        if let Some(length) = syscall_length(code) {
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
    use crate::memory::area::{Protection, Source};
    use crate::memory::frames::tests::memory;
    use crate::memory::space::Placement;
    use dragonet_abi::layout::PAGE_SIZE;

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

    #[test]
    fn a_beginning_of_syscall_decides_nothing() {
        for (code, undecided) in [
            (&[][..], true),
            (&[0x48], true),
            (&[0x66, 0x2e], true),
            (&[0x0f], true),
            (&[0xf3, 0x48, 0x0f], true),
            (&[0x0f, 0x05], false),
            (&[0x0f, 0x0b], false),
            (&[0xf0], false),
            (&[0x48, 0x90], false),
        ] {
            assert_eq!(is_undecided(code), undecided, "{code:x?}");
        }
    }

    #[test]
    fn an_instruction_whose_end_cannot_be_read_is_tried_again() {
        let space = AddressSpace::new(memory(64)).unwrap();
        let page = Placement::Replace(0x40_0000);
        let all = Protection::READ | Protection::WRITE | Protection::EXECUTE;
        let start = space.map(page, PAGE_SIZE, all, false, Source::Anonymous).unwrap();
        let end = start + PAGE_SIZE;
        for (code, outcome, reason) in [
            (&[0x48, 0x0f][..], Err(Errno::EFAULT), RUN_EXCEPTION),
            (&[0x66], Err(Errno::EFAULT), RUN_EXCEPTION),
            (&[0x0f, 0x05], Ok(()), RUN_SYSCALL),
            (&[0x0f, 0x0b], Ok(()), RUN_EXCEPTION),
        ] {
            let address = end - code.len() as u64;
            space.write_bytes(address, code).unwrap();
            let mut state = RunState {
                reason: RUN_EXCEPTION,
                vector: UNDEFINED_OPCODE,
                ..RunState::default()
            };
            state.registers.rip = address;
            assert_eq!(space.recognize_syscall(&mut state), outcome, "{code:x?}");
            assert_eq!(state.reason, reason, "{code:x?}");
        }
    }
}
