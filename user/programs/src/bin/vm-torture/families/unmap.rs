//! Stores after an unmapping: users store without pause; when the unmapping has returned, none of their stores may land.
//!
//! Of a shared page the leader unmaps all views, writes a canary into the object and watches it. Of private memory it takes the frames
//! back by unmapping, so that its own next memory may be made of them, and watches canaries there.

use alloc::sync::Arc;
use alloc::vec::Vec;
use dragonet_abi::Handle;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::{MapFlags, MapRequest, Protection};
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, doing};
use dragonet_programs::torture::signature::Signature;
use dragonet_programs::torture::stage::{Holes, run};
use dragonet_programs::torture::team::Team;
use dragonet_programs::vm::{Guest, Ram, Seen, code, fixed};
use dragonet_rt::memory::Mapping;
use dragonet_rt::{syscall, thread};

const OWNER: u8 = 4;
const CANARY: u64 = 0xca_0a41;
const PAGES: u64 = 4;
/// Where guests have the shared pages and, behind them, private ones.
const SHARED: u64 = 9 << 30;
const PRIVATE: u64 = 11 << 30;
/// Pages that the leader takes to find the frames again.
const CATCH: u64 = 8;
const READ_WRITE: Protection = Protection::READ.union(Protection::WRITE);

struct Stage {
    ram: Ram,
    guests: Vec<Guest>,
    holes: Holes,
}

/// What is unmapped and mapped again.
#[derive(Clone, Copy)]
enum Target {
    Shared(u64),
    Private(u64),
}

impl Target {
    fn random(random: &mut Random) -> Self {
        let page = random.below(PAGES);
        match random.below(2) {
            0 => Target::Shared(page),
            _ => Target::Private(page),
        }
    }

    const fn address(self) -> u64 {
        match self {
            Target::Shared(page) => SHARED + page * PAGE_SIZE,
            Target::Private(page) => PRIVATE + page * PAGE_SIZE,
        }
    }
}

impl Stage {
    fn new() -> Outcome<Self> {
        let stage = Stage {
            ram: Ram::new(PAGES * PAGE_SIZE).map_err(doing("making the memory"))?,
            guests: (0..2)
                .map(|_| Guest::new().map_err(doing("making a guest")))
                .collect::<Outcome<_>>()?,
            holes: Holes::default(),
        };
        for page in 0..PAGES {
            stage.map(Target::Shared(page))?;
            stage.map(Target::Private(page))?;
        }
        Ok(stage)
    }

    fn map(&self, target: Target) -> Outcome {
        let request = match target {
            Target::Shared(page) => fixed(
                target.address(),
                PAGE_SIZE,
                READ_WRITE,
                self.ram.object(),
                page * PAGE_SIZE,
            ),
            Target::Private(_) => MapRequest {
                flags: (MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED).bits(),
                ..fixed(target.address(), PAGE_SIZE, READ_WRITE, Handle::NONE, 0)
            },
        };
        for guest in &self.guests {
            guest.map(&request).map_err(doing("mapping a page"))?;
        }
        Ok(())
    }

    fn unmap(&self, target: Target) -> Outcome {
        for guest in &self.guests {
            syscall::vmspace_munmap(guest.vmspace(), target.address(), PAGE_SIZE)
                .map_err(doing("unmapping a page"))?;
        }
        Ok(())
    }

    /// Unmaps a page, sees to it that no store lands any more, and maps it again.
    fn take(&self, random: &mut Random, sabotaged: bool) -> Outcome {
        let target = Target::random(random);
        self.holes.open();
        if !sabotaged {
            self.unmap(target)?;
        }
        match target {
            Target::Shared(page) => {
                let place = page * PAGE_SIZE;
                self.ram.store(place, CANARY).map_err(doing("setting a canary"))?;
                for _ in 0..random.below(2000) {
                    let seen = self.ram.load(place).map_err(doing("watching a canary"))?;
                    demand!(
                        seen == CANARY,
                        "page {page} was unmapped, then written: {}",
                        Signature(seen)
                    );
                }
                pause(random);
                let seen = self.ram.load(place).map_err(doing("watching a canary"))?;
                demand!(
                    seen == CANARY,
                    "page {page} was unmapped, then written: {}",
                    Signature(seen)
                );
            }
            Target::Private(page) => catch(page, random)?,
        }
        self.map(target)?;
        self.holes.close();
        Ok(())
    }

    /// A user that stores numbers into a page until it is done or the page is gone.
    fn store(&self, member: u64, random: &mut Random) -> Outcome {
        let guest = &self.guests[random.below(self.guests.len() as u64) as usize];
        let target = Target::random(random);
        let stamp = self.holes.stamp();
        let first = Signature::new(OWNER, member as u16, 0).0;
        let registers = code::store_often(target.address(), first, 1 + random.below(5000));
        let state = run(guest.vmspace(), registers, random)?;
        match Seen::of(&state) {
            Seen::Value(_) => Ok(()),
            Seen::Fault { error_code, address } => {
                demand!(
                    self.holes.excuse(stamp) && address == target.address() && error_code == 6,
                    "a store to {:#x}, which was there, gave error code {error_code:#x} at {address:#x}",
                    target.address()
                );
                thread::yield_now();
                Ok(())
            }
            other => Err(dragonet_programs::torture::problem::Problem::Wrong(
                alloc::format!("a storing user saw {other:?}"),
            )),
        }
    }
}

/// Takes memory, which may be made of the frames that were given back, and sees that nobody else writes to it.
fn catch(page: u64, random: &mut Random) -> Outcome {
    let memory = Mapping::anonymous(CATCH * PAGE_SIZE).map_err(doing("taking memory"))?;
    let words = || (0..CATCH).map(|number| memory.word(number * PAGE_SIZE));
    for word in words() {
        let word = word.map_err(doing("finding a canary"))?;
        let before = word.swap(CANARY, core::sync::atomic::Ordering::SeqCst);
        demand!(
            before == 0,
            "new memory is not zero but has {}",
            Signature(before)
        );
    }
    pause(random);
    for word in words() {
        let seen = word
            .map_err(doing("finding a canary"))?
            .load(core::sync::atomic::Ordering::SeqCst);
        demand!(
            seen == CANARY,
            "private page {page} was unmapped; its frame, now somebody else's, was written: {}",
            Signature(seen)
        );
    }
    Ok(())
}

/// Gives others a chance to do wrong.
fn pause(random: &mut Random) {
    match random.below(4) {
        0 => dragonet_rt::time::sleep(core::time::Duration::from_micros(random.below(200))),
        1 => thread::yield_now(),
        _ => (0..random.below(1000)).for_each(|_| core::hint::spin_loop()),
    }
}

pub fn play(team: &mut Team) -> Outcome {
    let stage = Arc::new(Stage::new()?);
    for member in 0..team.helpers() {
        let stage = Arc::clone(&stage);
        team.helper("who stores", move |random| stage.store(member, random))?;
    }
    let sabotaged = team.sabotaged();
    team.lead(|random| stage.take(random, sabotaged))
}
