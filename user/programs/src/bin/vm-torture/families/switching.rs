//! From one address space to another and back, on every CPU: three vmspaces have different patterns at the same addresses, and every user
//! must see its own. A wrong one is a translation of another address space (the bug of 2013-08-10: a stale CR3).
//!
//! Meanwhile the leader gives one vmspace after the other new frames with the same pattern, so that they must be flushed while they
//! are being switched. The third has its pages through a virtual page table.

use alloc::sync::Arc;
use alloc::vec::Vec;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::Protection;
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, doing};
use dragonet_programs::torture::signature::Signature;
use dragonet_programs::torture::stage::run;
use dragonet_programs::torture::team::Team;
use dragonet_programs::vm::{ALLOW, Guest, PageTable, Ram, Seen, code, fixed};

/// Owner of the first vmspace's pattern.
const OWNER: u8 = 0x10;
const PAGES: u64 = 32;
const SPACE: u64 = 23 << 30;
const LENGTH: u64 = PAGES * PAGE_SIZE;
const READ_WRITE: Protection = Protection::READ.union(Protection::WRITE);
const NEXT_PAGE: u64 = Signature::new(0, 1, 0).0 - Signature::new(0, 0, 0).0;

/// A vmspace whose memory has its pattern twice.
struct Space {
    ram: Ram,
    guest: Guest,
    table: Option<PageTable>,
    first: Signature,
}

impl Space {
    /// `shown` is the number of the pattern that the memory has; it should be `number`.
    fn new(number: u8, shown: u8) -> Outcome<Self> {
        let ram = Ram::new(4 * LENGTH).map_err(doing("making the memory"))?;
        ram.allocate_from(2 * LENGTH);
        for page in 0..2 * PAGES {
            let value = Signature::new(OWNER + shown, (page % PAGES) as u16, 0);
            ram.store(page * PAGE_SIZE, value.0)
                .map_err(doing("writing the pattern"))?;
        }
        let mut space = Space {
            ram,
            guest: Guest::new().map_err(doing("making a guest"))?,
            table: None,
            first: Signature::new(OWNER + number, 0, 0),
        };
        if number == 2 {
            let table = PageTable::new(&space.ram).map_err(doing("making the table"))?;
            space
                .guest
                .map_table(&space.ram, SPACE, LENGTH, SPACE, table.root())
                .map_err(doing("mapping the table"))?;
            space.table = Some(table);
        }
        space.show(0, PAGES, 0)?;
        Ok(space)
    }

    /// Shows pages from one of the two places of the pattern.
    fn show(&self, page: u64, pages: u64, place: u64) -> Outcome {
        let (address, offset) = (SPACE + page * PAGE_SIZE, place * LENGTH + page * PAGE_SIZE);
        let Some(table) = self.table else {
            let request = fixed(address, pages * PAGE_SIZE, READ_WRITE, self.ram.object(), offset);
            return self.guest.map(&request).map_err(doing("replacing pages"));
        };
        for number in 0..pages {
            let at = number * PAGE_SIZE;
            table
                .map(&self.ram, address + at, offset + at | ALLOW)
                .map_err(doing("setting an entry"))?;
        }
        self.guest
            .invalidate(address, pages * PAGE_SIZE)
            .map_err(doing("invalidating"))
    }

    fn check(&self, random: &mut Random) -> Outcome {
        let page = random.below(PAGES);
        let pages = 1 + random.below(PAGES - page);
        let first = self.first.0 + page * NEXT_PAGE;
        let registers = code::check_pages(SPACE + page * PAGE_SIZE, first, NEXT_PAGE, pages);
        let state = run(self.guest.vmspace(), registers, random)?;
        let (seen, rest) = (Seen::of(&state), state.registers);
        demand!(
            matches!(seen, Seen::Value(_)),
            "all pages are there, but a user saw {seen:?}"
        );
        demand!(
            rest.rbx == 0,
            "at {:#x} a user saw {} in place of {}",
            rest.rdi,
            Signature(rest.rax),
            Signature(rest.rsi)
        );
        Ok(())
    }
}

pub fn play(team: &mut Team) -> Outcome {
    // With sabotage the second has the pattern of the first.
    let second = u8::from(!team.sabotaged());
    let spaces = [Space::new(0, 0)?, Space::new(1, second)?, Space::new(2, 2)?];
    let spaces: Arc<Vec<Space>> = Arc::new(spaces.into());
    for _ in 0..team.helpers() {
        let spaces = Arc::clone(&spaces);
        team.helper("who switches", move |random| {
            for _ in 0..8 {
                spaces[random.below(spaces.len() as u64) as usize].check(random)?;
            }
            Ok(())
        })?;
    }
    team.lead(|random| {
        let space = &spaces[random.below(spaces.len() as u64) as usize];
        let page = random.below(PAGES);
        space.show(page, 1 + random.below(PAGES - page), random.below(2))
    })
}
