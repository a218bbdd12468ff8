//! A thread's users: two pages of code, a page of data with a stack in its middle, and a way to run them once with everything at stake.

use crate::canary;
use crate::instructions::{RDI, RSP, register};
use crate::users::{EXECUTE, Space, Text};
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::vmspace::{RegisterFrame, RunState};
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, doing};

/// Where users have their code.
pub const CODE: u64 = 6 << 40;
/// Bytes of it.
pub const CODE_LENGTH: u64 = 2 * PAGE_SIZE;
/// Where users have memory of their own.
pub const DATA: u64 = 5 << 40;
/// Offset of the stack in it.
pub const STACK: u64 = 2048;
/// Status flags: CF PF AF ZF SF OF.
pub const STATUS: u64 = 0x8d5;

/// What one thread has for its users.
#[derive(Debug)]
pub struct Bench {
    pub space: Space,
    pub text: Text,
    /// Where the page of data is.
    pub data: u64,
}

impl Bench {
    pub fn new() -> Outcome<Self> {
        let space = Space::new(32)?;
        let text = Text::new(CODE_LENGTH)?;
        let data = space.map_new(DATA)?;
        space.map_pages(CODE, text.address(), CODE_LENGTH / PAGE_SIZE, EXECUTE)?;
        Ok(Bench { space, text, data })
    }

    /// Stores words into the page of data.
    pub fn fill(&self, offset: u64, words: &[u64]) -> Outcome {
        for (place, word) in (self.data + offset..).step_by(8).zip(words) {
            self.space
                .ram
                .store(place, *word)
                .map_err(doing("filling memory"))?;
        }
        Ok(())
    }

    /// Runs a user for at most `timeout` nanoseconds, with canaries in the registers of the thread itself.
    pub fn run(&self, registers: RegisterFrame, timeout: u64, random: &mut Random) -> Outcome<RunState> {
        let mut state = RunState {
            registers,
            timeout,
            ..RunState::default()
        };
        canary::run(self.space.root(), &mut state, random)?;
        Ok(state)
    }
}

/// Poison in every register; RDI and RSP are addresses in the page of data, and code begins at an offset.
pub fn poison(offset: u64, random: &mut Random) -> RegisterFrame {
    let mut registers = RegisterFrame::default();
    for number in 0..16 {
        *register(&mut registers, number) = random.next_number();
    }
    *register(&mut registers, RDI) = DATA;
    *register(&mut registers, RSP) = DATA + STACK;
    registers.rip = CODE + offset;
    registers.rflags = RegisterFrame::FORCED_FLAGS | random.next_number() & STATUS;
    registers.fs_base = random.next_number() >> 17;
    registers.gs_base = random.next_number() >> 17;
    registers
}
