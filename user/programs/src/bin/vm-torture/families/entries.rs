//! Entries against a model: the leader sets entries and a directory of a virtual page table to whatever comes, good and bad, and knows what each
//! access must come to. Helpers load, store and fetch, as users and by calls, and compare.
//!
//! What a helper saw counts only if nothing was changed meanwhile. Then value, error code and marks must be those of the model. When
//! an entry is replaced, marks that no allowed access can have set are found as well.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::Errno;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::Vpte;
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, Problem, doing};
use dragonet_programs::torture::signature::Signature;
use dragonet_programs::torture::stage::{Holes, run};
use dragonet_programs::torture::team::Team;
use dragonet_programs::vm::{ALLOW, Guest, PageTable, Ram, Seen, code};
use dragonet_rt::syscall;

const OWNER: u8 = 9;
const PAGES: u64 = 8;
const FRAMES: u64 = 16;
const MEMORY: u64 = 64 * PAGE_SIZE;
const SPACE: u64 = 27 << 30;
const LENGTH: u64 = 2 << 20;
/// Byte of a frame where instructions are.
const LANDING: u64 = 64;
/// Byte of a frame where the helpers' words begin.
const WORDS: u64 = 256;
const MARKS: u64 = Vpte::ACCESSED | Vpte::DIRTY;

/// An access, by its bits in an error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Load = 4,
    Store = 6,
    Fetch = 0x14,
}

impl Access {
    const ALL: [Access; 3] = [Access::Load, Access::Store, Access::Fetch];
}

/// What an access must come to: the frame that it reaches, or an error code.
fn verdict(directory: u64, leaf: u64, access: Access) -> Result<u64, u64> {
    let both = directory & leaf;
    let either = directory | leaf;
    let denied = both & Vpte::USER == 0
        || access == Access::Store && both & Vpte::WRITE == 0
        || access == Access::Fetch && either & Vpte::NO_EXECUTE != 0;
    let frame = Vpte(leaf).offset();
    if both & Vpte::VALID == 0 {
        Err(access as u64)
    } else if denied {
        Err(access as u64 | 1)
    } else if frame >= MEMORY {
        Err(access as u64 | 9)
    } else {
        Ok(frame)
    }
}

/// What has been allowed since an entry was set.
#[derive(Clone, Copy, Default)]
struct Allowed {
    any: bool,
    store: bool,
}

impl Allowed {
    fn add(&mut self, directory: u64, leaf: u64) {
        self.any |= Access::ALL
            .iter()
            .any(|access| verdict(directory, leaf, *access).is_ok());
        self.store |= verdict(directory, leaf, Access::Store).is_ok();
    }
}

struct Stage {
    ram: Ram,
    table: PageTable,
    guests: Vec<Guest>,
    holes: Holes,
    /// The model: entries without marks.
    leaves: Vec<AtomicU64>,
    directory: AtomicU64,
}

impl Stage {
    fn new() -> Outcome<Self> {
        let ram = Ram::new(MEMORY).map_err(doing("making the memory"))?;
        ram.allocate_from(FRAMES * PAGE_SIZE);
        for frame in 0..FRAMES {
            let value = Signature::new(OWNER, frame as u16, 0);
            ram.store(frame * PAGE_SIZE, value.0)
                .and_then(|()| ram.write(frame * PAGE_SIZE + LANDING, &code::LANDING))
                .map_err(doing("writing a frame"))?;
        }
        let table = PageTable::new(&ram).map_err(doing("making the table"))?;
        table.map(&ram, SPACE, 0).map_err(doing("making the table"))?;
        let directory = table
            .entry(&ram, SPACE, 2)
            .map_err(doing("finding the directory"))?;
        let directory = AtomicU64::new(directory.load(Ordering::SeqCst));
        let mut guests = Vec::new();
        for _ in 0..2 {
            let guest = Guest::new().map_err(doing("making a guest"))?;
            guest
                .map_table(&ram, SPACE, LENGTH, SPACE, table.root())
                .map_err(doing("mapping the table"))?;
            guests.push(guest);
        }
        Ok(Stage {
            ram,
            table,
            guests,
            holes: Holes::default(),
            leaves: (0..PAGES).map(|_| AtomicU64::new(0)).collect(),
            directory,
        })
    }

    /// The entry of a page, found through a directory that may be invalid.
    fn leaf(&self, directory: u64, page: u64) -> Outcome<&AtomicU64> {
        let table = Vpte(directory).offset();
        self.ram.word(table + 8 * page).map_err(doing("finding an entry"))
    }

    /// One access as a user or by a call, compared with the model.
    fn access(&self, member: u64, number: u64, random: &mut Random) -> Outcome {
        let guest = &self.guests[random.below(self.guests.len() as u64) as usize];
        let page = random.below(PAGES);
        let access = Access::ALL[random.below(3) as usize];
        let place = SPACE + page * PAGE_SIZE;
        let by_call = access != Access::Fetch && random.below(3) == 0;
        let stored = Signature::new(OWNER, (member + 1) as u16, number as u32);
        let address = match access {
            Access::Load => place,
            Access::Store => place + WORDS + 8 * member,
            Access::Fetch => place + LANDING,
        };
        let stamp = self.holes.stamp();
        let (directory, leaf) = (
            self.directory.load(Ordering::SeqCst),
            self.leaves[page as usize].load(Ordering::SeqCst),
        );
        let seen = if by_call {
            call(guest, access, address, stored)?
        } else {
            let registers = match access {
                Access::Load => code::load(address),
                Access::Store => code::store(address, stored.0),
                Access::Fetch => code::jump(address, stored.0),
            };
            Seen::of(&run(guest.vmspace(), registers, random)?)
        };
        let marks = self.leaf(directory, page)?.load(Ordering::SeqCst) & MARKS;
        let reached = verdict(directory, leaf, access);
        let contents = match (access, reached) {
            (Access::Store, Ok(frame)) => self.ram.load(frame + WORDS + 8 * member),
            _ => Ok(stored.0),
        };
        let contents = contents.map_err(doing("looking at a frame"))?;
        if self.holes.excuse(stamp) {
            return Ok(());
        }
        let expected = match (access, reached) {
            (Access::Load, Ok(frame)) => Seen::Value(Signature::new(OWNER, (frame / PAGE_SIZE) as u16, 0).0),
            (_, Ok(_)) => Seen::Value(stored.0),
            (_, Err(error_code)) => Seen::Fault { error_code, address },
        };
        let seen = match (access, seen, expected) {
            // What is in `rax` after a store means nothing, and a call tells no error code.
            (Access::Store, Seen::Value(_), _) => Seen::Value(contents),
            (_, Seen::Fault { .. }, Seen::Fault { .. }) if by_call => expected,
            _ => seen,
        };
        let how = if by_call { "by a call" } else { "by a user" };
        demand!(
            seen == expected,
            "{access:?} {how} at {address:#x}, entry {leaf:#x} below {directory:#x}: {seen:?}, not {expected:?}"
        );
        let needed = match (access, reached) {
            (_, Err(_)) => 0,
            (Access::Store, Ok(_)) => MARKS,
            (_, Ok(_)) => Vpte::ACCESSED,
        };
        demand!(
            marks & needed == needed,
            "{access:?} {how} at {address:#x}, entry {leaf:#x}: marks {marks:#x} afterwards"
        );
        Ok(())
    }

    /// Changes the entry of a page, or the directory above all of them.
    fn change(&self, allowed: &mut [Allowed], random: &mut Random, sabotaged: bool) -> Outcome {
        let page = random.below(PAGES);
        let whole = random.below(6) == 0;
        self.holes.open();
        if whole {
            let before = self.directory.load(Ordering::SeqCst);
            let changed = Vpte(before).offset() | rights(random);
            self.directory.store(changed, Ordering::SeqCst);
            let real = self.table.entry(&self.ram, SPACE, 2);
            let real = real
                .map_err(doing("finding the directory"))?
                .swap(changed, Ordering::SeqCst);
            demand!(real & Vpte::DIRTY == 0, "a directory is marked dirty: {real:#x}");
            for (allowed, leaf) in allowed.iter_mut().zip(&self.leaves) {
                allowed.add(changed, leaf.load(Ordering::SeqCst));
            }
        } else {
            let frame = match random.below(12) {
                0 => MEMORY,
                1 => Vpte::FRAME,
                _ => random.below(FRAMES) * PAGE_SIZE,
            };
            let changed = frame | rights(random);
            let place = self.leaf(self.directory.load(Ordering::SeqCst), page)?;
            let known = self.leaves[page as usize].swap(changed, Ordering::SeqCst);
            let real = place.swap(changed, Ordering::SeqCst);
            let was = &mut allowed[page as usize];
            let could = if was.store {
                MARKS
            } else if was.any {
                Vpte::ACCESSED
            } else {
                0
            };
            demand!(
                real & !known & !could == 0 && (real ^ known) & !MARKS == 0,
                "page {page}: entry {known:#x} became {real:#x}, though no access can have done that"
            );
            *was = Allowed::default();
            was.add(self.directory.load(Ordering::SeqCst), changed);
        }
        let (start, length) = if whole {
            (SPACE, LENGTH)
        } else {
            (SPACE + page * PAGE_SIZE, PAGE_SIZE)
        };
        for guest in &self.guests {
            if !sabotaged {
                guest.invalidate(start, length).map_err(doing("invalidating"))?;
            }
        }
        self.holes.close();
        Ok(())
    }
}

/// Rights of an entry: most often some.
fn rights(random: &mut Random) -> u64 {
    let mut rights = ALLOW;
    for (bit, one_in) in [(Vpte::VALID, 10), (Vpte::WRITE, 4), (Vpte::USER, 10)] {
        if random.below(one_in) == 0 {
            rights &= !bit;
        }
    }
    if random.below(4) == 0 {
        rights |= Vpte::NO_EXECUTE;
    }
    rights
}

/// The access by `vmspace_pread` or `vmspace_pwrite`.
fn call(guest: &Guest, access: Access, address: u64, stored: Signature) -> Outcome<Seen> {
    let mut bytes = [0; 8];
    let outcome = match access {
        Access::Load => syscall::vmspace_pread(guest.vmspace(), &mut bytes, address),
        _ => syscall::vmspace_pwrite(guest.vmspace(), &stored.0.to_le_bytes(), address),
    };
    match outcome {
        Ok(_) => Ok(Seen::Value(u64::from_le_bytes(bytes))),
        Err(Errno::EFAULT) => Ok(Seen::Fault {
            error_code: access as u64,
            address,
        }),
        Err(errno) => Err(Problem::Refused("accessing a guest", errno)),
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
    let mut allowed = [Allowed::default(); PAGES as usize];
    let sabotaged = team.sabotaged();
    team.lead(|random| {
        stage.change(&mut allowed, random, sabotaged)?;
        // Time to look at it.
        (0..random.below(3000)).for_each(|_| core::hint::spin_loop());
        Ok(())
    })
}
