//! Frames that change hands: every member maps memory, sees that it is zero, signs every page, looks at its signatures again, and gives the
//! memory back, in this program's address space, in a vmspace that all share, and in vmspaces of its own.
//!
//! A frame that is given out while somebody can still reach it shows a foreign signature, or one that is where zeroes should
//! be. All members unmap all the time, so that every CPU interrupts every other.

use alloc::sync::Arc;
use dragonet_abi::Handle;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::{Advice, MapFlags, MapRequest, Protection, Vpte};
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, Problem, doing};
use dragonet_programs::torture::signature::Signature;
use dragonet_programs::torture::stage::run;
use dragonet_programs::torture::team::Team;
use dragonet_programs::vm::{Guest, Seen, code, fixed};
use dragonet_rt::window::Window;
use dragonet_rt::{syscall, thread};

const OWNER: u8 = 7;
/// Pages that a member has at most, and bytes of addresses for each member.
const PAGES: u64 = 24;
const REGION: u64 = 4 << 20;
/// Where the regions of members begin in a guest.
const SPACE: u64 = 21 << 30;
const READ_WRITE: Protection = Protection::READ.union(Protection::WRITE);
/// From the signature of a page to that of the next.
const NEXT_PAGE: u64 = Signature::new(0, 1, 0).0 - Signature::new(0, 0, 0).0;

/// New memory, private to a member.
fn anonymous(address: u64, pages: u64, random: &mut Random) -> MapRequest {
    let kind = if random.below(4) == 0 {
        MapFlags::SHARED
    } else {
        MapFlags::PRIVATE
    };
    MapRequest {
        flags: (kind | MapFlags::ANONYMOUS | MapFlags::FIXED).bits(),
        ..fixed(address, pages * PAGE_SIZE, READ_WRITE, Handle::NONE, 0)
    }
}

/// A member and what it was given.
struct Member {
    number: u64,
    generation: u32,
    window: Arc<Window>,
    guest: Arc<Guest>,
    /// Expects other signatures than it wrote.
    sabotaged: bool,
}

impl Member {
    fn step(&mut self, random: &mut Random) -> Outcome {
        self.generation += 1;
        let pages = 1 + random.below(PAGES);
        match random.below(4) {
            0 | 1 => self.here(pages, random),
            2 => self.in_guest(&Arc::clone(&self.guest), pages, random),
            _ => {
                let own = Guest::new().map_err(doing("making a guest"))?;
                self.in_guest(&own, pages, random)?;
                match random.below(2) {
                    0 => Ok(()),
                    _ => syscall::vmspace_destroy(own.into_vmspace())
                        .map_err(|(_, errno)| Problem::Refused("destroying a vmspace", errno)),
                }
            }
        }
    }

    const fn signature(&self, page: u64) -> Signature {
        Signature::new(OWNER, (self.number << 8 | page) as u16, self.generation)
    }

    /// The signature that is expected later.
    const fn expected(&self, page: u64) -> Signature {
        let signature = self.signature(page);
        if self.sabotaged {
            signature.next()
        } else {
            signature
        }
    }

    /// In this program's address space.
    fn here(&self, pages: u64, random: &mut Random) -> Outcome {
        let start = self.number * REGION + random.below(REGION / PAGE_SIZE - pages) * PAGE_SIZE;
        self.window
            .map(&anonymous(start, pages, random))
            .map_err(doing("mapping here"))?;
        let load = |page| {
            self.window
                .load(start + page * PAGE_SIZE)
                .map_err(doing("loading here"))
        };
        let sign = |page| {
            let seen = load(page)?;
            demand!(
                seen == 0,
                "new page {page} of member {} is not zero but has {}",
                self.number,
                Signature(seen)
            );
            let value = self.signature(page);
            self.window
                .store(start + page * PAGE_SIZE, value.0)
                .map_err(doing("storing here"))
        };
        for page in 0..pages {
            sign(page)?;
        }
        if random.below(8) == 0 {
            thread::yield_now();
        }
        if random.below(4) == 0 {
            // Private pages are forgotten; shared ones stay.
            let dropped = random.below(pages);
            let advised =
                self.window
                    .advise(start + dropped * PAGE_SIZE, PAGE_SIZE, Advice::DontNeed, Vpte(0));
            advised.map_err(doing("advising here"))?;
            if load(dropped)? == 0 {
                sign(dropped)?;
            }
        }
        for page in 0..pages {
            let (seen, expected) = (load(page)?, self.expected(page));
            demand!(
                seen == expected.0,
                "page {page} of member {} has {}, not {expected}",
                self.number,
                Signature(seen)
            );
        }
        // In one piece or in two.
        let first = random.below(pages);
        for (from, to) in [(0, first), (first, pages)] {
            if from < to {
                self.window
                    .unmap(start + from * PAGE_SIZE, (to - from) * PAGE_SIZE)
                    .map_err(doing("unmapping here"))?;
            }
        }
        Ok(())
    }

    /// In a vmspace.
    fn in_guest(&self, guest: &Guest, pages: u64, random: &mut Random) -> Outcome {
        let start = SPACE + self.number * REGION;
        guest
            .map(&anonymous(start, pages, random))
            .map_err(doing("mapping in a guest"))?;
        let first = self.signature(0).0;
        let expected = self.expected(0).0;
        for (registers, what) in [
            (code::check_pages(start, 0, 0, pages), "zeroes"),
            (code::store_pages(start, first, NEXT_PAGE, pages), "to be written"),
            (code::check_pages(start, expected, NEXT_PAGE, pages), "signatures"),
        ] {
            let state = run(guest.vmspace(), registers, random)?;
            let seen = Seen::of(&state);
            let rest = state.registers;
            demand!(
                matches!(seen, Seen::Value(_)),
                "member {}: of pages that are {what} a user saw {seen:?}",
                self.number
            );
            demand!(
                rest.rbx == 0,
                "member {}: page {} of those that are {what} has {}, not {}",
                self.number,
                pages - rest.rbx,
                Signature(rest.rax),
                Signature(rest.rsi)
            );
        }
        syscall::vmspace_munmap(guest.vmspace(), start, pages * PAGE_SIZE)
            .map_err(doing("unmapping in a guest"))
    }
}

pub fn play(team: &mut Team) -> Outcome {
    let members = team.helpers() + 1;
    let window = Arc::new(Window::new(members * REGION).map_err(doing("making a window"))?);
    let guest = Arc::new(Guest::new().map_err(doing("making a guest"))?);
    let sabotaged = team.sabotaged();
    let member = |number| Member {
        number,
        generation: 0,
        window: Arc::clone(&window),
        guest: Arc::clone(&guest),
        sabotaged,
    };
    for number in 1..members {
        let mut member = member(number);
        team.helper("who maps", move |random| member.step(random))?;
    }
    let mut leader = member(0);
    team.lead(|random| leader.step(random))
}
