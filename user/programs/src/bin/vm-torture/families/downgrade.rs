//! Stores after a downgrade: users store without pause; when the page has become read-only, no store may land, and loads still work.
//!
//! A page is made read-only in each of the ways there are: by its protection, alone or as part of a large range, and by its
//! entry or a directory of a virtual page table. In this program it is the kernel that stores, on behalf of a call, and the call
//! that fails.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::Errno;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::{Protection, Vpte};
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, Problem, doing};
use dragonet_programs::torture::signature::Signature;
use dragonet_programs::torture::stage::{Holes, run};
use dragonet_programs::torture::team::Team;
use dragonet_programs::vm::{ALLOW, Guest, PageTable, Ram, Seen, code, fixed};
use dragonet_rt::window::Window;
use dragonet_rt::{syscall, thread};

const OWNER: u8 = 5;
/// Pages of the memory that are stored to; tables are behind them.
const PAGES: u64 = 4;
/// Where guests have the memory as it is: a range large enough for translations to be dropped rather than edited.
const SPACE: u64 = 13 << 30;
const LENGTH: u64 = 8 << 20;
/// Where they have it through a table.
const TABLE: u64 = 15 << 30;
/// Where a source of words is for the kernel to copy from.
const SOURCE: u64 = 17 << 30;
const READ_WRITE: Protection = Protection::READ.union(Protection::WRITE);
/// Error code of a store to a page that is there.
const DENIED: u64 = 7;

/// How stores reach a page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    Large,
    Entry,
    Directory,
    Here,
}

const WAYS: [Way; 5] = [Way::Direct, Way::Large, Way::Entry, Way::Directory, Way::Here];

struct Stage {
    ram: Ram,
    table: PageTable,
    guest: Guest,
    window: Window,
    holes: Holes,
    /// Counts stores by the kernel.
    stored: AtomicU64,
}

impl Stage {
    fn new() -> Outcome<Self> {
        let ram = Ram::new(LENGTH).map_err(doing("making the memory"))?;
        ram.allocate_from(PAGES * PAGE_SIZE);
        let table = PageTable::new(&ram).map_err(doing("making the table"))?;
        for page in 0..PAGES {
            table
                .map(&ram, TABLE + page * PAGE_SIZE, page * PAGE_SIZE | ALLOW)
                .map_err(doing("setting an entry"))?;
        }
        let guest = Guest::new().map_err(doing("making a guest"))?;
        let direct = fixed(SPACE, LENGTH, READ_WRITE, ram.object(), 0);
        guest.map(&direct).map_err(doing("mapping the memory"))?;
        guest
            .map(&fixed(
                SOURCE,
                PAGE_SIZE,
                READ_WRITE,
                ram.object(),
                LENGTH - PAGE_SIZE,
            ))
            .map_err(doing("mapping a source"))?;
        guest
            .map_table(&ram, TABLE, LENGTH, TABLE, table.root())
            .map_err(doing("mapping the table"))?;
        let window = Window::new(LENGTH).map_err(doing("making a window"))?;
        window
            .map(&fixed(0, LENGTH, READ_WRITE, ram.object(), 0))
            .map_err(doing("mapping here"))?;
        Ok(Stage {
            ram,
            table,
            guest,
            window,
            holes: Holes::default(),
            stored: AtomicU64::new(0),
        })
    }

    /// Allows stores to a page in one of its ways, or forbids them.
    fn allow(&self, way: Way, page: u64, stores: bool) -> Outcome {
        let protection = if stores { READ_WRITE } else { Protection::READ };
        let offset = page * PAGE_SIZE;
        let vmspace = self.guest.vmspace();
        match way {
            Way::Direct => syscall::vmspace_mprotect(vmspace, SPACE + offset, PAGE_SIZE, protection)
                .map_err(doing("protecting a page")),
            Way::Large => syscall::vmspace_mprotect(vmspace, SPACE, LENGTH, protection)
                .map_err(doing("protecting a large range")),
            Way::Here => self
                .window
                .protect(offset, PAGE_SIZE, protection)
                .map_err(doing("protecting a page here")),
            Way::Entry | Way::Directory => {
                let level = if way == Way::Entry { 1 } else { 2 };
                let entry = self
                    .table
                    .entry(&self.ram, TABLE + offset, level)
                    .map_err(doing("finding an entry"))?;
                if stores {
                    entry.fetch_or(Vpte::WRITE, Ordering::SeqCst);
                    return Ok(());
                }
                entry.fetch_and(!Vpte::WRITE, Ordering::SeqCst);
                let (start, length) = match way {
                    Way::Entry => (TABLE + offset, PAGE_SIZE),
                    _ => (TABLE, LENGTH),
                };
                self.guest
                    .invalidate(start, length)
                    .map_err(doing("invalidating"))
            }
        }
    }

    /// Forbids all stores to a page, sees that none lands, and allows them again.
    fn forbid(&self, random: &mut Random, sabotaged: bool) -> Outcome {
        let page = random.below(PAGES);
        let offset = page * PAGE_SIZE;
        // One kind of each, since all ways lead to the same page.
        let direct = if random.below(4) == 0 {
            Way::Large
        } else {
            Way::Direct
        };
        let table = if random.below(4) == 0 {
            Way::Directory
        } else {
            Way::Entry
        };
        self.holes.open();
        for way in [direct, table, Way::Here] {
            if !sabotaged || way == Way::Here {
                self.allow(way, page, false)?;
            }
        }
        let load = || self.ram.load(offset).map_err(doing("loading a page"));
        let before = load()?;
        for _ in 0..random.below(1000) {
            core::hint::spin_loop();
        }
        if random.below(4) == 0 {
            thread::yield_now();
        }
        let after = load()?;
        demand!(
            before == after,
            "page {page} was read-only and had {}, then it was written: {}",
            Signature(before),
            Signature(after)
        );
        for address in [SPACE + offset, TABLE + offset] {
            let seen = self.guest.load(address).map_err(doing("loading in the guest"))?;
            demand!(
                seen == Seen::Value(after),
                "a load of read-only memory at {address:#x}: {seen:?}"
            );
        }
        for way in [direct, table, Way::Here] {
            self.allow(way, page, true)?;
        }
        self.holes.close();
        Ok(())
    }

    fn store(&self, member: u64, random: &mut Random) -> Outcome {
        let page = random.below(PAGES);
        let way = WAYS[random.below(WAYS.len() as u64) as usize];
        let stamp = self.holes.stamp();
        let address = match way {
            Way::Here => return self.store_here(page, stamp),
            Way::Direct | Way::Large => SPACE + page * PAGE_SIZE,
            Way::Entry | Way::Directory => TABLE + page * PAGE_SIZE,
        };
        let first = Signature::new(OWNER, member as u16, 0).0;
        let registers = code::store_often(address, first, 1 + random.below(5000));
        match Seen::of(&run(self.guest.vmspace(), registers, random)?) {
            Seen::Value(_) => Ok(()),
            Seen::Fault {
                error_code,
                address: at,
            } if at == address && error_code == DENIED => {
                demand!(
                    self.holes.excuse(stamp),
                    "stores to {address:#x} were allowed, but one was denied"
                );
                thread::yield_now();
                Ok(())
            }
            other => Err(Problem::Wrong(alloc::format!(
                "a user that stores to {address:#x} saw {other:?}"
            ))),
        }
    }

    /// Has the kernel store to the window.
    fn store_here(&self, page: u64, stamp: u64) -> Outcome {
        for _ in 0..50 {
            let number = self.stored.fetch_add(1, Ordering::Relaxed);
            let source = LENGTH - PAGE_SIZE;
            let value = Signature::new(OWNER, 0xffff, number as u32);
            self.ram
                .store(source, value.0)
                .map_err(doing("preparing a store"))?;
            match self
                .window
                .receive(page * PAGE_SIZE, 8, self.guest.vmspace(), SOURCE)
            {
                Ok(_) => {}
                Err(Errno::EFAULT) => {
                    demand!(
                        self.holes.excuse(stamp),
                        "stores here were allowed, but a call said EFAULT"
                    );
                    return Ok(());
                }
                Err(errno) => return Err(Problem::Refused("storing by a call", errno)),
            }
        }
        Ok(())
    }
}

pub fn play(team: &mut Team) -> Outcome {
    let stage = Arc::new(Stage::new()?);
    for member in 0..team.helpers() {
        let stage = Arc::clone(&stage);
        team.helper("who stores", move |random| stage.store(member, random))?;
    }
    let sabotaged = team.sabotaged();
    team.lead(|random| stage.forbid(random, sabotaged))
}
