//! Users who write their own page tables: an entry that becomes present is used at once, without anybody's help; one that becomes another may
//! be used late, but after an invalidation no more.

use crate::bench::{Bench, CODE, poison};
use crate::guest_mode::{inside, wander};
use crate::users::{SYSCALL, UNDEFINED_OPCODE, invalidate};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::time::FOREVER;
use dragonet_abi::vmspace::{RUN_EXCEPTION, RUN_TIMEOUT, RUN_VIRTUAL_INTERRUPT, RegisterFrame, RunState};
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, doing};
use dragonet_programs::torture::signature::Signature;
use dragonet_programs::torture::team::{INTERRUPT, Team};
use dragonet_programs::vm::ALLOW;
use dragonet_rt::guest::IdentityMap;
use dragonet_rt::syscall;

const OWNER: u8 = 7;
const PAGES: u64 = 8;
/// Where users have the pages, and the table that maps them.
const SPACE: u64 = 10 << 40;
const TABLE: u64 = 11 << 40;
/// mov [rdi], rsi; mov rax, [r8]; mov [rdi], rdx; mov rbx, [r8]; syscall
const WRITE_TWICE: [u8; 14] = [
    0x48, 0x89, 0x37, 0x49, 0x8b, 0x00, 0x48, 0x89, 0x17, 0x49, 0x8b, 0x18, SYSCALL[0], SYSCALL[1],
];
/// mov rax, [r8]; syscall
const LOOK_AT: u64 = 64;
const LOOK: [u8; 5] = [0x49, 0x8b, 0x00, SYSCALL[0], SYSCALL[1]];

struct Player {
    bench: Bench,
    pages: Vec<u64>,
}

impl Player {
    fn new() -> Outcome<Self> {
        let bench = Bench::new()?;
        bench.text.write(0, &WRITE_TWICE)?;
        bench.text.write(LOOK_AT, &LOOK)?;
        bench.space.entry(SPACE, 1)?;
        let table = bench.space.entry(SPACE, 2)?.load(Ordering::SeqCst);
        bench.space.map(TABLE, table)?;
        let mut pages = Vec::new();
        for page in 0..PAGES {
            let place = bench.space.page()?;
            bench
                .space
                .ram
                .store(place, signature(page))
                .map_err(doing("signing a page"))?;
            pages.push(place);
        }
        Ok(Player { bench, pages })
    }

    /// Runs a user to its call.
    fn run(&self, mut registers: RegisterFrame, end: u64, random: &mut Random) -> Outcome<RunState> {
        loop {
            let timeout = match random.below(3) {
                0 => 1000 + random.below(20_000),
                _ => FOREVER,
            };
            let state = self.bench.run(registers, timeout, random)?;
            match state.reason {
                RUN_TIMEOUT => {}
                RUN_VIRTUAL_INTERRUPT => {
                    syscall::virq_take(INTERRUPT).map_err(doing("taking an interrupt"))?;
                }
                _ => {
                    demand!(
                        (state.reason, state.vector, state.registers.rip)
                            == (RUN_EXCEPTION, UNDEFINED_OPCODE, end),
                        "a user that writes its own table ended so: {state:x?}"
                    );
                    return Ok(state);
                }
            }
            registers = state.registers;
        }
    }

    fn step(&self, random: &mut Random, sabotaged: bool) -> Outcome {
        let place = random.below(PAGES);
        let (first, second) = (random.below(PAGES), random.below(PAGES));
        let address = SPACE + place * PAGE_SIZE;
        self.bench.space.entry(address, 1)?.store(0, Ordering::SeqCst);
        invalidate(address, PAGE_SIZE)?;
        let mut registers = poison(0, random);
        registers.rdi = TABLE + 8 * place;
        registers.r8 = address;
        registers.rsi = self.pages[first as usize] | ALLOW;
        let wrong = if sabotaged { 1 } else { 0 };
        registers.rdx = self.pages[((second + wrong) % PAGES) as usize] | ALLOW;
        let state = self.run(registers, CODE + WRITE_TWICE.len() as u64 - 2, random)?;
        let (seen, late) = (state.registers.rax, state.registers.rbx);
        demand!(
            seen == signature(first),
            "an entry that a user made present shows {} in place of {}",
            Signature(seen),
            Signature(signature(first))
        );
        demand!(
            sabotaged || late == signature(first) || late == signature(second),
            "an entry that a user changed from page {first} to page {second} shows {}",
            Signature(late)
        );
        invalidate(address, PAGE_SIZE)?;
        let mut registers = poison(LOOK_AT, random);
        registers.r8 = address;
        let state = self.run(registers, CODE + LOOK_AT + LOOK.len() as u64 - 2, random)?;
        let seen = state.registers.rax;
        demand!(
            seen == signature(second),
            "an entry that a user changed shows {} in place of {}, after an invalidation",
            Signature(seen),
            Signature(signature(second))
        );
        Ok(())
    }
}

const fn signature(page: u64) -> u64 {
    Signature::new(OWNER, page as u16, 1).0
}

pub fn play(team: &mut Team) -> Outcome {
    let map = Arc::new(IdentityMap::new().map_err(doing("making the identity map"))?);
    let (cpus, sabotaged) = (team.cpus(), team.sabotaged());
    let steps = move |map: &IdentityMap, player: &Player, random: &mut Random| {
        inside(map, || {
            for _ in 0..16 {
                wander(random, cpus)?;
                player.step(random, sabotaged)?;
            }
            Ok(())
        })
    };
    for _ in 0..team.helpers() {
        let (map, player) = (Arc::clone(&map), Player::new()?);
        team.helper("who writes", move |random| steps(&map, &player, random))?;
    }
    let player = Player::new()?;
    team.lead(|random| steps(&map, &player, random))
}
