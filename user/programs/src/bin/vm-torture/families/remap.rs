//! Other memory at the same address, at once: translations of what was there before must be gone (DragonFly BSD, commit c50e690bc7).
//!
//! Each page shows a word that only grows. The next value is written to a new object, which replaces the old one in every vmspace, in
//! one step or with a hole in between; the old one is freed, and its frame is soon somebody else's.

use alloc::sync::Arc;
use alloc::vec::Vec;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::{MapFlags, MapRequest, Protection};
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, doing};
use dragonet_programs::torture::signature::Signature;
use dragonet_programs::torture::stage::{Holes, Limits, Sight};
use dragonet_programs::torture::team::Team;
use dragonet_programs::vm::{Guest, fixed};
use dragonet_rt::memory::Mapping;
use dragonet_rt::syscall;
use dragonet_rt::window::Window;

const OWNER: u8 = 3;
const PAGES: u64 = 4;
/// Where guests have the pages.
const SPACE: u64 = 7 << 30;
const READ_WRITE: Protection = Protection::READ.union(Protection::WRITE);

struct Stage {
    limits: Limits,
    guests: Vec<Guest>,
    window: Window,
    holes: Holes,
}

impl Stage {
    fn new() -> Outcome<Self> {
        let limits = Limits::new()?;
        let mut guests = Vec::new();
        for _ in 0..2 {
            let guest = Guest::new().map_err(doing("making a guest"))?;
            limits.show_to(&guest)?;
            guests.push(guest);
        }
        Ok(Stage {
            limits,
            guests,
            window: Window::new(PAGES * PAGE_SIZE).map_err(doing("making a window"))?,
            holes: Holes::default(),
        })
    }

    /// Shows a page's value everywhere, in place of what was there.
    fn show(&self, page: u64, value: Signature, random: &mut Random, sabotaged: bool) -> Outcome {
        self.limits.announce(page, value)?;
        // Of several pages the value is in one.
        let pages = 1 + random.below(3);
        let offset = random.below(pages) * PAGE_SIZE;
        let object = syscall::object_create(pages * PAGE_SIZE).map_err(doing("making an object"))?;
        Mapping::of_object(object.get(), offset, PAGE_SIZE, READ_WRITE)
            .and_then(|mapping| mapping.write(0, &value.0.to_le_bytes()))
            .map_err(doing("writing a value"))?;
        // What nobody writes to can be shown as a private mapping as well.
        let kind = match random.below(3) {
            0 => MapFlags::PRIVATE,
            _ => MapFlags::SHARED,
        };
        let request = |address| MapRequest {
            flags: (kind | MapFlags::FIXED).bits(),
            ..fixed(address, PAGE_SIZE, READ_WRITE, object.get(), offset)
        };
        self.window
            .map(&request(page * PAGE_SIZE))
            .map_err(doing("mapping here"))?;
        let address = SPACE + page * PAGE_SIZE;
        for (number, guest) in self.guests.iter().enumerate() {
            if sabotaged && number == 0 {
                continue;
            }
            if random.below(3) == 0 {
                self.holes.open();
                syscall::vmspace_munmap(guest.vmspace(), address, PAGE_SIZE).map_err(doing("unmapping"))?;
                guest.map(&request(address)).map_err(doing("mapping"))?;
                self.holes.close();
            } else {
                guest.map(&request(address)).map_err(doing("replacing"))?;
            }
        }
        self.limits.publish(page, value)
    }

    fn watch(&self, random: &mut Random) -> Outcome {
        let guest = &self.guests[random.below(self.guests.len() as u64) as usize];
        let page = random.below(PAGES);
        let stamp = self.holes.stamp();
        match self
            .limits
            .watch(guest.vmspace(), SPACE + page * PAGE_SIZE, page, random)?
        {
            Sight::Fine => {}
            Sight::Fault(code) => {
                demand!(
                    self.holes.excuse(stamp),
                    "page {page} was there, but a user faulted with error code {code:#x}"
                );
                demand!(code == 4, "a fault in a hole has error code {code:#x}, not 4");
            }
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

pub fn play(team: &mut Team) -> Outcome {
    let stage = Arc::new(Stage::new()?);
    let mut current: [Signature; PAGES as usize] =
        core::array::from_fn(|page| Signature::new(OWNER, page as u16, 0));
    for page in 0..PAGES {
        stage.show(page, current[page as usize], team.random(), false)?;
    }
    for number in 0..team.helpers() {
        let stage = Arc::clone(&stage);
        if number % 3 == 1 {
            team.helper("who looks", move |random| stage.look_here(random))?;
        } else {
            team.helper("who watches", move |random| stage.watch(random))?;
        }
    }
    let sabotaged = team.sabotaged();
    team.lead(|random| {
        let page = random.below(PAGES);
        let value = current[page as usize].next();
        current[page as usize] = value;
        stage.show(page, value, random, sabotaged)
    })
}
