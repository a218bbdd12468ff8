//! Walks against invalidations: entries of a virtual page table are changed while users of several vmspaces and threads of this
//! program follow them. A walk that began before an invalidation must not enter its result after it (DragonFly BSD, commit fc531fbc3f).
//!
//! Each page shows a word that only grows: the next value is written to another page of the memory, the entry set to it, the entry
//! invalidated, the value published. Now and then the whole table moves, and the old one is filled with poison, in which
//! no walk may leave a mark. A helper invalidates at random beside the leader, so that two invalidations of one page meet.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::{Advice, MapFlags, MapRequest, Protection, Vpte};
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, doing};
use dragonet_programs::torture::signature::Signature;
use dragonet_programs::torture::stage::{Limits, Sight};
use dragonet_programs::torture::team::Team;
use dragonet_programs::vm::{ALLOW, Guest, PageTable, Ram, fixed};
use dragonet_rt::syscall;
use dragonet_rt::window::Window;

const OWNER: u8 = 1;
/// What no one may ever see.
const POISON: Signature = Signature::new(0xff, 0, 0);
const PAGES: u64 = 8;
/// Pages of the memory that one page of the mapping shows in turn.
const TURNS: u64 = 4;
/// Where guests have the mapping; the table is indexed by address.
const SPACE: u64 = 3 << 30;
/// Bytes that a table of entries spans, and of the mapping.
const LENGTH: u64 = 2 << 20;
const MEMORY: u64 = 256 * PAGE_SIZE;

struct Stage {
    limits: Limits,
    ram: Ram,
    table: PageTable,
    guests: Vec<Guest>,
    window: Window,
}

impl Stage {
    fn new() -> Outcome<Self> {
        let limits = Limits::new()?;
        let ram = Ram::new(MEMORY).map_err(doing("making the memory"))?;
        let table = PageTable::new(&ram).map_err(doing("making the table"))?;
        let mut guests = Vec::new();
        for _ in 0..2 {
            let guest = Guest::new().map_err(doing("making a guest"))?;
            guest
                .map_table(&ram, SPACE, LENGTH, SPACE, table.root())
                .map_err(doing("mapping the table"))?;
            limits.show_to(&guest)?;
            guests.push(guest);
        }
        let window = Window::new(LENGTH).map_err(doing("making a window"))?;
        let protection = Protection::READ | Protection::WRITE;
        let request = MapRequest {
            flags: (MapFlags::SHARED | MapFlags::VPAGETABLE).bits(),
            ..fixed(0, LENGTH, protection, ram.object(), SPACE)
        };
        window.map(&request).map_err(doing("mapping the table here"))?;
        window
            .advise(0, LENGTH, Advice::SetMap, table.root())
            .map_err(doing("setting the root here"))?;
        Ok(Stage {
            limits,
            ram,
            table,
            guests,
            window,
        })
    }

    /// Makes changes in a range of the mapping visible in every vmspace.
    fn invalidate(&self, offset: u64, length: u64, sabotaged: bool) -> Outcome {
        self.window
            .advise(offset, length, Advice::Invalidate, Vpte(0))
            .map_err(doing("invalidating here"))?;
        for guest in &self.guests {
            if !sabotaged {
                guest
                    .invalidate(SPACE + offset, length)
                    .map_err(doing("invalidating a guest"))?;
            }
        }
        Ok(())
    }

    fn watch_guest(&self, random: &mut Random) -> Outcome {
        let guest = &self.guests[random.below(self.guests.len() as u64) as usize];
        let page = random.below(PAGES);
        let sight = self
            .limits
            .watch(guest.vmspace(), SPACE + page * PAGE_SIZE, page, random)?;
        demand!(
            sight == Sight::Fine,
            "page {page} is always there, but a user saw {sight:?}"
        );
        Ok(())
    }

    /// The kernel walks for a vmspace that this CPU does not run, so that no interrupt tells it of invalidations.
    fn read_guest(&self, random: &mut Random) -> Outcome {
        for _ in 0..50 {
            let guest = &self.guests[random.below(self.guests.len() as u64) as usize];
            let page = random.below(PAGES);
            let address = SPACE + page * PAGE_SIZE;
            let load = || {
                let mut bytes = [0; 8];
                syscall::vmspace_pread(guest.vmspace(), &mut bytes, address)
                    .map_err(doing("reading a guest"))?;
                Ok(u64::from_le_bytes(bytes))
            };
            self.limits.look(page, address, load)?;
        }
        Ok(())
    }

    fn look_here(&self, random: &mut Random) -> Outcome {
        for _ in 0..500 {
            let page = random.below(PAGES);
            let offset = page * PAGE_SIZE;
            let load = || self.window.load(offset).map_err(doing("loading here"));
            self.limits.look(page, self.window.address() + offset, load)?;
        }
        Ok(())
    }
}

/// What the leader knows.
struct Changes {
    current: [Signature; PAGES as usize],
    /// Where the values are, by page and turn.
    backing: Vec<u64>,
    /// The other table of entries, not in use.
    spare: u64,
    poison: u64,
}

impl Changes {
    fn new(stage: &Stage) -> Outcome<Self> {
        let page = || stage.ram.page().map_err(doing("taking a page"));
        let mut changes = Changes {
            current: core::array::from_fn(|page| Signature::new(OWNER, page as u16, 0)),
            backing: (0..PAGES * TURNS).map(|_| page()).collect::<Outcome<_>>()?,
            spare: page()?,
            poison: page()?,
        };
        stage
            .ram
            .store(changes.poison, POISON.0)
            .map_err(doing("poisoning"))?;
        for number in 0..PAGES {
            changes.show_next(stage, number)?;
            stage.limits.publish(number, changes.current[number as usize])?;
        }
        Ok(changes)
    }

    /// Announces a page's next value and sets the entry to where it is.
    fn show_next(&mut self, stage: &Stage, page: u64) -> Outcome {
        let value = self.current[page as usize].next();
        self.current[page as usize] = value;
        stage.limits.announce(page, value)?;
        let place = self.backing[(page * TURNS + value.0 % TURNS) as usize];
        stage
            .ram
            .store(place, value.0)
            .map_err(doing("writing a value"))?;
        stage
            .table
            .map(&stage.ram, SPACE + page * PAGE_SIZE, place | ALLOW)
            .map_err(doing("setting an entry"))
    }

    /// Moves all entries to the other table.
    fn move_table(&mut self, stage: &Stage, sabotaged: bool) -> Outcome {
        let directory = stage
            .table
            .entry(&stage.ram, SPACE, 2)
            .map_err(doing("finding the directory"))?;
        let old = Vpte(directory.load(Ordering::SeqCst)).offset();
        let word = |offset| stage.ram.word(offset).map_err(doing("finding an entry"));
        for index in 0..PAGES {
            // Nobody can have walked the table since it was filled with poison.
            let poison = word(self.spare + 8 * index)?.load(Ordering::SeqCst);
            demand!(
                poison == 0 || poison == self.poison | ALLOW,
                "entry {index} of a table that was taken away became {poison:#x}"
            );
            let entry = word(old + 8 * index)?.load(Ordering::SeqCst);
            word(self.spare + 8 * index)?.store(entry & !(Vpte::ACCESSED | Vpte::DIRTY), Ordering::SeqCst);
        }
        directory.store(self.spare | ALLOW, Ordering::SeqCst);
        stage.invalidate(0, LENGTH, sabotaged)?;
        for index in 0..PAGES {
            word(old + 8 * index)?.store(self.poison | ALLOW, Ordering::SeqCst);
        }
        self.spare = old;
        Ok(())
    }

    fn step(&mut self, stage: &Stage, random: &mut Random, sabotaged: bool) -> Outcome {
        if random.below(8) == 0 {
            return self.move_table(stage, sabotaged);
        }
        let first = random.below(PAGES);
        let last = match random.below(4) {
            0 => PAGES - 1,
            _ => first,
        };
        for page in first..=last {
            self.show_next(stage, page)?;
        }
        stage.invalidate(first * PAGE_SIZE, (last + 1 - first) * PAGE_SIZE, sabotaged)?;
        for page in first..=last {
            stage.limits.publish(page, self.current[page as usize])?;
        }
        Ok(())
    }
}

pub fn play(team: &mut Team) -> Outcome {
    let stage = Arc::new(Stage::new()?);
    let mut changes = Changes::new(&stage)?;
    for number in 0..team.helpers() {
        let stage = Arc::clone(&stage);
        match number % 5 {
            0 => team.helper("who reads", move |random| stage.read_guest(random))?,
            1 => team.helper("who looks", move |random| stage.look_here(random))?,
            3 => team.helper("who invalidates", move |random| {
                let (page, pages) = (random.below(PAGES), 1 + random.below(LENGTH / PAGE_SIZE - PAGES));
                stage.invalidate(page * PAGE_SIZE, pages * PAGE_SIZE, false)
            })?,
            _ => team.helper("who watches", move |random| stage.watch_guest(random))?,
        }
    }
    let sabotaged = team.sabotaged();
    team.lead(|random| changes.step(&stage, random, sabotaged))
}
