//! New roots while users run: once `MADV_SETMAP` has returned nobody sees what the old root shows.
//!
//! A few tables take turns. Each shows a page of its own, with a word that grows whenever the table's turn comes.

use alloc::sync::Arc;
use alloc::vec::Vec;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, doing};
use dragonet_programs::torture::signature::Signature;
use dragonet_programs::torture::stage::{Limits, Sight};
use dragonet_programs::torture::team::Team;
use dragonet_programs::vm::{ALLOW, Guest, PageTable, Ram};

const OWNER: u8 = 2;
/// Addresses at which every root shows its page, in directories of their own.
const ADDRESSES: [u64; 3] = [5 << 30, (5 << 30) + (3 << 21), 600 << 30];
const SPACE: u64 = 1 << 30;
const LENGTH: u64 = 1 << 40;
const ROOTS: usize = 3;

struct Stage {
    limits: Limits,
    ram: Ram,
    /// Tables and their pages.
    roots: Vec<(PageTable, u64)>,
    guests: Vec<Guest>,
}

impl Stage {
    fn new() -> Outcome<Self> {
        let limits = Limits::new()?;
        let ram = Ram::new(256 * PAGE_SIZE).map_err(doing("making the memory"))?;
        let mut roots = Vec::new();
        for _ in 0..ROOTS {
            let table = PageTable::new(&ram).map_err(doing("making a table"))?;
            let page = ram.page().map_err(doing("taking a page"))?;
            for address in ADDRESSES {
                table
                    .map(&ram, address, page | ALLOW)
                    .map_err(doing("setting an entry"))?;
            }
            roots.push((table, page));
        }
        let first = Signature::new(OWNER, 0, 0);
        limits.announce(0, first)?;
        limits.publish(0, first)?;
        ram.store(roots[0].1, first.0).map_err(doing("writing a value"))?;
        let mut guests = Vec::new();
        for _ in 0..2 {
            let guest = Guest::new().map_err(doing("making a guest"))?;
            guest
                .map_table(&ram, SPACE, LENGTH, SPACE, roots[0].0.root())
                .map_err(doing("mapping a table"))?;
            limits.show_to(&guest)?;
            guests.push(guest);
        }
        Ok(Stage {
            limits,
            ram,
            roots,
            guests,
        })
    }

    fn watch(&self, random: &mut Random) -> Outcome {
        let guest = &self.guests[random.below(self.guests.len() as u64) as usize];
        let address = ADDRESSES[random.below(ADDRESSES.len() as u64) as usize];
        let sight = self.limits.watch(guest.vmspace(), address, 0, random)?;
        demand!(
            sight == Sight::Fine,
            "every root has a page at {address:#x}, but a user saw {sight:?}"
        );
        Ok(())
    }
}

pub fn play(team: &mut Team) -> Outcome {
    let stage = Arc::new(Stage::new()?);
    for _ in 0..team.helpers() {
        let stage = Arc::clone(&stage);
        team.helper("who watches", move |random| stage.watch(random))?;
    }
    let sabotaged = team.sabotaged();
    let mut turn = 0;
    let mut value = Signature::new(OWNER, 0, 0);
    team.lead(|_| {
        turn = (turn + 1) % ROOTS;
        value = value.next();
        let (table, page) = stage.roots[turn];
        stage.limits.announce(0, value)?;
        stage.ram.store(page, value.0).map_err(doing("writing a value"))?;
        for (number, guest) in stage.guests.iter().enumerate() {
            if !sabotaged || number > 0 {
                guest
                    .set_root(SPACE, LENGTH, table.root())
                    .map_err(doing("setting a root"))?;
            }
        }
        stage.limits.publish(0, value)
    })
}
