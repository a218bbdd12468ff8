//! Harvesting dirty bits: the leader clears a dirty bit, invalidates, and copies what the entry maps, as a pager does, while others store
//! without pause. A page whose entry is clean must be what was copied last: dirty data is never missed.
//!
//! Users of two vmspaces and threads of this program store, each into a word of its own in every page. Most entries map a page,
//! one maps a large page.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::{Advice, MapFlags, MapRequest, Protection, Vpte};
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, Problem, doing};
use dragonet_programs::torture::signature::Signature;
use dragonet_programs::torture::stage::run;
use dragonet_programs::torture::team::Team;
use dragonet_programs::vm::{ALLOW, Guest, PageTable, Ram, Seen, code, fixed};
use dragonet_rt::window::Window;

const OWNER: u8 = 6;
/// Pages with entries of their own, then pages of one large page.
const SMALL: u64 = 8;
const PAGES: u64 = SMALL + 8;
/// Where the small pages are seen; the large page follows at the next multiple of its size. The table is indexed by address.
const SPACE: u64 = 19 << 30;
const LARGE: u64 = 2 << 20;
const LENGTH: u64 = 2 * LARGE;
/// The large page is the memory's second half.
const MEMORY: u64 = 2 * LARGE;

/// Where a page is seen, from the start of the mapping.
const fn offset(page: u64) -> u64 {
    if page < SMALL {
        page * PAGE_SIZE
    } else {
        LARGE + (page - SMALL) * PAGE_SIZE
    }
}

struct Stage {
    ram: Ram,
    table: PageTable,
    guests: Vec<Guest>,
    window: Window,
    /// Where pages are in the memory.
    places: Vec<u64>,
    /// What each helper stored last into each page.
    stored: Vec<Vec<AtomicU64>>,
}

impl Stage {
    fn new(helpers: u64) -> Outcome<Self> {
        let ram = Ram::new(MEMORY).map_err(doing("making the memory"))?;
        let table = PageTable::new(&ram).map_err(doing("making the table"))?;
        let mut places = Vec::new();
        for page in 0..SMALL {
            let place = ram.page().map_err(doing("taking a page"))?;
            table
                .map(&ram, SPACE + offset(page), place | ALLOW)
                .map_err(doing("setting an entry"))?;
            places.push(place);
        }
        places.extend((SMALL..PAGES).map(offset));
        table
            .entry(&ram, SPACE + LARGE, 2)
            .map_err(doing("finding an entry"))?
            .store(LARGE | ALLOW | Vpte::LARGE, Ordering::SeqCst);
        let mut guests = Vec::new();
        for _ in 0..2 {
            let guest = Guest::new().map_err(doing("making a guest"))?;
            guest
                .map_table(&ram, SPACE, LENGTH, SPACE, table.root())
                .map_err(doing("mapping the table"))?;
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
        let words = || (0..PAGES).map(|_| AtomicU64::new(0)).collect();
        Ok(Stage {
            ram,
            table,
            guests,
            window,
            places,
            stored: (0..helpers).map(|_| words()).collect(),
        })
    }

    /// The pages that one entry maps, the entry, and the bytes that it spans.
    fn unit(&self, number: u64) -> Outcome<(core::ops::Range<u64>, &AtomicU64, u64)> {
        let (pages, level, span) = if number < SMALL {
            (number..number + 1, 1, PAGE_SIZE)
        } else {
            (SMALL..PAGES, 2, LARGE)
        };
        let entry = self.table.entry(&self.ram, SPACE + offset(pages.start), level);
        Ok((pages, entry.map_err(doing("finding an entry"))?, span))
    }

    /// The helpers' words of a page, as they are in the memory.
    fn contents(&self, page: u64) -> Outcome<Vec<u64>> {
        let words = 0..self.stored.len() as u64;
        words
            .map(|word| self.ram.load(self.places[page as usize] + 8 * word))
            .collect::<Result<_, _>>()
            .map_err(doing("copying a page"))
    }

    fn invalidate(&self, offset: u64, length: u64) -> Outcome {
        let here = self.window.advise(offset, length, Advice::Invalidate, Vpte(0));
        here.map_err(doing("invalidating here"))?;
        for guest in &self.guests {
            let there = guest.invalidate(SPACE + offset, length);
            there.map_err(doing("invalidating a guest"))?;
        }
        Ok(())
    }

    /// Clears a dirty bit and copies what it stands for, or sees that a clean page is what was copied last.
    fn harvest(&self, copies: &mut [Vec<u64>], random: &mut Random, sabotaged: bool) -> Outcome {
        let (pages, entry, span) = self.unit(random.below(SMALL + 1))?;
        let accessed = if random.below(2) == 0 { Vpte::ACCESSED } else { 0 };
        if entry.fetch_and(!(Vpte::DIRTY | accessed), Ordering::SeqCst) & Vpte::DIRTY != 0 {
            if !sabotaged {
                self.invalidate(offset(pages.start), span)?;
            }
            for page in pages {
                copies[page as usize] = self.contents(page)?;
            }
            return Ok(());
        }
        self.compare(copies, pages, entry)
    }

    fn compare(&self, copies: &[Vec<u64>], pages: core::ops::Range<u64>, entry: &AtomicU64) -> Outcome {
        for page in pages {
            let contents = self.contents(page)?;
            // Dirty by now: what was stored since may be part of the contents, or not.
            if entry.load(Ordering::SeqCst) & Vpte::DIRTY != 0 {
                return Ok(());
            }
            let copied = &copies[page as usize];
            let different = contents.iter().zip(copied).find(|(now, then)| now != then);
            if let Some((now, then)) = different {
                demand!(
                    false,
                    "page {page} is clean but has {}, when it was harvested it had {}",
                    Signature(*now),
                    Signature(*then)
                );
            }
        }
        Ok(())
    }

    /// Stores the next number into some pages, as a user or as this program.
    fn store(&self, member: u64, number: u32, random: &mut Random) -> Outcome {
        let value = Signature::new(OWNER, member as u16, number);
        // One run of pages that lie side by side.
        let start = if random.below(4) == 0 { SMALL } else { 0 };
        let end = if start == 0 { SMALL } else { PAGES };
        let first = start + random.below(end - start);
        let count = 1 + random.below(end - first);
        let at = offset(first) + 8 * member;
        if member % 3 == 1 {
            for page in 0..count {
                let place = at + page * PAGE_SIZE;
                self.window.store(place, value.0).map_err(doing("storing here"))?;
            }
        } else {
            let guest = &self.guests[random.below(self.guests.len() as u64) as usize];
            let registers = code::store_pages(SPACE + at, value.0, 0, count);
            let state = run(guest.vmspace(), registers, random)?;
            match Seen::of(&state) {
                Seen::Value(_) => {}
                other => {
                    return Err(Problem::Wrong(alloc::format!(
                        "all stores are allowed, but a user saw {other:?}"
                    )));
                }
            }
        }
        for page in first..first + count {
            self.stored[member as usize][page as usize].store(value.0, Ordering::SeqCst);
        }
        Ok(())
    }

    /// When nobody stores any more: clean pages are what was copied, and all pages have what was stored last.
    fn verify(&self, copies: &[Vec<u64>]) -> Outcome {
        for number in 0..=SMALL {
            let (pages, entry, _) = self.unit(number)?;
            self.compare(copies, pages, entry)?;
        }
        for page in 0..PAGES {
            for (member, seen) in self.contents(page)?.into_iter().enumerate() {
                let expected = self.stored[member][page as usize].load(Ordering::SeqCst);
                demand!(
                    seen == expected,
                    "page {page} has {}, but the last that was stored is {}",
                    Signature(seen),
                    Signature(expected)
                );
            }
        }
        Ok(())
    }
}

pub fn play(team: &mut Team) -> Outcome {
    let stage = Arc::new(Stage::new(team.helpers())?);
    for member in 0..team.helpers() {
        let stage = Arc::clone(&stage);
        let mut number = 0;
        team.helper("who stores", move |random| {
            number += 1;
            stage.store(member, number, random)
        })?;
    }
    let mut copies = vec![vec![0; stage.stored.len()]; PAGES as usize];
    let sabotaged = team.sabotaged();
    team.lead(|random| stage.harvest(&mut copies, random, sabotaged))?;
    team.finish();
    stage.verify(&copies)
}
