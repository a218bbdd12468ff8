//! Canaries in every register, of vkernels and of users, while both move between CPUs and share them with others who do the same: general
//! registers, x87, SSE and AVX with MXCSR, segment bases. The base of a vkernel and those of its users have the same value half of the
//! time, and users load null selectors, which clear a base behind the kernel's back.

use crate::bench::{Bench, DATA, poison};
use crate::canary;
use crate::guest_mode::{inside, wander};
use crate::instructions::{NAMES, RAX, RBX, RCX, RDX, registers};
use crate::users::SYSCALL;
use alloc::sync::Arc;
use dragonet_abi::Handle;
use dragonet_abi::process::ThreadControl;
use dragonet_abi::time::FOREVER;
use dragonet_abi::vmspace::{RUN_EXCEPTION, RUN_TIMEOUT, RUN_VIRTUAL_INTERRUPT};
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, doing};
use dragonet_programs::torture::team::{INTERRUPT, Team};
use dragonet_programs::vm::ALLOW;
use dragonet_rt::extended_state::ExtendedState;
use dragonet_rt::guest::IdentityMap;
use dragonet_rt::syscall;

/// again: cpuid; dec r8; jnz again; mov rax, fs:[0]; mov rcx, gs:[0]; syscall
const LOOK: [u8; 27] = [
    0x0f, 0xa2, 0x49, 0xff, 0xc8, 0x75, 0xf9, 0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0, 0x65, 0x48, 0x8b,
    0x0c, 0x25, 0, 0, 0, 0, SYSCALL[0], SYSCALL[1],
];
const R8: usize = 8;
/// Where the program that loads null selectors is. mov fs, r9d; mov gs, r9d; syscall
const CLEAR_AT: u64 = 128;
const CLEAR: [u8; 8] = [0x41, 0x8e, 0xe1, 0x41, 0x8e, 0xe9, SYSCALL[0], SYSCALL[1]];
const UNDEFINED: u32 = crate::users::UNDEFINED_OPCODE;
/// Offsets of the words at the bases.
const FS: u64 = 1024;
const GS: u64 = 1032;

struct Player {
    bench: Bench,
    /// Bases of the vkernel, and, as addresses that mean the same to its users, of them.
    bases: (u64, u64),
    words: (u64, u64),
}

impl Player {
    fn new(words: (u64, u64)) -> Outcome<Self> {
        let bench = Bench::new()?;
        bench.text.write(0, &LOOK)?;
        bench.text.write(CLEAR_AT, &CLEAR)?;
        // Users have the page of data also where the vkernel has it.
        bench.space.map(bench.data, bench.data | ALLOW)?;
        bench.fill(FS, &[words.0, words.1])?;
        let bases = (bench.data + FS, bench.data + GS);
        Ok(Player { bench, bases, words })
    }

    fn step(&self, map: &IdentityMap, random: &mut Random, cpus: u64, sabotaged: bool) -> Outcome {
        for (operation, base) in [
            (ThreadControl::SetFsBase, self.bases.0),
            (ThreadControl::SetGsBase, self.bases.1),
        ] {
            syscall::thread_control(Handle::SELF_THREAD, operation, base).map_err(doing("setting a base"))?;
        }
        let canaries = ExtendedState::filled(|| random.next_number());
        canaries.load();
        if sabotaged {
            ExtendedState::filled(|| random.next_number()).load();
        }
        inside(map, || {
            self.check_own(&canaries, "on the way in")?;
            for _ in 0..8 {
                wander(random, cpus)?;
                match random.below(4) {
                    0 => self.clear(random)?,
                    _ => self.look(random)?,
                }
                self.check_own(&canaries, "after a user")?;
            }
            Ok(())
        })?;
        self.check_own(&canaries, "on the way out")
    }

    /// The vkernel's own registers.
    fn check_own(&self, canaries: &ExtendedState, when: &str) -> Outcome {
        let difference = canaries.difference(&ExtendedState::now());
        demand!(
            difference.is_none(),
            "{when}: extended registers differ at byte {difference:?} of the area"
        );
        let words = canary::words_at_bases();
        demand!(
            words == self.words,
            "{when}: the words at the bases are {words:#x?}, not {:#x?}",
            self.words
        );
        Ok(())
    }

    /// A user that makes exits with canaries in all registers and looks at what its bases show.
    fn look(&self, random: &mut Random) -> Outcome {
        let mut before = poison(0, random);
        before.r8 = 1 + random.below(40);
        (before.fs_base, before.gs_base) = match random.below(2) {
            0 => self.bases,
            _ => (DATA + FS, DATA + GS),
        };
        let mut registers_now = before;
        let state = loop {
            let timeout = match random.below(4) {
                0 => 5000 + random.below(50_000),
                _ => FOREVER,
            };
            let state = self.bench.run(registers_now, timeout, random)?;
            match state.reason {
                RUN_TIMEOUT => {}
                RUN_VIRTUAL_INTERRUPT => {
                    syscall::virq_take(INTERRUPT).map_err(doing("taking an interrupt"))?;
                }
                _ => break state,
            }
            registers_now = state.registers;
        };
        let end = before.rip + LOOK.len() as u64 - 2;
        demand!(
            (state.reason, state.vector, state.registers.rip) == (RUN_EXCEPTION, UNDEFINED, end),
            "a user that looks at its registers ended so: {state:x?}"
        );
        let (old, new) = (registers(&before), registers(&state.registers));
        for (number, name) in NAMES.iter().enumerate() {
            let wanted = match number as u8 {
                RAX => self.words.0,
                RCX => self.words.1,
                RBX | RDX => continue,
                _ if number == R8 => 0,
                _ => old[number],
            };
            demand!(
                new[number] == wanted,
                "a user's {name} is {:#x}, not {wanted:#x}; it had the bases {:#x} and {:#x}",
                new[number],
                before.fs_base,
                before.gs_base
            );
        }
        let bases = (state.registers.fs_base, state.registers.gs_base);
        demand!(
            bases == (before.fs_base, before.gs_base),
            "a user's bases were {:#x} and {:#x} and are {bases:x?}",
            before.fs_base,
            before.gs_base
        );
        Ok(())
    }

    /// A user that clears its bases.
    fn clear(&self, random: &mut Random) -> Outcome {
        let mut before = poison(CLEAR_AT, random);
        before.r9 = random.below(4);
        (before.fs_base, before.gs_base) = self.bases;
        let state = self.bench.run(before, FOREVER, random)?;
        if state.reason == RUN_VIRTUAL_INTERRUPT {
            syscall::virq_take(INTERRUPT).map_err(doing("taking an interrupt"))?;
            return Ok(());
        }
        let bases = (state.registers.fs_base, state.registers.gs_base);
        demand!(
            state.reason == RUN_EXCEPTION && state.vector == UNDEFINED && bases == (0, 0),
            "a user that has cleared its bases ended so: {state:x?}"
        );
        Ok(())
    }
}

pub fn play(team: &mut Team) -> Outcome {
    let map = Arc::new(IdentityMap::new().map_err(doing("making the identity map"))?);
    let (cpus, sabotaged) = (team.cpus(), team.sabotaged());
    for number in 0..team.helpers() {
        let map = Arc::clone(&map);
        let words = (0xf5 << 56 | number, 0x65 << 56 | number);
        let player = Player::new(words)?;
        team.helper("who moves", move |random| {
            player.step(&map, random, cpus, sabotaged)
        })?;
    }
    let player = Player::new((0xf5 << 56 | 0xff, 0x65 << 56 | 0xff))?;
    team.lead(|random| player.step(&map, random, cpus, sabotaged))
}
