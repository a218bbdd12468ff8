//! A vkernel's user that begins as a copy of the vkernel's own memory.

use crate::{Problem, demand, doing};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::time::FOREVER;
use dragonet_abi::vmspace::{EntryInfo, RUN_SYSCALL, RegisterFrame, RunState, VmspaceInfo};
use dragonet_abi::{Errno, Handle, Rights};
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
    check_listed(vmspace.get())?;
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
        demand(state.timeout == 0, "a RUN left a time-out behind")?;
        let mut bytes = [0; 8];
        syscall::vmspace_pread(vmspace.get(), &mut bytes, WORD.as_ptr() as u64)
            .map_err(doing("reading the user's memory"))?;
        demand(
            u64::from_le_bytes(bytes) == 41 + round && WORD.load(Ordering::SeqCst) == 0,
            "the user's word is not its own",
        )?;
    }
    let too = vmspace
        .duplicate(Rights::empty())
        .map_err(doing("duplicating a handle"))?;
    syscall::vmspace_destroy(vmspace)
        .map_err(|(_, errno)| Problem::Refused("destroying a vmspace", errno))?;
    demand(listed()?.is_empty(), "a vmspace that was destroyed is listed")?;
    drop(too);
    Ok(())
}

fn listed() -> Result<Vec<VmspaceInfo>, Problem> {
    system::guest_vmspaces(Handle::SELF_PROCESS).map_err(doing("listing vmspaces"))
}

/// The only vmspace of this program's users is listed once, however many handles there are, with what is in it; vmspaces of processes are
/// not listed.
fn check_listed(vmspace: Handle) -> Result<(), Problem> {
    let _own = syscall::process_vmspace(Handle::SELF_PROCESS).map_err(doing("asking for a vmspace"))?;
    let _too = syscall::handle_duplicate(vmspace, Rights::empty()).map_err(doing("duplicating a handle"))?;
    let mappings = system::mappings(vmspace).map_err(doing("listing mappings"))?;
    let pages = |of: fn(&EntryInfo) -> u64| mappings.iter().map(of).sum::<u64>();
    let listed = listed()?;
    let expected = VmspaceInfo {
        id: listed.first().map_or(0, |info| info.id),
        running: 0,
        mappings: mappings.len() as u64,
        mapped_bytes: pages(|mapping| mapping.end - mapping.start),
        resident_pages: pages(|mapping| mapping.mapped_pages),
        table_pages: listed.first().map_or(0, |info| info.table_pages),
    };
    demand(
        listed == [expected] && expected.id != 0 && expected.table_pages != 0 && expected.mappings != 0,
        "a vmspace is not listed as it is",
    )
}
