//! Changes of a guest's page tables against users that follow them on other CPUs without ever leaving the guest: once an invalidation has
//! returned, nobody uses an old translation.
//!
//! Each page shows a word that only grows: the next value is written to another page of the memory, the entry set to it, the entry
//! invalidated, the value published. Two roots have the tables below in common, so that an entry is cached under two identifiers. Entries
//! are changed by a store and an invalidation of the range, or by an exchange while every other CPU is out of the guest.

use crate::guest_mode::{inside, wander};
use crate::users::{Space, Text, invalidate, run_program};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, doing};
use dragonet_programs::torture::signature::Signature;
use dragonet_programs::torture::stage::{Limits, Sight};
use dragonet_programs::torture::team::Team;
use dragonet_programs::vm::ALLOW;
use dragonet_rt::guest::{self, IdentityMap};

const OWNER: u8 = 2;
const PAGES: u64 = 8;
/// Pages of the memory that one page of the mapping shows in turn.
const TURNS: u64 = 4;
/// Where users have the pages.
const SPACE: u64 = 3 << 30;

struct Stage {
    map: IdentityMap,
    limits: Limits,
    space: Space,
    /// Keeps what the table names.
    _text: Text,
    roots: [u64; 2],
}

impl Stage {
    fn new() -> Outcome<Self> {
        let map = IdentityMap::new().map_err(doing("making the identity map"))?;
        let limits = Limits::new()?;
        let space = Space::new(64)?;
        let text = Text::of_programs()?;
        space.map_programs(&text)?;
        space.map(Limits::ADDRESS, limits.address() | crate::users::READ)?;
        space.entry(SPACE, 1)?;
        let roots = [space.root(), space.twin()?];
        Ok(Stage {
            map,
            limits,
            space,
            _text: text,
            roots,
        })
    }

    /// Runs users for a while.
    fn watch(&self, random: &mut Random, cpus: u64) -> Outcome {
        inside(&self.map, || {
            for _ in 0..8 {
                wander(random, cpus)?;
                let root = self.roots[random.below(2) as usize];
                let page = random.below(PAGES);
                let run = |registers, timeout| run_program(root, registers, timeout);
                let sight = self
                    .limits
                    .watch_with(run, SPACE + page * PAGE_SIZE, page, random)?;
                demand!(
                    sight == Sight::Fine,
                    "page {page} is always there, but a user saw {sight:?}"
                );
            }
            Ok(())
        })
    }
}

/// What the leader knows.
struct Changes {
    current: [Signature; PAGES as usize],
    /// Where the values are, by page and turn.
    backing: Vec<u64>,
}

impl Changes {
    fn new(stage: &Stage) -> Outcome<Self> {
        let mut changes = Changes {
            current: core::array::from_fn(|page| Signature::new(OWNER, page as u16, 0)),
            backing: (0..PAGES * TURNS)
                .map(|_| stage.space.page())
                .collect::<Outcome<_>>()?,
        };
        for page in 0..PAGES {
            let entry = changes.next(stage, page)?;
            stage.space.map(SPACE + page * PAGE_SIZE, entry)?;
            stage.limits.publish(page, changes.current[page as usize])?;
        }
        Ok(changes)
    }

    /// Announces a page's next value, and the entry that shows it.
    fn next(&mut self, stage: &Stage, page: u64) -> Outcome<u64> {
        let value = self.current[page as usize].next();
        self.current[page as usize] = value;
        stage.limits.announce(page, value)?;
        let place = self.backing[(page * TURNS + value.0 % TURNS) as usize];
        stage
            .space
            .ram
            .store(place, value.0)
            .map_err(doing("writing a value"))?;
        Ok(place | ALLOW)
    }

    fn step(&mut self, stage: &Stage, random: &mut Random, sabotaged: bool) -> Outcome {
        let first = random.below(PAGES);
        let last = match random.below(4) {
            0 => PAGES - 1,
            _ => first,
        };
        let alone = random.below(4) == 0;
        for page in first..=last {
            let entry = self.next(stage, page)?;
            let word = stage.space.entry(SPACE + page * PAGE_SIZE, 1)?;
            if alone && !sabotaged {
                let old = guest::exchange(word, entry).map_err(doing("exchanging an entry"))?;
                demand!(
                    old & !0x60 == word_before(self, page) & !0x60,
                    "an entry was {old:#x} before it became {entry:#x}"
                );
            } else {
                word.store(entry, Ordering::SeqCst);
            }
        }
        if !alone && !sabotaged {
            invalidate(SPACE + first * PAGE_SIZE, (last + 1 - first) * PAGE_SIZE)?;
        }
        for page in first..=last {
            stage.limits.publish(page, self.current[page as usize])?;
        }
        Ok(())
    }
}

/// The entry that showed the page's last value but one.
fn word_before(changes: &Changes, page: u64) -> u64 {
    let value = changes.current[page as usize].previous();
    changes.backing[(page * TURNS + value.0 % TURNS) as usize] | ALLOW
}

pub fn play(team: &mut Team) -> Outcome {
    let stage = Arc::new(Stage::new()?);
    let mut changes = Changes::new(&stage)?;
    let (cpus, sabotaged) = (team.cpus(), team.sabotaged());
    for number in 0..team.helpers() {
        let stage = Arc::clone(&stage);
        match number % 4 {
            2 => team.helper("who invalidates", move |random| {
                inside(&stage.map, || {
                    for _ in 0..8 {
                        wander(random, cpus)?;
                        invalidate(SPACE + random.below(PAGES) * PAGE_SIZE, PAGE_SIZE)?;
                    }
                    Ok(())
                })
            })?,
            _ => team.helper("who watches", move |random| stage.watch(random, cpus))?,
        }
    }
    team.lead(|random| {
        inside(&stage.map, || {
            for _ in 0..32 {
                changes.step(&stage, random, sabotaged)?;
            }
            Ok(())
        })
    })
}
