//! Forks while users store: what a copy has is what was stored before the fork, or at most what was begun before it ended, and from then on
//! neither side sees what the other stores.
//!
//! Helpers store ever larger numbers into all pages of the parent. The leader forks it, and forks its copies; stores into them, drops
//! contents, pages and whole copies in any order; and compares each copy with what it knows of it. Now and then it copies this
//! whole program, threads at work and all.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::{Advice, Inheritance, MapFlags, MapRequest, Protection, Vpte};
use dragonet_abi::{Errno, Handle};
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, doing};
use dragonet_programs::torture::signature::Signature;
use dragonet_programs::torture::stage::run;
use dragonet_programs::torture::team::Team;
use dragonet_programs::vm::{Guest, Ram, Seen, code, fixed};
use dragonet_rt::process::fork_into;
use dragonet_rt::syscall;
use dragonet_rt::window::Window;

const OWNER: u8 = 12;
/// New memory, then private mappings of an object: both are copied.
const ANONYMOUS: u64 = 8;
const COPIED: u64 = 16;
/// Behind them a page that stays shared, one of which a copy has zeroes, and one that it does not have.
const SHARED: u64 = COPIED;
const ZEROED: u64 = SHARED + 1;
const LEFT_OUT: u64 = ZEROED + 1;
const PAGES: u64 = LEFT_OUT + 1;
/// The leader's word of a page; the helpers' are before it.
const LEADER: u64 = 31;
const WORDS: usize = LEADER as usize + 1;
const SPACE: u64 = 37 << 30;
/// Where a helper maps and unmaps in the parent, and bytes of addresses for each.
const CHURN: u64 = 39 << 30;
const REGION: u64 = 1 << 20;
/// Copies that are there at once.
const COPIES: usize = 4;
const READ_WRITE: Protection = Protection::READ.union(Protection::WRITE);

const fn address(page: u64) -> u64 {
    SPACE + page * PAGE_SIZE
}

/// The words of a page.
type Page = [u64; WORDS];

/// Reads the words of a page of a vmspace.
fn read(guest: &Guest, page: u64) -> Result<Page, Errno> {
    let mut bytes = [0; 8 * WORDS];
    syscall::vmspace_pread(guest.vmspace(), &mut bytes, address(page))?;
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    }
    Ok(words)
}

/// Stores into the leader's word of a page, as a user or by a call.
fn store(guest: &Guest, page: u64, value: u64, random: &mut Random) -> Outcome {
    let place = address(page) + 8 * LEADER;
    if random.below(2) == 0 {
        return syscall::vmspace_pwrite(guest.vmspace(), &value.to_le_bytes(), place)
            .map(drop)
            .map_err(doing("storing by a call"));
    }
    let seen = Seen::of(&run(guest.vmspace(), code::store(place, value), random)?);
    demand!(matches!(seen, Seen::Value(_)), "a store to page {page}: {seen:?}");
    Ok(())
}

struct Stage {
    parent: Guest,
    /// What each helper has begun and what it has finished to store everywhere.
    begun: Vec<AtomicU64>,
    finished: Vec<AtomicU64>,
}

impl Stage {
    fn new(helpers: u64) -> Outcome<Self> {
        let parent = Guest::new().map_err(doing("making a guest"))?;
        let ram = Ram::new(PAGES * PAGE_SIZE).map_err(doing("making an object"))?;
        let anonymous = |first, pages| MapRequest {
            flags: (MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED).bits(),
            ..fixed(address(first), pages * PAGE_SIZE, READ_WRITE, Handle::NONE, 0)
        };
        let of_object = |first, pages, kind: MapFlags| MapRequest {
            flags: (kind | MapFlags::FIXED).bits(),
            ..fixed(
                address(first),
                pages * PAGE_SIZE,
                READ_WRITE,
                ram.object(),
                first * PAGE_SIZE,
            )
        };
        for request in [
            anonymous(0, ANONYMOUS),
            of_object(ANONYMOUS, COPIED - ANONYMOUS, MapFlags::PRIVATE),
            of_object(SHARED, 1, MapFlags::SHARED),
            anonymous(ZEROED, 2),
        ] {
            parent.map(&request).map_err(doing("mapping the parent"))?;
        }
        for (page, inheritance) in [(ZEROED, Inheritance::Zero), (LEFT_OUT, Inheritance::None)] {
            syscall::vmspace_minherit(parent.vmspace(), address(page), PAGE_SIZE, inheritance)
                .map_err(doing("setting an inheritance"))?;
            store(&parent, page, 1, &mut Random::new(0))?;
        }
        let counters = || (0..helpers).map(|_| AtomicU64::new(0)).collect();
        Ok(Stage {
            parent,
            begun: counters(),
            finished: counters(),
        })
    }

    /// Stores a helper's next number into all pages of the parent.
    fn store(&self, member: u64, number: u32, random: &mut Random) -> Outcome {
        let value = Signature::new(OWNER, member as u16, number).0;
        self.begun[member as usize].store(value, Ordering::SeqCst);
        let registers = code::store_pages(address(0) + 8 * member, value, 0, COPIED);
        let seen = Seen::of(&run(self.parent.vmspace(), registers, random)?);
        demand!(
            matches!(seen, Seen::Value(_)),
            "a user of the parent stores everywhere, but: {seen:?}"
        );
        self.finished[member as usize].store(value, Ordering::SeqCst);
        Ok(())
    }

    /// Maps memory of the parent, stores into it, sees that it is there, and unmaps it, while the parent is forked.
    fn churn(&self, member: u64, number: u32, random: &mut Random) -> Outcome {
        let (start, pages) = (CHURN + member * REGION, 1 + random.below(32));
        let request = MapRequest {
            flags: (MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED).bits(),
            ..fixed(start, pages * PAGE_SIZE, READ_WRITE, Handle::NONE, 0)
        };
        self.parent
            .map(&request)
            .map_err(doing("mapping in the parent"))?;
        let value = Signature::new(OWNER, member as u16, number).0;
        for registers in [
            code::check_pages(start, 0, 0, pages),
            code::store_pages(start, value, 0, pages),
            code::check_pages(start, value, 0, pages),
        ] {
            let state = run(self.parent.vmspace(), registers, random)?;
            let seen = Seen::of(&state);
            let rest = state.registers;
            demand!(
                matches!(seen, Seen::Value(_)) && rest.rbx == 0,
                "memory that comes and goes in the parent: {seen:?}, {} in place of {}",
                Signature(rest.rax),
                Signature(rest.rsi)
            );
        }
        // Not always as a whole.
        let kept = random.below(pages) * PAGE_SIZE;
        syscall::vmspace_munmap(self.parent.vmspace(), start + kept, pages * PAGE_SIZE - kept)
            .map_err(doing("unmapping in the parent"))
    }
}

/// A copy and what it must have, by page.
struct Copy {
    guest: Guest,
    known: BTreeMap<u64, Page>,
}

impl Copy {
    /// Compares a page with what is known of it.
    fn check(&self, page: u64) -> Outcome {
        let Some(known) = self.known.get(&page) else {
            let outcome = read(&self.guest, page);
            demand!(
                outcome == Err(Errno::EFAULT),
                "page {page}, which a copy does not have: {outcome:x?}"
            );
            return Ok(());
        };
        let seen = read(&self.guest, page).map_err(doing("reading a copy"))?;
        for (word, (seen, known)) in seen.iter().zip(known).enumerate() {
            demand!(
                seen == known,
                "word {word} of page {page} of a copy was {}, now it is {}",
                Signature(*known),
                Signature(*seen)
            );
        }
        Ok(())
    }
}

/// The leader.
struct Leader {
    stage: Arc<Stage>,
    copies: Vec<Copy>,
    /// Its words of the parent.
    own: [u64; PAGES as usize],
    number: u32,
    /// A page of this program's own memory, for copies of the whole program.
    window: Window,
    sabotaged: bool,
}

impl Leader {
    fn next(&mut self) -> u64 {
        self.number += 1;
        Signature::new(OWNER, 0xff, self.number).0
    }

    /// Forks the parent and looks at what the copy has.
    fn fork_parent(&mut self) -> Outcome<Copy> {
        let stage = Arc::clone(&self.stage);
        let load = |words: &[AtomicU64]| {
            words
                .iter()
                .map(|word| word.load(Ordering::SeqCst))
                .collect::<Vec<_>>()
        };
        let low = load(&stage.finished);
        let guest = Guest::empty().map_err(doing("making a guest"))?;
        syscall::vmspace_fork(stage.parent.vmspace(), guest.vmspace())
            .map_err(doing("forking the parent"))?;
        let high = load(&stage.begun);
        let mut copy = Copy {
            guest,
            known: BTreeMap::new(),
        };
        for page in 0..COPIED {
            let words = read(&copy.guest, page).map_err(doing("reading a new copy"))?;
            for (member, (low, high)) in low.iter().zip(&high).enumerate() {
                let seen = words[member];
                demand!(
                    *low <= seen && seen <= *high,
                    "word {member} of page {page} of a new copy is {}, though {} was stored before the fork and {} after it at most",
                    Signature(seen),
                    Signature(*low),
                    Signature(*high)
                );
            }
            let (seen, stored) = (words[LEADER as usize], self.own[page as usize]);
            demand!(
                seen == stored,
                "a new copy has {} in page {page}, not {}",
                Signature(seen),
                Signature(stored)
            );
            copy.known.insert(page, words);
        }
        copy.known.insert(ZEROED, [0; WORDS]);
        copy.check(ZEROED)?;
        copy.check(LEFT_OUT)?;
        let shared = read(&copy.guest, SHARED).map_err(doing("reading a new copy"))?[LEADER as usize];
        let stored = self.own[SHARED as usize];
        demand!(
            shared == stored,
            "a new copy has {} in the shared page, not {}",
            Signature(shared),
            Signature(stored)
        );
        Ok(copy)
    }

    /// Forks a copy.
    fn fork_copy(&self, number: usize) -> Outcome<Copy> {
        let source = &self.copies[number];
        let guest = Guest::empty().map_err(doing("making a guest"))?;
        syscall::vmspace_fork(source.guest.vmspace(), guest.vmspace()).map_err(doing("forking a copy"))?;
        let mut known = source.known.clone();
        // The inheritance came with the page.
        if let Some(zeroed) = known.get_mut(&ZEROED) {
            *zeroed = [0; WORDS];
        }
        Ok(Copy { guest, known })
    }

    fn step(&mut self, random: &mut Random) -> Outcome {
        let page = random.below(PAGES - 1);
        let chosen = random.below(self.copies.len().max(1) as u64) as usize;
        match random.below(10) {
            0 | 1 if self.copies.len() < COPIES => {
                let copy = if self.copies.is_empty() || random.below(3) > 0 {
                    self.fork_parent()?
                } else {
                    self.fork_copy(chosen)?
                };
                self.copies.push(copy);
            }
            2 | 3 => {
                let value = self.next();
                store(&self.stage.parent, page, value, random)?;
                self.own[page as usize] = value;
                let seen =
                    read(&self.stage.parent, page).map_err(doing("reading the parent"))?[LEADER as usize];
                demand!(
                    seen == value,
                    "the parent has {} in page {page}, not {}",
                    Signature(seen),
                    Signature(value)
                );
                if self.sabotaged
                    && let Some(copy) = self.copies.first()
                {
                    // As if both sides still had the same page.
                    store(&copy.guest, page, value, random)?;
                }
            }
            4 if random.below(4) == 0 => self.copy_program(random)?,
            _ if self.copies.is_empty() => {}
            4 if random.below(3) == 0 => drop(self.copies.swap_remove(chosen)),
            action => self.use_copy(chosen, page, action, random)?,
        }
        // Whatever was done, nobody else saw it.
        for copy in &self.copies {
            copy.check(random.below(COPIED))?;
        }
        let seen = read(&self.stage.parent, page).map_err(doing("reading the parent"))?[LEADER as usize];
        let stored = self.own[page as usize];
        demand!(
            seen == stored,
            "the parent has {} in page {page}, not {}",
            Signature(seen),
            Signature(stored)
        );
        Ok(())
    }

    /// Changes a page of a copy.
    fn use_copy(&mut self, chosen: usize, page: u64, action: u64, random: &mut Random) -> Outcome {
        let value = self.next();
        let copy = &mut self.copies[chosen];
        let vmspace = copy.guest.vmspace();
        let Some(known) = copy.known.get_mut(&page) else {
            return Ok(());
        };
        match action {
            8 => {
                syscall::vmspace_mcontrol(vmspace, address(page), PAGE_SIZE, Advice::DontNeed, Vpte(0))
                    .map_err(doing("dropping contents"))?;
                *known = [0; WORDS];
            }
            9 if random.below(4) == 0 => {
                syscall::vmspace_munmap(vmspace, address(page), PAGE_SIZE).map_err(doing("unmapping"))?;
                copy.known.remove(&page);
            }
            _ => {
                store(&copy.guest, page, value, random)?;
                known[LEADER as usize] = value;
            }
        }
        copy.check(page)
    }

    /// Copies this program and sees that the copy keeps what was there.
    fn copy_program(&mut self, random: &mut Random) -> Outcome {
        let value = self.next();
        self.window.store(0, value).map_err(doing("storing here"))?;
        let copy = Guest::empty().map_err(doing("making a guest"))?;
        fork_into(copy.vmspace()).map_err(doing("copying the program"))?;
        self.window.store(0, value + 1).map_err(doing("storing here"))?;
        let place = self.window.address();
        if random.below(2) == 0 {
            let other = [0xff; 8];
            syscall::vmspace_pwrite(copy.vmspace(), &other, place + 8).map_err(doing("storing there"))?;
        }
        let mut bytes = [0; 8];
        syscall::vmspace_pread(copy.vmspace(), &mut bytes, place).map_err(doing("reading there"))?;
        let (there, here) = (u64::from_le_bytes(bytes), self.window.load(0));
        demand!(
            there == value && here == Ok(value + 1),
            "a copy of the program has {}, not {}; the program has {here:x?}",
            Signature(there),
            Signature(value)
        );
        let beside = self.window.load(8);
        demand!(
            beside == Ok(0),
            "the program sees what was stored into its copy: {beside:x?}"
        );
        Ok(())
    }
}

pub fn play(team: &mut Team) -> Outcome {
    let stage = Arc::new(Stage::new(team.helpers())?);
    for member in 0..team.helpers() {
        let stage = Arc::clone(&stage);
        let mut number = 0;
        // Who churns has stored 0 all the time.
        let churns = member % 3 == 1;
        team.helper(if churns { "who churns" } else { "who stores" }, move |random| {
            number += 1;
            if churns {
                stage.churn(member, number, random)
            } else {
                stage.store(member, number, random)
            }
        })?;
    }
    let window = Window::new(PAGE_SIZE).map_err(doing("making a window"))?;
    let request = MapRequest {
        flags: (MapFlags::PRIVATE | MapFlags::ANONYMOUS).bits(),
        ..fixed(0, PAGE_SIZE, READ_WRITE, Handle::NONE, 0)
    };
    window.map(&request).map_err(doing("mapping a page"))?;
    let mut leader = Leader {
        stage,
        copies: Vec::new(),
        own: [0; PAGES as usize],
        number: 0,
        window,
        sabotaged: team.sabotaged(),
    };
    leader.own[ZEROED as usize] = 1;
    team.lead(|random| leader.step(random))
}
