//! Random bytes as code: whatever it does ends in one of the ways that there are, a page fault is one that the page table explains, and
//! an instruction that faults has changed nothing. Half of the trials are traced, so that exactly one instruction is executed.

use crate::bench::{Bench, CODE, CODE_LENGTH, DATA, STACK, poison};
use crate::guest_mode::{inside, wander};
use crate::instructions::{
    ALIGNMENT, BREAKPOINT, DEBUG, DIVIDE, FLOATING_POINT, NAMES, PROTECTION, SIMD, STACK as STACK_FAULT,
    TRAP, UNDEFINED, register, registers,
};
use crate::users::PAGE_FAULT;
use alloc::sync::Arc;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::vmspace::{RUN_EXCEPTION, RUN_TIMEOUT, RUN_VIRTUAL_INTERRUPT, RegisterFrame, RunState};
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, doing};
use dragonet_programs::torture::team::{INTERRUPT, Team};
use dragonet_rt::guest::IdentityMap;
use dragonet_rt::syscall;

/// Bytes that are looked at in messages, and that a trial writes.
const SHOWN: usize = 16;
const WRITTEN: usize = 64;
/// Page-fault error code.
const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const USER: u64 = 4;
const FETCH: u64 = 16;
/// First bytes of instructions that do more.
const OPCODES: [&[u8]; 14] = [
    &[0x0f],
    &[0x0f, 0x01],
    &[0x0f, 0x00],
    &[0x0f, 0xc7],
    &[0x0f, 0xae],
    &[0x0f, 0x38],
    &[0x0f, 0x3a],
    &[0x48],
    &[0x66],
    &[0xf3],
    &[0xc5],
    &[0xc4],
    &[0x62],
    &[0xff],
];

fn step(bench: &Bench, random: &mut Random, sabotaged: bool) -> Outcome {
    let mut bytes = [0; WRITTEN];
    for byte in &mut bytes {
        *byte = random.next_number() as u8;
    }
    if random.below(2) == 0 {
        let opcode = OPCODES[random.below(OPCODES.len() as u64) as usize];
        bytes[..opcode.len()].copy_from_slice(opcode);
    }
    let place = random.below(CODE_LENGTH - WRITTEN as u64);
    bench.text.write(place, &bytes)?;
    let mut before = poison(place, random);
    for number in 0..16 {
        match random.below(4) {
            0 => *register(&mut before, number) = DATA + random.below(PAGE_SIZE),
            1 => *register(&mut before, number) = CODE + random.below(CODE_LENGTH),
            _ => {}
        }
    }
    before.rsp = DATA + STACK;
    let traced = random.below(2) == 0;
    if traced {
        before.rflags |= TRAP;
    }
    let state = bench.run(before, 20_000 + random.below(100_000), random)?;
    if state.reason == RUN_VIRTUAL_INTERRUPT {
        syscall::virq_take(INTERRUPT).map_err(doing("taking an interrupt"))?;
    }
    let mut expected = before;
    if sabotaged {
        expected.r15 ^= 1;
    }
    judge(&bytes, traced, &expected, &state)
}

fn judge(bytes: &[u8], traced: bool, before: &RegisterFrame, state: &RunState) -> Outcome {
    let shown = &bytes[..SHOWN];
    let RunState {
        reason,
        vector,
        error_code,
        fault_address,
        ..
    } = *state;
    let what = alloc::format!(
        "{shown:02x?} at {:#x}: reason {reason}, vector {vector}, error code {error_code:#x}, address {fault_address:#x}, at {:#x}",
        before.rip,
        state.registers.rip
    );
    if reason != RUN_EXCEPTION {
        demand!(
            reason == RUN_TIMEOUT || reason == RUN_VIRTUAL_INTERRUPT,
            "{what}: there is no such end"
        );
        return Ok(());
    }
    let legal = match vector {
        DIVIDE | DEBUG | BREAKPOINT | UNDEFINED | STACK_FAULT | FLOATING_POINT | ALIGNMENT | SIMD => {
            error_code == 0 && fault_address == 0
        }
        PROTECTION => error_code <= 0xffff && fault_address == 0,
        PAGE_FAULT => is_explained(error_code, fault_address),
        _ => false,
    };
    demand!(legal, "{what}: that cannot be");
    let fault = !matches!(vector, DEBUG | BREAKPOINT);
    if traced && fault && is_simple(bytes) {
        demand!(
            state.registers.rip == before.rip,
            "{what}: more than one instruction was executed"
        );
        let (old, new) = (registers(before), registers(&state.registers));
        for ((old, new), name) in old.iter().zip(new).zip(NAMES) {
            demand!(
                *old == new,
                "{what}: {name} was {old:#x} and is {new:#x}, although nothing was executed"
            );
        }
    }
    Ok(())
}

/// True if the page table makes a page fault of such an access.
fn is_explained(error_code: u64, address: u64) -> bool {
    let in_code = (CODE..CODE + CODE_LENGTH).contains(&address);
    let in_data = (DATA..DATA + PAGE_SIZE).contains(&address);
    let canonical = address >> 47 == 0 || address >> 47 == (1 << 17) - 1;
    let (write, fetch) = (error_code & WRITE != 0, error_code & FETCH != 0);
    let denied = in_code && write || in_data && fetch;
    canonical
        && error_code & USER != 0
        && ((error_code & PRESENT != 0) == denied)
        && (denied || !(in_code || in_data))
}

/// False for what may fault half done: repeated string instructions, gathers and scatters; and for POPF, which may end the trace.
fn is_simple(bytes: &[u8]) -> bool {
    for byte in bytes {
        match byte {
            0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 => {}
            0xf2 | 0xf3 | 0xc4 | 0xc5 | 0x62 | 0x9d => return false,
            _ => return true,
        }
    }
    false
}

pub fn play(team: &mut Team) -> Outcome {
    let map = Arc::new(IdentityMap::new().map_err(doing("making the identity map"))?);
    let (cpus, sabotaged) = (team.cpus(), team.sabotaged());
    let steps = move |map: &IdentityMap, bench: &Bench, random: &mut Random| {
        inside(map, || {
            for _ in 0..32 {
                wander(random, cpus)?;
                step(bench, random, sabotaged)?;
            }
            Ok(())
        })
    };
    for _ in 0..team.helpers() {
        let (map, bench) = (Arc::clone(&map), Bench::new()?);
        team.helper("who tries", move |random| steps(&map, &bench, random))?;
    }
    let bench = Bench::new()?;
    team.lead(|random| steps(&map, &bench, random))
}
