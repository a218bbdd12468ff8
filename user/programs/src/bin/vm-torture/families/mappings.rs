//! Mappings against a model: the leader maps, unmaps, protects and advises ranges, in a vmspace and in this program's address space
//! alike, and knows what each page then is. Helpers load, store and fetch, as users and by calls, and compare.
//!
//! What a helper saw counts only if nothing was changed meanwhile. In this program's address space an access that may fault is
//! made by the kernel on behalf of a call, which then says so.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::layout::PAGE_SIZE;
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

const OWNER: u8 = 10;
const PAGES: u64 = 24;
const FRAMES: u64 = 32;
/// Pages of an operation at most.
const MOST: u64 = 8;
const SPACE: u64 = 29 << 30;
/// Where helpers' words go by way of the kernel; a page behind the frames.
const SCRATCH: u64 = 31 << 30;
const LANDING: u64 = 64;
const WORDS: u64 = 256;
const READ_WRITE: Protection = Protection::READ.union(Protection::WRITE);
const PROTECTIONS: [Protection; 6] = [
    Protection::empty(),
    Protection::READ,
    READ_WRITE,
    READ_WRITE,
    READ_WRITE,
    Protection::READ.union(Protection::EXECUTE),
];

/// Bits of a page that is there, beside its protection.
const THERE: u64 = 8;
/// State of a page of a guard.
const GUARD: u64 = 32;
/// Bit of a page with instructions in it.
const CODE: u64 = 16;

/// What the leader knows of a page.
#[derive(Clone, Copy, Default)]
struct Page {
    /// [`Protection`], `THERE`, `CODE`; or `GUARD`; 0 if it is not there.
    state: u64,
    /// The frame that is mapped or was copied.
    frame: Option<u64>,
    private: bool,
    value: u64,
    /// What it may still be, since the contents can go at any time.
    or: u64,
}

/// What helpers know of it.
#[derive(Default)]
struct Shown {
    state: AtomicU64,
    value: AtomicU64,
    or: AtomicU64,
}

struct Stage {
    ram: Ram,
    guest: Guest,
    window: Window,
    holes: Holes,
    shown: Vec<Shown>,
}

/// The signature that a frame has from the start.
const fn frame_value(frame: u64) -> u64 {
    Signature::new(OWNER, frame as u16, 0).0
}

impl Stage {
    fn new() -> Outcome<Self> {
        let ram = Ram::new((FRAMES + 1) * PAGE_SIZE).map_err(doing("making the memory"))?;
        for frame in 0..FRAMES {
            ram.store(frame * PAGE_SIZE, frame_value(frame))
                .and_then(|()| ram.write(frame * PAGE_SIZE + LANDING, &code::LANDING))
                .map_err(doing("writing a frame"))?;
        }
        let guest = Guest::new().map_err(doing("making a guest"))?;
        guest
            .map(&fixed(
                SCRATCH,
                PAGE_SIZE,
                READ_WRITE,
                ram.object(),
                FRAMES * PAGE_SIZE,
            ))
            .map_err(doing("mapping the scratch page"))?;
        Ok(Stage {
            ram,
            guest,
            window: Window::new(PAGES * PAGE_SIZE).map_err(doing("making a window"))?,
            holes: Holes::default(),
            shown: (0..PAGES).map(|_| Shown::default()).collect(),
        })
    }

    /// One access, compared with the model.
    fn access(&self, member: u64, number: u64, random: &mut Random) -> Outcome {
        let page = random.below(PAGES);
        let stamp = self.holes.stamp();
        let shown = &self.shown[page as usize];
        let state = shown.state.load(Ordering::SeqCst);
        let value = shown.value.load(Ordering::SeqCst);
        let or = shown.or.load(Ordering::SeqCst);
        let stored = Signature::new(OWNER, 0x100 | member as u16, number as u32);
        // The access by its bits in an error code, and what it needs.
        let (access, needs) = match random.below(3) {
            0 => (6, Protection::WRITE),
            1 if state & CODE != 0 => (0x14, Protection::EXECUTE),
            _ => (4, Protection::READ),
        };
        let offset = match access {
            6 => page * PAGE_SIZE + WORDS + 8 * member,
            0x14 => page * PAGE_SIZE + LANDING,
            _ => page * PAGE_SIZE,
        };
        let by_kernel = access != 0x14 && random.below(3) == 0;
        let seen = if by_kernel {
            self.by_kernel(access, offset, member, stored)?
        } else {
            self.by_user(access, offset, stored, random)?
        };
        if self.holes.excuse(stamp) {
            return Ok(());
        }
        let address = if by_kernel { offset } else { SPACE + offset };
        let expected = if state & THERE == 0 {
            Seen::Fault {
                error_code: access,
                address,
            }
        } else if state & u64::from(needs.bits()) == 0 {
            Seen::Fault {
                error_code: access | 1,
                address,
            }
        } else if access == 4 {
            Seen::Value(value)
        } else {
            Seen::Value(stored.0)
        };
        let seen = match (seen, expected) {
            // A call tells no error code.
            (Seen::Fault { .. }, Seen::Fault { .. }) if by_kernel => expected,
            (Seen::Value(seen), Seen::Value(_)) if access == 4 && seen == or => expected,
            _ => seen,
        };
        let how = if by_kernel { "by the kernel" } else { "by a user" };
        demand!(
            seen == expected,
            "access {access:#x} {how} to page {page} in state {state:#x} with {}: {seen:?}, not {expected:?}",
            Signature(value)
        );
        Ok(())
    }

    /// In the vmspace. A store is followed by a load of what was stored.
    fn by_user(&self, access: u64, offset: u64, stored: Signature, random: &mut Random) -> Outcome<Seen> {
        let address = SPACE + offset;
        let registers = match access {
            6 => code::store(address, stored.0),
            0x14 => code::jump(address, stored.0),
            _ => code::load(address),
        };
        let seen = Seen::of(&run(self.guest.vmspace(), registers, random)?);
        match (access, seen) {
            (6, Seen::Value(_)) => Ok(Seen::of(&run(self.guest.vmspace(), code::load(address), random)?)),
            _ => Ok(seen),
        }
    }

    /// In this program's address space, by the kernel. What is stored comes from the scratch page, and what is loaded goes there.
    fn by_kernel(&self, access: u64, offset: u64, member: u64, stored: Signature) -> Outcome<Seen> {
        let place = FRAMES * PAGE_SIZE + 8 * member;
        let scratch = SCRATCH + 8 * member;
        let vmspace = self.guest.vmspace();
        self.ram
            .store(place, stored.0)
            .map_err(doing("preparing a store"))?;
        let outcome = match access {
            6 => self.window.receive(offset, 8, vmspace, scratch).and_then(|_| {
                self.ram.store(place, 0)?;
                self.window.send(offset, 8, vmspace, scratch)
            }),
            _ => self.window.send(offset, 8, vmspace, scratch),
        };
        match outcome {
            Ok(_) => Ok(Seen::Value(
                self.ram
                    .load(place)
                    .map_err(doing("looking at the scratch page"))?,
            )),
            Err(Errno::EFAULT) => Ok(Seen::Fault {
                error_code: access,
                address: offset,
            }),
            Err(errno) => Err(Problem::Refused("an access by the kernel", errno)),
        }
    }

    /// Maps in both address spaces.
    fn map(
        &self,
        pages: &Range<u64>,
        protection: Protection,
        flags: MapFlags,
        frame: Option<u64>,
    ) -> Outcome {
        let object = frame.map_or(Handle::NONE, |_| self.ram.object());
        let request = MapRequest {
            flags: (flags | MapFlags::FIXED).bits(),
            ..fixed(
                pages.start * PAGE_SIZE,
                (pages.end - pages.start) * PAGE_SIZE,
                protection,
                object,
                frame.unwrap_or(0) * PAGE_SIZE,
            )
        };
        self.window.map(&request).map_err(doing("mapping here"))?;
        let address = SPACE + request.address;
        self.guest
            .map(&MapRequest { address, ..request })
            .map_err(doing("mapping in the guest"))
    }

    /// Writes a page's word in both address spaces.
    fn sign(&self, page: u64, value: Signature) -> Outcome {
        let offset = page * PAGE_SIZE;
        self.window
            .store(offset, value.0)
            .map_err(doing("signing here"))?;
        syscall::vmspace_pwrite(self.guest.vmspace(), &value.0.to_le_bytes(), SPACE + offset)
            .map(drop)
            .map_err(doing("signing in the guest"))
    }

    /// Advice in both address spaces.
    fn advise(&self, offset: u64, length: u64, advice: Advice) -> Outcome {
        self.window
            .advise(offset, length, advice, Vpte(0))
            .map_err(doing("advising here"))?;
        let vmspace = self.guest.vmspace();
        syscall::vmspace_mcontrol(vmspace, SPACE + offset, length, advice, Vpte(0))
            .map_err(doing("advising in the guest"))
    }

    fn show(&self, pages: &Range<u64>, model: &[Page]) {
        for page in pages.clone() {
            let (shown, page) = (&self.shown[page as usize], &model[page as usize]);
            shown.state.store(page.state, Ordering::SeqCst);
            shown.value.store(page.value, Ordering::SeqCst);
            shown.or.store(page.or, Ordering::SeqCst);
        }
    }
}

/// The leader's side.
struct Leader {
    model: Vec<Page>,
    generation: u32,
    sabotaged: bool,
}

impl Leader {
    fn step(&mut self, stage: &Stage, random: &mut Random) -> Outcome {
        let start = random.below(PAGES);
        let pages = start..(start + 1 + random.below(MOST)).min(PAGES);
        let (offset, length) = (start * PAGE_SIZE, (pages.end - start) * PAGE_SIZE);
        let protection = PROTECTIONS[random.below(PROTECTIONS.len() as u64) as usize];
        stage.holes.open();
        match random.below(10) {
            0..3 => self.map(stage, &pages, protection, random)?,
            3 => {
                if !self.sabotaged {
                    let vmspace = stage.guest.vmspace();
                    stage
                        .window
                        .unmap(offset, length)
                        .map_err(doing("unmapping here"))?;
                    syscall::vmspace_munmap(vmspace, SPACE + offset, length)
                        .map_err(doing("unmapping in the guest"))?;
                }
                self.model[start as usize..pages.end as usize].fill(Page::default());
            }
            4 | 5 => self.protect(stage, &pages, protection)?,
            6 => self.forget(stage, &pages, Advice::DontNeed)?,
            7 => self.forget(stage, &pages, Advice::Free)?,
            8 => {
                let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::GUARD;
                stage.map(&pages, Protection::empty(), flags, None)?;
                let guard = Page {
                    state: GUARD,
                    ..Page::default()
                };
                self.model[start as usize..pages.end as usize].fill(guard);
            }
            _ => stage.advise(offset, length, Advice::WillNeed)?,
        }
        stage.show(&pages, &self.model);
        stage.holes.close();
        Ok(())
    }

    /// Frames, copies of frames, or new memory, which gets a new signature where it can be written.
    fn map(
        &mut self,
        stage: &Stage,
        pages: &Range<u64>,
        protection: Protection,
        random: &mut Random,
    ) -> Outcome {
        let count = pages.end - pages.start;
        let (flags, frame) = match random.below(3) {
            0 => (MapFlags::SHARED, Some(random.below(FRAMES - count))),
            1 => (MapFlags::PRIVATE, Some(random.below(FRAMES - count))),
            _ => (MapFlags::PRIVATE | MapFlags::ANONYMOUS, None),
        };
        stage.map(pages, protection, flags, frame)?;
        let private = flags.contains(MapFlags::PRIVATE);
        self.generation += 1;
        for page in pages.clone() {
            let frame = frame.map(|first| first + (page - pages.start));
            let mut value = frame.map_or(0, frame_value);
            if private && protection.contains(Protection::WRITE) && random.below(2) == 0 {
                let signature = Signature::new(OWNER, 0x200 | page as u16, self.generation);
                stage.sign(page, signature)?;
                value = signature.0;
            }
            self.model[page as usize] = Page {
                state: u64::from(protection.bits()) | THERE | frame.map_or(0, |_| CODE),
                frame,
                private,
                value,
                or: value,
            };
            if let Some(frame) = frame {
                let seen = stage
                    .ram
                    .load(frame * PAGE_SIZE)
                    .map_err(doing("looking at a frame"))?;
                demand!(
                    seen == frame_value(frame),
                    "frame {frame} was changed through a private mapping: {}",
                    Signature(seen)
                );
            }
        }
        Ok(())
    }

    /// Private pages lose what was written to them, at once or at any time.
    fn forget(&mut self, stage: &Stage, pages: &Range<u64>, advice: Advice) -> Outcome {
        let (offset, length) = (pages.start * PAGE_SIZE, (pages.end - pages.start) * PAGE_SIZE);
        stage.advise(offset, length, advice)?;
        for page in &mut self.model[pages.start as usize..pages.end as usize] {
            if page.private {
                if advice == Advice::DontNeed {
                    page.or = page.frame.map_or(0, frame_value);
                }
                page.value = page.frame.map_or(0, frame_value);
            }
        }
        Ok(())
    }

    /// Refused, without a change, if there is a hole or a guard.
    fn protect(&mut self, stage: &Stage, pages: &Range<u64>, protection: Protection) -> Outcome {
        let range = &mut self.model[pages.start as usize..pages.end as usize];
        let (offset, length) = (pages.start * PAGE_SIZE, (pages.end - pages.start) * PAGE_SIZE);
        let expected = if range.iter().any(|page| page.state == 0) {
            Err(Errno::ENOMEM)
        } else if range.iter().any(|page| page.state == GUARD) {
            Err(Errno::EACCES)
        } else {
            Ok(())
        };
        let vmspace = stage.guest.vmspace();
        let here = stage.window.protect(offset, length, protection);
        let there = syscall::vmspace_mprotect(vmspace, SPACE + offset, length, protection);
        demand!(
            (here, there) == (expected, expected),
            "protecting pages {pages:?} gave {here:?} here and {there:?} in the guest, not {expected:?}"
        );
        if expected.is_ok() {
            for page in range {
                page.state = page.state & (THERE | CODE) | u64::from(protection.bits());
            }
        }
        Ok(())
    }
}

pub fn play(team: &mut Team) -> Outcome {
    let stage = Arc::new(Stage::new()?);
    for member in 0..team.helpers() {
        let stage = Arc::clone(&stage);
        let mut number = 0;
        team.helper("who accesses", move |random| {
            number += 1;
            stage.access(member, number, random)
        })?;
    }
    let mut leader = Leader {
        model: alloc::vec![Page::default(); PAGES as usize],
        generation: 0,
        sabotaged: team.sabotaged(),
    };
    team.lead(|random| {
        leader.step(&stage, random)?;
        // Time to look at it.
        (0..random.below(3000)).for_each(|_| core::hint::spin_loop());
        Ok(())
    })
}
