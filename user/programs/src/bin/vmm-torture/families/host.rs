//! Ordinary threads beside the guests of the same process, and another process: what they compute, what their memory and registers have,
//! and what users of soft vmspaces see, is as if there were no guest mode.

use alloc::sync::Arc;
use core::time::Duration;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::Protection;
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, Problem, doing};
use dragonet_programs::torture::signature::Signature;
use dragonet_programs::torture::stage::run;
use dragonet_programs::torture::team::Team;
use dragonet_programs::vm::{Guest, Ram, Seen, code, fixed};
use dragonet_rt::extended_state::ExtendedState;
use dragonet_rt::process::Command;
use dragonet_rt::{thread, time};

const OWNER: u8 = 0x40;
const PAGES: u64 = 8;
const SPACE: u64 = 5 << 40;
const NEXT_PAGE: u64 = Signature::new(0, 1, 0).0 - Signature::new(0, 0, 0).0;

struct Worker {
    ram: Ram,
    guest: Guest,
}

impl Worker {
    fn new() -> Outcome<Self> {
        let ram = Ram::new(PAGES * PAGE_SIZE).map_err(doing("making the memory"))?;
        let guest = Guest::new().map_err(doing("making a guest"))?;
        let protection = Protection::READ | Protection::WRITE;
        guest
            .map(&fixed(SPACE, PAGES * PAGE_SIZE, protection, ram.object(), 0))
            .map_err(doing("mapping the memory"))?;
        Ok(Worker { ram, guest })
    }

    fn work(&self, random: &mut Random, sabotaged: bool) -> Outcome {
        let canaries = ExtendedState::filled(|| random.next_number());
        canaries.load();
        let first = Signature::new(OWNER, 0, random.next_number() as u32).0;
        let state = run(
            self.guest.vmspace(),
            code::store_pages(SPACE, first, NEXT_PAGE, PAGES),
            random,
        )?;
        demand!(
            matches!(Seen::of(&state), Seen::Value(_)),
            "a user that stores into its memory ended so: {state:x?}"
        );
        for page in 0..PAGES {
            let seen = self.ram.load(page * PAGE_SIZE).map_err(doing("loading"))?;
            let wanted = Signature(first + page * NEXT_PAGE + u64::from(sabotaged));
            demand!(
                seen == wanted.0,
                "page {page} has {} in place of {wanted}",
                Signature(seen)
            );
        }
        thread::yield_now();
        let difference = canaries.difference(&ExtendedState::now());
        demand!(
            difference.is_none(),
            "extended registers differ at byte {difference:?} of the area"
        );
        let before = time::now();
        time::sleep(Duration::from_micros(50));
        let after = time::now();
        demand!(after >= before, "the clock went from {before:?} to {after:?}");
        Ok(())
    }
}

/// Another program says what it must.
fn process() -> Outcome {
    let failed = |what: &dyn core::fmt::Display| Problem::Wrong(alloc::format!("a process beside: {what}"));
    let child = Command::new("sleep")
        .argument("0.01")
        .spawn()
        .map_err(|error| failed(&error))?;
    let ending = child.wait().map_err(|errno| failed(&errno))?;
    demand!(ending.status() == 0, "a process beside ended so: {ending}");
    Ok(())
}

pub fn play(team: &mut Team) -> Outcome {
    let sabotaged = team.sabotaged();
    for _ in 0..team.helpers() {
        let worker = Arc::new(Worker::new()?);
        team.helper("who works", move |random| worker.work(random, sabotaged))?;
    }
    team.lead(|random| {
        if random.below(8) == 0 {
            process()?;
        }
        Ok(())
    })
}
