//! Exits without end, with virtual interrupts and time-outs in between: what a user has done is counted exactly, by itself and by its vkernel.

use crate::bench::{Bench, CODE, poison};
use crate::guest_mode::{inside, wander};
use crate::users::{PAGE_FAULT, UNDEFINED_OPCODE};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::time::FOREVER;
use dragonet_abi::vmspace::{RUN_EXCEPTION, RUN_TIMEOUT, RUN_VIRTUAL_INTERRUPT, RegisterFrame, RunState};
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, Problem, doing};
use dragonet_programs::torture::team::{INTERRUPT, Team};
use dragonet_programs::vm::ALLOW;
use dragonet_rt::guest::IdentityMap;
use dragonet_rt::syscall;

/// Pages that are mapped when users touch them.
const LAZY: u64 = 8 << 40;
const PAGES: u64 = 16;
/// Where the programs are.
const SPACING: u64 = 64;

/// The programs. All count up in R8 and down in R9, and end with `ud2` behind the loop.
const PROGRAMS: [(&str, &[u8]); 5] = [
    // again: cpuid; inc r8; dec r9; jnz again; ud2
    (
        "cpuid",
        &[
            0x0f, 0xa2, 0x49, 0xff, 0xc0, 0x49, 0xff, 0xc9, 0x75, 0xf6, 0x0f, 0x0b,
        ],
    ),
    // again: vmcall; inc r8; dec r9; jnz again; ud2
    (
        "vmcall",
        &[
            0x0f, 0x01, 0xc1, 0x49, 0xff, 0xc0, 0x49, 0xff, 0xc9, 0x75, 0xf5, 0x0f, 0x0b,
        ],
    ),
    // again: syscall; ...
    (
        "syscall",
        &[
            0x0f, 0x05, 0x49, 0xff, 0xc0, 0x49, 0xff, 0xc9, 0x75, 0xf6, 0x0f, 0x0b,
        ],
    ),
    // again: add [rdi], r10; add rdi, 4096; inc r8; dec r9; jnz again; ud2
    (
        "touch",
        &[
            0x4c, 0x01, 0x17, 0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, 0x49, 0xff, 0xc0, 0x49, 0xff, 0xc9,
            0x75, 0xee, 0x0f, 0x0b,
        ],
    ),
    // again: inc r8; dec r9; jnz again; ud2
    (
        "compute",
        &[0x49, 0xff, 0xc0, 0x49, 0xff, 0xc9, 0x75, 0xf8, 0x0f, 0x0b],
    ),
];
const TOUCH: usize = 3;
const COMPUTE: usize = 4;

struct Player {
    bench: Bench,
    /// Memory behind the lazy pages.
    pages: [u64; PAGES as usize],
}

impl Player {
    fn new() -> Outcome<Self> {
        let bench = Bench::new()?;
        for (number, (_, program)) in PROGRAMS.iter().enumerate() {
            bench.text.write(number as u64 * SPACING, program)?;
        }
        let mut pages = [0; PAGES as usize];
        for page in &mut pages {
            *page = bench.space.page()?;
        }
        bench.space.entry(LAZY, 1)?;
        Ok(Player { bench, pages })
    }

    fn flood(&self, random: &mut Random, cpus: u64, sabotaged: bool) -> Outcome {
        let number = random.below(PROGRAMS.len() as u64) as usize;
        let (name, program) = PROGRAMS[number];
        let start = CODE + number as u64 * SPACING;
        let end = start + program.len() as u64 - 2;
        let count = match number {
            TOUCH => 1 + random.below(PAGES),
            COMPUTE => 1 + random.below(100_000),
            _ => 1 + random.below(60),
        };
        let step = random.next_number();
        let mut registers = poison(start - CODE, random);
        (registers.r8, registers.r9, registers.r10) = (0, count, step);
        registers.rdi = LAZY;
        let canary = registers.r15;
        let mut events = 0;
        loop {
            let timeout = match random.below(3) {
                0 => 1000 + random.below(30_000),
                _ => FOREVER,
            };
            let state = self.bench.run(registers, timeout, random)?;
            registers = state.registers;
            match (state.reason, state.vector) {
                (RUN_TIMEOUT, _) => {}
                (RUN_VIRTUAL_INTERRUPT, _) => {
                    syscall::virq_take(INTERRUPT).map_err(doing("taking an interrupt"))?;
                }
                (RUN_EXCEPTION, UNDEFINED_OPCODE) if registers.rip == end => break,
                (RUN_EXCEPTION, UNDEFINED_OPCODE) if registers.rip == start => {
                    registers.rip += if name == "vmcall" { 3 } else { 2 };
                    events += 1;
                }
                (RUN_EXCEPTION, PAGE_FAULT) if number == TOUCH => {
                    self.provide(&state, &registers)?;
                    events += 1;
                }
                _ => {
                    return Err(Problem::Wrong(alloc::format!(
                        "{name}: a user ended so: {state:x?}"
                    )));
                }
            }
            if random.below(4) == 0 {
                wander(random, cpus)?;
            }
        }
        if sabotaged {
            events += 1;
        }
        let wanted = match name {
            "cpuid" | "compute" => 0,
            _ => count,
        };
        demand!(
            events == wanted && registers.r8 == count && registers.r9 == 0 && registers.r15 == canary,
            "{name}: {count} times, {events} of {wanted} events, registers {registers:x?}"
        );
        if number == TOUCH {
            self.take_back(count, step)?;
        }
        Ok(())
    }

    /// Maps the page that a user has touched.
    fn provide(&self, state: &RunState, registers: &RegisterFrame) -> Outcome {
        let page = (state.fault_address - LAZY) / PAGE_SIZE;
        let expected = registers.rdi == state.fault_address && state.error_code == 2 | 4 && page < PAGES;
        demand!(expected, "touch: a user had this fault: {state:x?}");
        let entry = self.bench.space.entry(state.fault_address, 1)?;
        let old = entry.swap(self.pages[page as usize] | ALLOW, Ordering::SeqCst);
        demand!(old == 0, "touch: a page that was there ({old:#x}) was not");
        Ok(())
    }

    /// Each page was touched once.
    fn take_back(&self, count: u64, step: u64) -> Outcome {
        let ram = &self.bench.space.ram;
        for page in 0..count {
            let address = LAZY + page * PAGE_SIZE;
            let entry = self.bench.space.entry(address, 1)?.swap(0, Ordering::SeqCst);
            let wanted = self.pages[page as usize] | ALLOW | 0x60;
            demand!(
                entry == wanted,
                "touch: the entry of a page that was written is {entry:#x}, not {wanted:#x}"
            );
            let word = ram
                .word(self.pages[page as usize])
                .map_err(doing("looking at a page"))?
                .swap(0, Ordering::SeqCst);
            demand!(word == step, "touch: page {page} has {word:#x}, not {step:#x}");
        }
        crate::users::invalidate(LAZY, PAGES * PAGE_SIZE)
    }
}

pub fn play(team: &mut Team) -> Outcome {
    let map = Arc::new(IdentityMap::new().map_err(doing("making the identity map"))?);
    let (cpus, sabotaged) = (team.cpus(), team.sabotaged());
    let step = move |map: &IdentityMap, player: &Player, random: &mut Random| {
        inside(map, || {
            for _ in 0..4 {
                player.flood(random, cpus, sabotaged)?;
            }
            Ok(())
        })
    };
    for _ in 0..team.helpers() {
        let (map, player) = (Arc::clone(&map), Player::new()?);
        team.helper("who floods", move |random| step(&map, &player, random))?;
    }
    let player = Player::new()?;
    team.lead(|random| step(&map, &player, random))
}
