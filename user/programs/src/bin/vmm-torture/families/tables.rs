//! Page tables full of garbage: random words at every level, reserved bits, large pages where there are none, tables that contain
//! themselves or each other, tables and pages in memory that is read-only, not there, or beyond all memory. A walker by the manual says what
//! each access must come to; afterwards the memory must be what it was, but for accessed and dirty bits and the word that was stored. Since
//! tables lie in the memory that they map, users change them as they go.

use crate::guest_mode::{inside, wander};
use crate::users::{EXECUTE, PAGE_FAULT, Space, Text, run_program};
use crate::walk::{Format, Memory, RESERVED, USER, Walked, walk};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use dragonet_abi::Errno;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::{Protection, Vpte};
use dragonet_abi::time::FOREVER;
use dragonet_abi::vmm::GUEST_PHYSICAL_END;
use dragonet_abi::vmspace::{RUN_EXCEPTION, RUN_SYSCALL, RUN_VIRTUAL_INTERRUPT, RunState};
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, doing};
use dragonet_programs::torture::stage::run_with;
use dragonet_programs::torture::team::{INTERRUPT, Team};
use dragonet_programs::vm::{ALLOW, code};
use dragonet_rt::guest::{IdentityMap, invalidate};
use dragonet_rt::memory::Mapping;
use dragonet_rt::{processor, syscall};

/// Pages of garbage, root included.
const PAGES: u64 = 8;
const WORDS: u64 = PAGES * PAGE_SIZE / 8;
const LARGE_PAGE: u64 = 2 << 20;
/// Set in addresses of memory that no process has: above what the kernel places, below what the oldest CPU has no bits for.
const AWAY: u64 = 1 << 38;
const MARKS: u64 = Vpte::ACCESSED | Vpte::DIRTY;

struct Player {
    space: Space,
    _text: Text,
    /// The root is the first page. It begins a large page, all of which is the player's.
    garbage: u64,
    /// Memory of which users may read what is there, and nothing else.
    read_only: Mapping,
    /// The root's entry that leads to the code, and its place.
    code_entry: u64,
    format: Format,
}

/// The garbage as it is, or as it should be.
struct Image {
    start: u64,
    words: Vec<u64>,
}

impl Image {
    fn index(&self, address: u64) -> Option<usize> {
        let offset = address.checked_sub(self.start)?;
        (offset / 8 < self.words.len() as u64).then_some((offset / 8) as usize)
    }
}

impl Memory for Image {
    fn load(&self, address: u64) -> Option<u64> {
        Some(self.words[self.index(address)?])
    }
}

impl Player {
    fn new() -> Outcome<Self> {
        let space = Space::new(3 * LARGE_PAGE / PAGE_SIZE)?;
        let text = Text::of_programs()?;
        space.map(code::ADDRESS, text.address() | EXECUTE)?;
        let garbage = (space.page()? + LARGE_PAGE).next_multiple_of(LARGE_PAGE);
        let object = syscall::object_create(PAGE_SIZE).map_err(doing("making an object"))?;
        let read_only = Mapping::of_object(object.get(), 0, PAGE_SIZE, Protection::READ)
            .map_err(doing("mapping read-only memory"))?;
        let code_entry = space.entry(code::ADDRESS, 4)?.load(Ordering::SeqCst);
        let format = Format {
            width: processor::cpuid(0x8000_0008, 0)[0] as u8,
            huge: processor::cpuid(0x8000_0001, 0)[3] >> 26 & 1 != 0,
        };
        Ok(Player {
            space,
            _text: text,
            garbage,
            read_only,
            code_entry,
            format,
        })
    }

    /// A word of garbage that may be an entry.
    fn word(&self, random: &mut Random) -> u64 {
        let flags = random.next_number() & (0xfe6 | Vpte::NO_EXECUTE) & !Vpte::LARGE | ALLOW;
        let own = self.garbage + random.below(PAGES) * PAGE_SIZE;
        match random.below(16) {
            0 => random.next_number() | AWAY,
            1 => 0,
            2 => own | flags & !Vpte::WRITE,
            3 => own | flags & !Vpte::USER,
            4 => own | flags | Vpte::LARGE,
            5 => own | flags | 1 << (random.below(12) + 40),
            6 => self.read_only.address() | flags,
            7 => (random.next_number() & Vpte::FRAME >> 8) & !(PAGE_SIZE - 1) | AWAY | flags,
            8 => self.garbage | flags | Vpte::LARGE,
            9 => {
                let any = random.next_number() & Vpte::FRAME & ((1 << self.format.width) - 1);
                any & !((1 << 30) - 1) | AWAY | flags | Vpte::LARGE
            }
            _ => own | flags,
        }
    }

    fn code_index() -> u64 {
        page_table::index(code::ADDRESS, 4) as u64
    }

    /// Fills the memory anew.
    fn fill(&self, random: &mut Random) -> Outcome {
        // Sparse or full.
        let share = 1 + random.below(4);
        for word in 0..WORDS {
            let value = if random.below(share) == 0 {
                self.word(random)
            } else {
                0
            };
            self.space
                .ram
                .store(self.garbage + 8 * word, value)
                .map_err(doing("filling a table"))?;
        }
        self.space
            .ram
            .store(self.garbage + 8 * Self::code_index(), self.code_entry)
            .map_err(doing("setting the entry of the code"))?;
        // Tables are other tables now.
        invalidate(0, 1 << 47).map_err(doing("invalidating"))
    }

    fn image(&self) -> Outcome<Image> {
        let words = (0..WORDS)
            .map(|word| self.space.ram.load(self.garbage + 8 * word))
            .collect::<Result<_, _>>()
            .map_err(doing("reading the tables"))?;
        Ok(Image {
            start: self.garbage,
            words,
        })
    }

    /// One access, under a root that leads to the code.
    fn access(&self, random: &mut Random, sabotaged: bool) -> Outcome {
        let store = random.below(3) == 0;
        // Entries at the beginning of tables and any others.
        let mut address = random.next_number() & ((1 << 47) - 1) & !7;
        if page_table::index(address, 4) as u64 == Self::code_index() {
            address ^= 1 << 40;
        }
        let before = self.image()?;
        let value = self.word(random);
        let walked = walk(&before, self.format, self.garbage, address, store);
        if let Walked::To { address: to, .. } = &walked
            && store
            && *to == self.garbage + 8 * Self::code_index()
        {
            // It would lose its own code.
            return Ok(());
        }
        let program = if store {
            code::store(address, value)
        } else {
            code::load(address)
        };
        let run = |registers, timeout| run_program(self.garbage, registers, timeout);
        let state = run_with(run, program, random)?;
        let what = alloc::format!(
            "{} at {address:#x}, {walked:x?}, memory at {:#x}, read-only at {:#x}; seen: {state:x?}",
            if store { "a store" } else { "a load" },
            self.garbage,
            self.read_only.address()
        );
        let mut wanted = before;
        self.judge(&walked, store, &state, &mut wanted, value, &what)?;
        if sabotaged {
            wanted.words[WORDS as usize / 2] ^= 1 << 20;
        }
        let after = self.image()?;
        for (place, (new, old)) in after.words.iter().zip(&wanted.words).enumerate() {
            demand!(
                new & !MARKS == old & !MARKS && old & !new & MARKS == 0,
                "{what}: word {place} was {old:#x} and is {new:#x}"
            );
        }
        if let (Walked::To { entries, .. }, RUN_SYSCALL) = (&walked, state.reason) {
            for entry in entries {
                let word = after.load(*entry).unwrap_or(0);
                demand!(
                    word & Vpte::ACCESSED != 0 || store,
                    "{what}: the entry at {entry:#x} is used, but not marked: {word:#x}"
                );
            }
        }
        if store && state.reason == RUN_SYSCALL {
            // It may have been an entry that somebody had used.
            invalidate(0, 1 << 47).map_err(doing("invalidating"))?;
        }
        Ok(())
    }

    fn judge(
        &self,
        walked: &Walked,
        store: bool,
        state: &RunState,
        wanted: &mut Image,
        value: u64,
        what: &str,
    ) -> Outcome {
        let seen_fault = (state.reason, state.vector) == (RUN_EXCEPTION, PAGE_FAULT);
        match walked {
            Walked::Fault(code) => demand!(
                seen_fault && state.error_code == *code,
                "{what}: a fault with error code {code:#x} expected"
            ),
            Walked::Lost => demand!(
                seen_fault && state.error_code & (USER | RESERVED) == USER | RESERVED,
                "{what}: a fault of a lost table expected"
            ),
            Walked::To { address, .. } => match wanted.index(*address) {
                Some(place) if store => {
                    demand!(state.reason == RUN_SYSCALL, "{what}: a store expected");
                    wanted.words[place] = value;
                }
                Some(place) => {
                    let word = wanted.words[place];
                    let seen = state.registers.rax;
                    demand!(
                        state.reason == RUN_SYSCALL && (seen ^ word) & !MARKS == 0,
                        "{what}: {word:#x} expected"
                    );
                }
                None if self.is_behind(*address) => {
                    demand!(state.reason == RUN_SYSCALL, "{what}: memory that is there");
                }
                None if self.can_read(*address) => demand!(
                    if store {
                        seen_fault
                    } else {
                        state.reason == RUN_SYSCALL
                    },
                    "{what}: memory that can be read and not written"
                ),
                None => demand!(
                    seen_fault && state.error_code & (USER | RESERVED) == USER | RESERVED,
                    "{what}: a fault of lost memory expected"
                ),
            },
        }
        Ok(())
    }

    fn can_read(&self, address: u64) -> bool {
        let start = self.read_only.address();
        (start..start + PAGE_SIZE).contains(&address)
    }

    /// The rest of the large page, where nobody looks at what is there.
    fn is_behind(&self, address: u64) -> bool {
        (self.garbage + PAGES * PAGE_SIZE..self.garbage + LARGE_PAGE).contains(&address)
    }

    /// A user whose root may be anywhere: its first fetch is a fault, or there can be no such root.
    fn lost_root(&self, random: &mut Random) -> Outcome {
        let root = match random.below(3) {
            0 => self.read_only.address(),
            1 => AWAY | random.next_number() & (AWAY - PAGE_SIZE),
            _ => 1 << (self.format.width - 1 + random.below(10) as u8) | random.next_number() & 0x3f_f000,
        };
        let root = root & !(PAGE_SIZE - 1);
        let mut state = RunState {
            registers: code::load(0),
            timeout: FOREVER,
            ..RunState::default()
        };
        let outcome = syscall::vmm_run_user(root, &mut state);
        if root >= GUEST_PHYSICAL_END || root >> self.format.width != 0 {
            demand!(
                outcome == Err(Errno::EINVAL),
                "the root {root:#x} is beyond all memory, but RUN is {outcome:?}"
            );
            return Ok(());
        }
        outcome.map_err(doing("running a user with a lost root"))?;
        if state.reason == RUN_VIRTUAL_INTERRUPT {
            syscall::virq_take(INTERRUPT).map_err(doing("taking an interrupt"))?;
            return Ok(());
        }
        demand!(
            (state.reason, state.vector, state.fault_address) == (RUN_EXCEPTION, PAGE_FAULT, code::ADDRESS)
                && state.registers.rip == code::ADDRESS
                && state.error_code & USER != 0,
            "a user with the root {root:#x} ended so: {state:x?}"
        );
        Ok(())
    }

    fn step(&self, random: &mut Random, cpus: u64, sabotaged: bool) -> Outcome {
        self.fill(random)?;
        for _ in 0..12 {
            wander(random, cpus)?;
            match random.below(6) {
                0 => self.lost_root(random)?,
                _ => self.access(random, sabotaged)?,
            }
        }
        Ok(())
    }
}

pub fn play(team: &mut Team) -> Outcome {
    let map = Arc::new(IdentityMap::new().map_err(doing("making the identity map"))?);
    let (cpus, sabotaged) = (team.cpus(), team.sabotaged());
    for _ in 0..team.helpers() {
        let (map, player) = (Arc::clone(&map), Player::new()?);
        team.helper("who walks", move |random| {
            inside(&map, || player.step(random, cpus, sabotaged))
        })?;
    }
    let player = Player::new()?;
    team.lead(|random| inside(&map, || player.step(random, cpus, sabotaged)))
}
