//! Every instruction that a user must not, may not or can execute: the vector, the error code, the instruction pointer and all registers
//! must come out as the manual has them. Selectors, which are too many for a table, are drawn at random.

use crate::bench::{Bench, CODE_LENGTH, STACK, poison};
use crate::guest_mode::{inside, wander};
use crate::instructions::{
    BREAKPOINT, CASES, Case, End, NAMES, PROTECTION, RAX, RESUME, RSP, UNDEFINED, register, registers,
};
use crate::users::{EXECUTE, SYSCALL};
use alloc::sync::Arc;
use alloc::vec::Vec;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::time::FOREVER;
use dragonet_abi::vmspace::{RUN_EXCEPTION, RUN_TIMEOUT, RUN_VIRTUAL_INTERRUPT, RegisterFrame, RunState};
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, doing};
use dragonet_programs::torture::team::{INTERRUPT, Team};
use dragonet_rt::guest::IdentityMap;
use dragonet_rt::syscall;

/// A case of the table or one made at random.
struct Trial<'case> {
    case: &'case Case,
    code: &'case [u8],
    end: End,
}

/// What one thread tries with.
struct Tester {
    map: Arc<IdentityMap>,
    bench: Bench,
}

impl Tester {
    fn new(map: &Arc<IdentityMap>) -> Outcome<Self> {
        let bench = Bench::new()?;
        let last = bench.text.address() + CODE_LENGTH - PAGE_SIZE;
        bench.space.map(LOWER_HALF_END - PAGE_SIZE, last | EXECUTE)?;
        Ok(Tester {
            map: Arc::clone(map),
            bench,
        })
    }

    /// Some cases, in guest mode.
    fn step(&self, random: &mut Random, cpus: u64, sabotaged: bool) -> Outcome {
        inside(&self.map, || {
            for _ in 0..16 {
                wander(random, cpus)?;
                self.one(random, sabotaged)?;
            }
            Ok(())
        })
    }

    fn one(&self, random: &mut Random, sabotaged: bool) -> Outcome {
        match random.below(8) {
            0 | 1 => return self.selectors(random),
            2 => return self.last_byte(random),
            _ => {}
        }
        let case = &CASES[random.below(CASES.len() as u64) as usize];
        // With sabotage the code is another case's.
        let other = &CASES[random.below(CASES.len() as u64) as usize];
        let trial = Trial {
            case,
            code: if sabotaged { other.code } else { case.code },
            end: case.end_here(),
        };
        self.check(&trial, random)
    }

    /// Loads a selector: null ones are allowed in most places, all others lie beyond every table.
    fn selectors(&self, random: &mut Random) -> Outcome {
        let selector = match random.below(4) {
            0 => random.below(4),
            _ => random.next_number() & 0xffff,
        };
        let code = SELECTORS[random.below(SELECTORS.len() as u64) as usize];
        let null = selector & !3 == 0;
        let mut code: Vec<u8> = code.to_vec();
        // mov eax, selector
        let mut whole: Vec<u8> = alloc::vec![0xb8];
        whole.extend((selector as u32).to_le_bytes());
        let start = whole.len() as u64;
        whole.append(&mut code);
        // Those that take it from the stack push it first.
        let pushes = u64::from(whole[start as usize] == PUSH_RAX);
        let loads_stack = whole[start as usize..] == [0x8e, 0xd0];
        let end = if null && !loads_stack {
            End::Done
        } else {
            End::Exception {
                vector: PROTECTION,
                error_code: selector & 0xfffc,
                at: start + pushes,
            }
        };
        let case = Case {
            name: "a selector",
            code: &[],
            changes: &[RAX, RSP],
            ..CASES[0]
        };
        let trial = Trial {
            case: &case,
            code: &whole,
            end,
        };
        self.check(&trial, random)
    }

    /// Instructions in the last bytes of the lower half of the addresses: there is no next one.
    fn last_byte(&self, random: &mut Random) -> Outcome {
        let (code, vector, behind) = LAST[random.below(LAST.len() as u64) as usize];
        self.bench.text.write(0, &JUMP_TO_RAX)?;
        self.bench.text.write(CODE_LENGTH - code.len() as u64, code)?;
        let mut before = poison(0, random);
        before.rax = LOWER_HALF_END - code.len() as u64;
        let state = self.bench.run(before, FOREVER, random)?;
        if state.reason == RUN_VIRTUAL_INTERRUPT {
            syscall::virq_take(INTERRUPT).map_err(doing("taking an interrupt"))?;
            return Ok(());
        }
        let rip = before.rax + if behind { code.len() as u64 } else { 0 };
        demand!(
            state.reason == RUN_EXCEPTION
                && (state.vector, state.error_code) == (vector, 0)
                && state.registers.rip == rip,
            "{code:02x?} at the end of the lower half: vector {vector} at {rip:#x} expected, seen: {state:x?}"
        );
        Ok(())
    }

    /// Executes it, from the start again whenever something interrupts it.
    fn check(&self, trial: &Trial<'_>, random: &mut Random) -> Outcome {
        let place = random.below(CODE_LENGTH - 64);
        let mut bytes = trial.code.to_vec();
        bytes.extend(SYSCALL);
        self.bench.text.write(place, &bytes)?;
        let before = registers_for(trial.case, place, random);
        loop {
            self.bench.fill(0, trial.case.memory)?;
            self.bench.fill(STACK, trial.case.stack)?;
            let timeout = match random.below(8) {
                0 => 1000 + random.below(50_000),
                _ => FOREVER,
            };
            let state = self.bench.run(before, timeout, random)?;
            match state.reason {
                RUN_VIRTUAL_INTERRUPT => {
                    syscall::virq_take(INTERRUPT).map_err(doing("taking an interrupt"))?;
                }
                RUN_TIMEOUT => {}
                _ => {
                    return judge(trial, &before, &state).map_err(|what| {
                        dragonet_programs::torture::problem::Problem::Wrong(alloc::format!(
                            "{} ({:02x?} at {:#x}): {what}",
                            trial.case.name,
                            trial.code,
                            before.rip
                        ))
                    });
                }
            }
        }
    }
}

/// Poison in every register, but for those that the case needs.
fn registers_for(case: &Case, place: u64, random: &mut Random) -> RegisterFrame {
    let mut registers = poison(place, random);
    for &(number, value) in case.registers {
        *register(&mut registers, number) = value;
    }
    registers.rflags |= case.flags;
    registers
}

/// Compares what came of a trial with what must.
fn judge(trial: &Trial<'_>, before: &RegisterFrame, state: &RunState) -> Result<(), alloc::string::String> {
    use alloc::format;
    let case = trial.case;
    let (vector, error_code, at) = match trial.end {
        End::Exception {
            vector,
            error_code,
            at,
        } => (vector, error_code, at),
        End::Done => (UNDEFINED, 0, trial.code.len() as u64),
    };
    let vector = match case.or {
        Some(other) if other == state.vector => other,
        _ => vector,
    };
    let after = &state.registers;
    let seen = (state.reason, state.vector, state.error_code, state.fault_address);
    if seen != (RUN_EXCEPTION, vector, error_code, 0) || after.rip != before.rip + at {
        return Err(format!(
            "vector {vector}, error code {error_code:#x} at +{at} expected; seen: reason {}, vector {}, error code {:#x}, address {:#x} at +{}",
            state.reason,
            state.vector,
            state.error_code,
            state.fault_address,
            after.rip.wrapping_sub(before.rip)
        ));
    }
    let happened = matches!(trial.end, End::Done) || at > 0;
    let (old, new) = (registers(before), registers(after));
    for number in 0..16_u8 {
        let (old, new) = (old[usize::from(number)], new[usize::from(number)]);
        let result = case.results.iter().find(|(register, _)| *register == number);
        let wanted = match result {
            Some(&(_, value)) if happened => value,
            _ if happened && case.changes.contains(&number) => continue,
            _ => old,
        };
        if new != wanted {
            let name = NAMES[usize::from(number)];
            return Err(format!("{name} was {old:#x} and is {new:#x}, not {wanted:#x}"));
        }
    }
    let flags = before.rflags ^ after.rflags;
    if !case.changes_flags && flags & !RESUME != 0 {
        return Err(format!(
            "the flags were {:#x} and are {:#x}",
            before.rflags, after.rflags
        ));
    }
    if (before.fs_base, before.gs_base) != (after.fs_base, after.gs_base) && case.name != "a selector" {
        return Err(format!(
            "the segment bases were {:#x} and {:#x}, and are {:#x} and {:#x}",
            before.fs_base, before.gs_base, after.fs_base, after.gs_base
        ));
    }
    Ok(())
}

/// Where the hole between the halves of the addresses begins.
const LOWER_HALF_END: u64 = 1 << 47;
const JUMP_TO_RAX: [u8; 2] = [0xff, 0xe0];
/// The last instruction, what comes of it, and whether it comes behind it: nop, cpuid, int3, vmcall, syscall.
const LAST: [(&[u8], u32, bool); 5] = [
    (&[0x90], PROTECTION, true),
    (&[0x0f, 0xa2], PROTECTION, true),
    (&[0xcc], BREAKPOINT, true),
    (&[0x0f, 0x01, 0xc1], UNDEFINED, false),
    (&SYSCALL, UNDEFINED, false),
];
const PUSH_RAX: u8 = 0x50;
/// mov ds, es, ss, fs, gs; push rax and pop fs, gs.
const SELECTORS: [&[u8]; 7] = [
    &[0x8e, 0xd8],
    &[0x8e, 0xc0],
    &[0x8e, 0xd0],
    &[0x8e, 0xe0],
    &[0x8e, 0xe8],
    &[PUSH_RAX, 0x0f, 0xa1],
    &[PUSH_RAX, 0x0f, 0xa9],
];

pub fn play(team: &mut Team) -> Outcome {
    let map = Arc::new(IdentityMap::new().map_err(doing("making the identity map"))?);
    let (cpus, sabotaged) = (team.cpus(), team.sabotaged());
    for _ in 0..team.helpers() {
        let tester = Tester::new(&map)?;
        team.helper("who tries", move |random| tester.step(random, cpus, sabotaged))?;
    }
    let tester = Tester::new(&map)?;
    team.lead(|random| tester.step(random, cpus, sabotaged))
}
