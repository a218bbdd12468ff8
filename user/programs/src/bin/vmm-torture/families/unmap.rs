//! The process takes memory away while its guests use it, from threads in and out of guest mode: when the call has returned, no store of a
//! user lands any more, no load shows what was there before, and the faults come where and only where a page was gone.
//!
//! Stores: of a page the leader takes the mapping or the right to write, puts a canary into the object and watches it. Loads: each page
//! shows a word that only grows; the next value is written to another page of the object, which replaces the old one.

use crate::guest_mode::{inside, wander};
use crate::users::{READ, Space, Text, run_program};
use alloc::sync::Arc;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::{Advice, Protection, Vpte};
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, doing};
use dragonet_programs::torture::signature::Signature;
use dragonet_programs::torture::stage::{Holes, Limits, Sight, run_with};
use dragonet_programs::torture::team::Team;
use dragonet_programs::vm::{ALLOW, Ram, Seen, code, fixed};
use dragonet_rt::guest::IdentityMap;
use dragonet_rt::thread;
use dragonet_rt::window::Window;

const OWNER: u8 = 3;
const CANARY: u64 = 0xca_0a41;
/// Pages that are stored to; behind them as many that are loaded from.
const PAGES: u64 = 4;
const LENGTH: u64 = 2 * PAGES * PAGE_SIZE;
/// Where users have them.
const SPACE: u64 = 9 << 40;
/// Pages of the object that one page for loads shows in turn.
const TURNS: u64 = 4;
const READ_WRITE: Protection = Protection::READ.union(Protection::WRITE);
/// Page-fault error code: write, user, reserved bit, by which the kernel tells that guest-physical memory is not there.
const STORE: u64 = 2 | 4 | 8;

struct Stage {
    map: IdentityMap,
    limits: Limits,
    space: Space,
    _text: Text,
    window: Window,
    object: Ram,
    /// One for each page that is stored to.
    holes: [Holes; PAGES as usize],
}

impl Stage {
    fn new() -> Outcome<Self> {
        let stage = Stage {
            map: IdentityMap::new().map_err(doing("making the identity map"))?,
            limits: Limits::new()?,
            space: Space::new(32)?,
            _text: Text::of_programs()?,
            window: Window::for_guest_mode(LENGTH).map_err(doing("making a window"))?,
            object: Ram::new((PAGES + PAGES * TURNS) * PAGE_SIZE).map_err(doing("making the object"))?,
            holes: Default::default(),
        };
        stage.space.map_programs(&stage._text)?;
        stage.space.map(Limits::ADDRESS, stage.limits.address() | READ)?;
        stage
            .space
            .map_pages(SPACE, stage.window.address(), 2 * PAGES, ALLOW)?;
        for page in 0..PAGES {
            stage.show(page, page)?;
        }
        Ok(stage)
    }

    /// Shows a page of the object in the window, in place of what is there.
    fn show(&self, page: u64, of_object: u64) -> Outcome {
        let object = self.object.object();
        let request = fixed(
            page * PAGE_SIZE,
            PAGE_SIZE,
            READ_WRITE,
            object,
            of_object * PAGE_SIZE,
        );
        self.window.map(&request).map_err(doing("mapping a page"))
    }

    /// Takes a page away, sees to it that no store lands any more, and gives it back.
    fn take(&self, random: &mut Random, sabotaged: bool) -> Outcome {
        let page = random.below(PAGES);
        let offset = page * PAGE_SIZE;
        self.holes[page as usize].open();
        let how = random.below(3);
        if !sabotaged {
            match how {
                0 => self.window.unmap(offset, PAGE_SIZE).map_err(doing("unmapping"))?,
                1 => self
                    .window
                    .protect(offset, PAGE_SIZE, Protection::READ)
                    .map_err(doing("making read-only"))?,
                _ => self
                    .window
                    .protect(offset, PAGE_SIZE, Protection::empty())
                    .map_err(doing("protecting"))?,
            }
        }
        self.object
            .store(offset, CANARY)
            .map_err(doing("setting a canary"))?;
        for _ in 0..random.below(1000) {
            let seen = self.object.load(offset).map_err(doing("watching a canary"))?;
            demand!(
                seen == CANARY,
                "page {page} was taken away (way {how}), then written: {}",
                Signature(seen)
            );
        }
        match how {
            0 => self.show(page, page)?,
            _ => self
                .window
                .protect(offset, PAGE_SIZE, READ_WRITE)
                .map_err(doing("allowing stores"))?,
        }
        self.holes[page as usize].close();
        Ok(())
    }

    /// A user that stores numbers into a page until it is done or the page is gone.
    fn store(&self, random: &mut Random) -> Outcome {
        let page = random.below(PAGES);
        let address = SPACE + page * PAGE_SIZE;
        let stamp = self.holes[page as usize].stamp();
        let first = Signature::new(OWNER, page as u16, 0).0;
        let program = code::store_often(address, first, 1 + random.below(2000));
        let run = |registers, timeout| run_program(self.space.root(), registers, timeout);
        let state = run_with(run, program, random)?;
        match Seen::of(&state) {
            Seen::Value(_) => Ok(()),
            Seen::Fault {
                error_code,
                address: at,
            } => {
                demand!(
                    at == address && error_code & !1 == STORE,
                    "a user that stores to {address:#x} had a fault at {at:#x} with error code {error_code:#x}"
                );
                demand!(
                    self.holes[page as usize].excuse(stamp),
                    "page {page} was there all the time, but a user had a fault with error code {error_code:#x}"
                );
                Ok(())
            }
            other @ Seen::Other(..) => {
                demand!(false, "a storing user saw {other:?}");
                Ok(())
            }
        }
    }

    /// A user that watches a word.
    fn watch(&self, random: &mut Random) -> Outcome {
        let page = random.below(PAGES);
        let address = SPACE + (PAGES + page) * PAGE_SIZE;
        let run = |registers, timeout| run_program(self.space.root(), registers, timeout);
        let sight = self.limits.watch_with(run, address, page, random)?;
        demand!(
            sight == Sight::Fine,
            "page {page} is always there, but a user saw {sight:?}"
        );
        Ok(())
    }

    fn use_it(&self, random: &mut Random, cpus: u64) -> Outcome {
        inside(&self.map, || {
            for _ in 0..16 {
                wander(random, cpus)?;
                match random.below(2) {
                    0 => self.store(random)?,
                    _ => self.watch(random)?,
                }
            }
            Ok(())
        })
    }
}

/// What the leader knows of the words that grow.
struct Words([Signature; PAGES as usize]);

impl Words {
    fn new(stage: &Stage) -> Outcome<Self> {
        let mut words = Words(core::array::from_fn(|page| Signature::new(OWNER, page as u16, 0)));
        for page in 0..PAGES {
            words.replace(stage, page, false)?;
        }
        Ok(words)
    }

    /// Shows a page's next value.
    fn replace(&mut self, stage: &Stage, page: u64, sabotaged: bool) -> Outcome {
        let value = self.0[page as usize].next();
        self.0[page as usize] = value;
        stage.limits.announce(page, value)?;
        let place = PAGES + page * TURNS + value.0 % TURNS;
        stage
            .object
            .store(place * PAGE_SIZE, value.0)
            .map_err(doing("writing a value"))?;
        if !sabotaged {
            stage.show(PAGES + page, place)?;
        }
        stage.limits.publish(page, value)
    }

    fn step(&mut self, stage: &Stage, random: &mut Random, sabotaged: bool) -> Outcome {
        match random.below(4) {
            0 => stage.take(random, sabotaged),
            1 => {
                // Costs the guests their translations, and nothing else.
                stage
                    .window
                    .advise(0, LENGTH, Advice::WillNeed, Vpte(0))
                    .map_err(doing("advising"))
            }
            _ => self.replace(stage, random.below(PAGES), sabotaged),
        }
    }
}

pub fn play(team: &mut Team) -> Outcome {
    let stage = Arc::new(Stage::new()?);
    let mut words = Words::new(&stage)?;
    let (cpus, sabotaged) = (team.cpus(), team.sabotaged());
    for _ in 0..team.helpers() {
        let stage = Arc::clone(&stage);
        team.helper("who uses it", move |random| stage.use_it(random, cpus))?;
    }
    team.lead(|random| {
        let count = 1 + random.below(16);
        if random.below(2) == 0 {
            for _ in 0..count {
                words.step(&stage, random, sabotaged)?;
            }
            thread::yield_now();
            return Ok(());
        }
        inside(&stage.map, || {
            for _ in 0..count {
                words.step(&stage, random, sabotaged)?;
            }
            Ok(())
        })
    })
}
