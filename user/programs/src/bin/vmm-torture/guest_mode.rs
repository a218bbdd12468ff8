//! In and out of guest mode.

use dragonet_abi::process::ThreadControl;
use dragonet_abi::{Errno, Handle};
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, doing};
use dragonet_rt::guest::IdentityMap;
use dragonet_rt::processor::is_guest;
use dragonet_rt::{syscall, thread};

/// Runs `action` in guest mode. Whoever finds no guest of this process becomes the master, and two who try at once find each other.
pub fn inside<R>(map: &IdentityMap, mut action: impl FnMut() -> Outcome<R>) -> Outcome<R> {
    demand!(!is_guest(), "a thread is in guest mode before it has entered it");
    let mut master = false;
    let result = loop {
        match map.run(master, &mut action) {
            Err(Errno::ENOENT) if !master => master = true,
            Err(Errno::EBUSY) if master => master = false,
            outcome => break outcome.map_err(doing("entering or leaving guest mode"))?,
        }
    };
    demand!(!is_guest(), "a thread is in guest mode after it has left it");
    result
}

/// Goes to a CPU, or lets the kernel choose.
pub fn wander(random: &mut Random, cpus: u64) -> Outcome {
    let choice = random.below(4 * cpus);
    let affinity = match choice {
        choice if choice < cpus => 1 << choice,
        choice if choice < 2 * cpus => u64::MAX,
        _ => return Ok(()),
    };
    syscall::thread_control(Handle::SELF_THREAD, ThreadControl::SetAffinity, affinity)
        .map_err(doing("going to another CPU"))?;
    if choice < cpus {
        let here = thread::current_cpu();
        demand!(
            here == choice,
            "a thread that may run on CPU {choice} alone is on CPU {here}"
        );
    }
    Ok(())
}
