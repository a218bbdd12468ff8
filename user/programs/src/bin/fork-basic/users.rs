//! A vkernel's user that begins as a copy of the vkernel's own memory.

use crate::{Problem, demand, doing};
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::Errno;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::time::FOREVER;
use dragonet_abi::vmspace::{RUN_SYSCALL, RegisterFrame, RunState};
use dragonet_rt::memory::Mapping;
use dragonet_rt::process::fork_into;
use dragonet_rt::{syscall, system};

static WORD: AtomicU64 = AtomicU64::new(0);

/// What the user does: this program's own code on this program's own memory, as they were.
extern "C" fn user() -> ! {
    loop {
        WORD.fetch_add(1, Ordering::SeqCst);
        // The vkernel, which serves it, returns nothing.
        let _ = syscall::null();
    }
}

pub fn begins_as_a_copy() -> Result<(), Problem> {
    let stack = Mapping::anonymous(4 * PAGE_SIZE).map_err(doing("mapping a stack"))?;
    let system = system::handle().map_err(doing("asking for the system"))?;
    let vmspace = syscall::vmspace_create(system).map_err(doing("making a vmspace"))?;
    WORD.store(41, Ordering::SeqCst);
    fork_into(vmspace.get()).map_err(doing("filling a vmspace"))?;
    demand(
        fork_into(vmspace.get()) == Err(Errno::EBUSY),
        "a vmspace was filled twice",
    )?;
    WORD.store(0, Ordering::SeqCst);
    let mut state = RunState {
        registers: RegisterFrame {
            rip: user as *const () as u64,
            rsp: stack.address() + stack.length() - 8,
            ..RegisterFrame::default()
        },
        ..RunState::default()
    };
    for round in 1..=3 {
        state.timeout = FOREVER;
        syscall::vmspace_ctl_run(vmspace.get(), &mut state).map_err(doing("running the user"))?;
        if state.reason != RUN_SYSCALL {
            return Err(Problem::Wrong(alloc::format!(
                "the user came back with {state:x?}"
            )));
        }
        let mut bytes = [0; 8];
        syscall::vmspace_pread(vmspace.get(), &mut bytes, WORD.as_ptr() as u64)
            .map_err(doing("reading the user's memory"))?;
        demand(
            u64::from_le_bytes(bytes) == 41 + round && WORD.load(Ordering::SeqCst) == 0,
            "the user's word is not its own",
        )?;
    }
    syscall::vmspace_destroy(vmspace).map_err(|(_, errno)| Problem::Refused("destroying a vmspace", errno))
}
