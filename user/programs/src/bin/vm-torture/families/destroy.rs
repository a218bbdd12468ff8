//! vmspaces that are destroyed while users run in them: the call waits for nobody, ends every run, and whoever runs sees its own memory
//! to the end.
//!
//! Some places have a vmspace each, with a page that says which. Helpers take a handle from a place, let go of the place, and run
//! users. The leader destroys the vmspaces or, where nobody runs for ever, just drops its handle, and puts new ones in their place.

use alloc::sync::Arc;
use alloc::vec::Vec;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::Protection;
use dragonet_abi::time::FOREVER;
use dragonet_abi::vmspace::{RUN_DESTROYED, RUN_SYSCALL, RUN_TIMEOUT};
use dragonet_abi::{Errno, Rights};
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, Problem, doing};
use dragonet_programs::torture::signature::Signature;
use dragonet_programs::torture::stage::run_uninterrupted;
use dragonet_programs::torture::team::Team;
use dragonet_programs::vm::{Guest, Ram, code, fixed};
use dragonet_rt::sync::Mutex;
use dragonet_rt::{OwnedHandle, syscall};

const OWNER: u8 = 8;
const PLACES: u64 = 4;
const ADDRESS: u64 = 25 << 30;

/// A vmspace and what its page says.
struct Space {
    vmspace: OwnedHandle,
    value: Signature,
    /// Users of it may run until it is destroyed.
    endless: bool,
}

impl Space {
    fn new(value: Signature, shown: Signature, endless: bool) -> Outcome<Self> {
        let guest = Guest::new().map_err(doing("making a guest"))?;
        let ram = Ram::new(PAGE_SIZE).map_err(doing("making the memory"))?;
        ram.store(0, shown.0).map_err(doing("writing the page"))?;
        guest
            .map(&fixed(ADDRESS, PAGE_SIZE, Protection::READ, ram.object(), 0))
            .map_err(doing("mapping the page"))?;
        Ok(Space {
            vmspace: guest.into_vmspace(),
            value,
            endless,
        })
    }
}

type Places = Vec<Mutex<Option<Space>>>;

/// Runs users of the vmspace of a place until they are done or it is gone.
fn use_one(places: &Places, random: &mut Random) -> Outcome {
    let (vmspace, value, endless) = {
        let place = places[random.below(PLACES) as usize].lock();
        let Some(space) = &*place else { return Ok(()) };
        let copy = space.vmspace.duplicate(Rights::RUN);
        (
            copy.map_err(doing("duplicating a handle"))?,
            space.value,
            space.endless,
        )
    };
    for _ in 0..1 + random.below(20) {
        let (registers, timeout) = match random.below(4) {
            0 => (code::spin(), 20_000 + random.below(300_000)),
            1 if endless => (code::spin(), FOREVER),
            _ => (code::load(ADDRESS), FOREVER),
        };
        match run_uninterrupted(vmspace.get(), registers, timeout) {
            Ok(state) if state.reason == RUN_TIMEOUT => {}
            Ok(state) if state.reason == RUN_DESTROYED => {
                let again = run_uninterrupted(vmspace.get(), registers, timeout).map(|state| state.reason);
                demand!(
                    again == Err(Errno::EBADF),
                    "a run after the end of the vmspace gave {again:?}"
                );
                return Ok(());
            }
            Ok(state) => {
                let seen = Signature(state.registers.rax);
                demand!(
                    state.reason == RUN_SYSCALL && seen == value,
                    "a user of the vmspace with {value} saw {seen} at the end of RUN with reason {}",
                    state.reason
                );
            }
            Err(Errno::EBADF) => return Ok(()),
            Err(errno) => return Err(Problem::Refused("running a user", errno)),
        }
    }
    Ok(())
}

/// Takes the vmspace of a place away.
fn retire(place: &mut Option<Space>, random: &mut Random) -> Outcome {
    match place.take() {
        Some(space) if space.endless || random.below(4) != 0 => syscall::vmspace_destroy(space.vmspace)
            .map_err(|(_, errno)| Problem::Refused("destroying a vmspace", errno)),
        _ => Ok(()),
    }
}

/// Takes the vmspace of a place away and puts a new one there.
fn replace(places: &Places, generation: &mut u32, random: &mut Random, sabotaged: bool) -> Outcome {
    let number = random.below(PLACES);
    let mut place = places[number as usize].lock();
    retire(&mut place, random)?;
    *generation += 1;
    let value = Signature::new(OWNER, number as u16, *generation);
    let shown = if sabotaged { value.previous() } else { value };
    *place = Some(Space::new(value, shown, random.below(2) == 0)?);
    Ok(())
}

pub fn play(team: &mut Team) -> Outcome {
    let places: Arc<Places> = Arc::new((0..PLACES).map(|_| Mutex::new(None)).collect());
    for _ in 0..team.helpers() {
        let places = Arc::clone(&places);
        team.helper("who runs", move |random| use_one(&places, random))?;
    }
    let mut generation = 0;
    let sabotaged = team.sabotaged();
    let outcome = team.lead(|random| replace(&places, &mut generation, random, sabotaged));
    // Whoever runs for ever comes back now.
    for place in &*places {
        retire(&mut place.lock(), team.random())?;
    }
    outcome
}
