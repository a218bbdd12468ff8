//! Stacks that grow: whoever touches the part that has not grown makes it grow, several at once, as users and by calls; the guard at the
//! lower end stays.
//!
//! Each helper stores into a word of its own in random pages and finds it again, until the leader replaces the stack or drops its contents,
//! after which it must find zeroes.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use dragonet_abi::layout::{PAGE_SIZE, STACK_GUARD};
use dragonet_abi::memory::{Advice, MapFlags, MapRequest, Protection, Vpte};
use dragonet_abi::{Errno, Handle};
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, Problem, doing};
use dragonet_programs::torture::signature::Signature;
use dragonet_programs::torture::stage::{Holes, run};
use dragonet_programs::torture::team::Team;
use dragonet_programs::vm::{Guest, Ram, Seen, code, fixed};
use dragonet_rt::syscall;
use dragonet_rt::window::Window;

const OWNER: u8 = 11;
/// Pages of a stack; the first ones are the guard.
const PAGES: u64 = 128;
const FIRST: u64 = STACK_GUARD / PAGE_SIZE;
const LENGTH: u64 = PAGES * PAGE_SIZE;
const SPACE: u64 = 33 << 30;
const SCRATCH: u64 = 35 << 30;
const READ_WRITE: Protection = Protection::READ.union(Protection::WRITE);

struct Stage {
    guest: Guest,
    window: Window,
    ram: Ram,
    holes: Holes,
}

impl Stage {
    fn new() -> Outcome<Self> {
        let ram = Ram::new(PAGE_SIZE).map_err(doing("making the scratch page"))?;
        let guest = Guest::new().map_err(doing("making a guest"))?;
        guest
            .map(&fixed(SCRATCH, PAGE_SIZE, READ_WRITE, ram.object(), 0))
            .map_err(doing("mapping the scratch page"))?;
        let stage = Stage {
            guest,
            window: Window::new(LENGTH).map_err(doing("making a window"))?,
            ram,
            holes: Holes::default(),
        };
        stage.map()?;
        Ok(stage)
    }

    /// New stacks in place of the old ones.
    fn map(&self) -> Outcome {
        let request = |address| MapRequest {
            flags: (MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED | MapFlags::STACK).bits(),
            ..fixed(address, LENGTH, READ_WRITE, Handle::NONE, 0)
        };
        self.window
            .map(&request(0))
            .map_err(doing("mapping a stack here"))?;
        self.guest
            .map(&request(SPACE))
            .map_err(doing("mapping a stack in the guest"))
    }

    /// Takes away what was stored: by another stack, or with the contents of this one.
    fn renew(&self, random: &mut Random, sabotaged: bool) -> Outcome {
        self.holes.open();
        match random.below(3) {
            _ if sabotaged => {}
            0 => self.map()?,
            1 => {
                self.window
                    .unmap(0, LENGTH)
                    .map_err(doing("unmapping a stack here"))?;
                syscall::vmspace_munmap(self.guest.vmspace(), SPACE, LENGTH)
                    .map_err(doing("unmapping a stack in the guest"))?;
                self.map()?;
            }
            _ => {
                let here = self.window.advise(0, LENGTH, Advice::DontNeed, Vpte(0));
                here.map_err(doing("dropping a stack here"))?;
                syscall::vmspace_mcontrol(self.guest.vmspace(), SPACE, LENGTH, Advice::DontNeed, Vpte(0))
                    .map_err(doing("dropping a stack in the guest"))?;
            }
        }
        self.holes.close();
        Ok(())
    }
}

/// A helper, with what its word in each page must have: as users, and by calls here. `None`: it stored while the leader changed
/// something.
struct Member {
    number: u64,
    stage: Arc<Stage>,
    stamp: u64,
    stored: [Vec<Option<u64>>; 2],
    generation: u32,
}

impl Member {
    /// Looks at a word, stores the next one, or touches the guard.
    fn step(&mut self, random: &mut Random) -> Outcome {
        let stage = Arc::clone(&self.stage);
        let stamp = stage.holes.stamp();
        if stamp != self.stamp {
            // What was there is gone, or is about to be.
            let known = self.stored.iter_mut().flatten().flatten();
            known.for_each(|word| *word = 0);
            self.stamp = stamp;
        }
        self.generation += 1;
        let by_kernel = random.below(3) == 0;
        let page = match random.below(8) {
            0 => random.below(FIRST),
            _ => FIRST + random.below(PAGES - FIRST),
        };
        let offset = page * PAGE_SIZE + 8 * self.number;
        let next = Signature::new(OWNER, self.number as u16, self.generation).0;
        let (before, after) = if by_kernel {
            self.by_kernel(&stage, offset, next)?
        } else {
            let address = SPACE + offset;
            let vmspace = stage.guest.vmspace();
            let before = Seen::of(&run(vmspace, code::load(address), random)?);
            (
                before,
                Seen::of(&run(vmspace, code::store(address, next), random)?),
            )
        };
        let known = &mut self.stored[usize::from(by_kernel)][page as usize];
        if stage.holes.excuse(stamp) {
            *known = None;
            return Ok(());
        }
        if page < FIRST {
            let faults = matches!(before, Seen::Fault { error_code: 4, .. })
                && matches!(after, Seen::Fault { error_code: 6, .. });
            demand!(
                faults,
                "the guard of a stack can be accessed: {before:?}, {after:?}"
            );
            return Ok(());
        }
        if let Some(expected) = *known {
            demand!(
                before == Seen::Value(expected),
                "page {page} of a stack has {before:?} for member {}, not {}",
                self.number,
                Signature(expected)
            );
        }
        demand!(
            matches!(after, Seen::Value(_)),
            "a store to page {page} of a stack: {after:?}"
        );
        *known = Some(next);
        Ok(())
    }

    /// In this program's address space, by calls.
    fn by_kernel(&self, stage: &Stage, offset: u64, next: u64) -> Outcome<(Seen, Seen)> {
        let place = 8 * self.number;
        let scratch = SCRATCH + place;
        let vmspace = stage.guest.vmspace();
        let seen = |outcome: Result<u64, Errno>, error_code| match outcome {
            Ok(_) => Ok(Seen::Value(
                stage.ram.load(place).map_err(doing("looking at a word"))?,
            )),
            Err(Errno::EFAULT) => Ok(Seen::Fault {
                error_code,
                address: offset,
            }),
            Err(errno) => Err(Problem::Refused("an access by the kernel", errno)),
        };
        let before = seen(stage.window.send(offset, 8, vmspace, scratch), 4)?;
        stage.ram.store(place, next).map_err(doing("preparing a store"))?;
        let after = seen(stage.window.receive(offset, 8, vmspace, scratch), 6)?;
        Ok((before, after))
    }
}

pub fn play(team: &mut Team) -> Outcome {
    let stage = Arc::new(Stage::new()?);
    for number in 0..team.helpers() {
        let mut member = Member {
            number,
            stage: Arc::clone(&stage),
            stamp: 0,
            stored: [vec![Some(0); PAGES as usize], vec![Some(0); PAGES as usize]],
            generation: 0,
        };
        team.helper("who stores", move |random| member.step(random))?;
    }
    let sabotaged = team.sabotaged();
    team.lead(|random| {
        stage.renew(random, sabotaged)?;
        // Time to grow.
        dragonet_rt::time::sleep(core::time::Duration::from_micros(random.below(2000)));
        Ok(())
    })
}
