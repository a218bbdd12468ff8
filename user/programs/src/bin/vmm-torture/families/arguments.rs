//! Calls of guest mode with all kinds of wrong arguments, from threads in and out of it: each has its error, and nothing happens.

use crate::guest_mode::{inside, wander};
use crate::users::Space;
use alloc::sync::Arc;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::Advice;
use dragonet_abi::vmm::{GUEST_MASTER, GUEST_PHYSICAL_END, GuestOptions, VMM_LEAVE, VMM_RUN};
use dragonet_abi::vmspace::{RegisterFrame, RunState, VMSPACE_CTL_RUN};
use dragonet_abi::{Errno, SyscallNumber};
use dragonet_programs::demand;
use dragonet_programs::random::Random;
use dragonet_programs::torture::problem::{Outcome, doing};
use dragonet_programs::torture::team::Team;
use dragonet_rt::guest::IdentityMap;

use crate::raw::refused;

/// Where nothing is mapped, where nobody may look, and where no address is.
const NOWHERE: u64 = 0x3000_0000_0000;
const KERNEL: u64 = 0xffff_8000_0000_0000;
const HOLE: u64 = 1 << 47;

fn options(cr3: u64, flags: u32, reserved: u32) -> GuestOptions {
    GuestOptions { cr3, flags, reserved }
}

/// A root that cannot be.
fn bad_root(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => 0,
        1 => 1 + random.next_number() % (PAGE_SIZE - 1) | random.next_number() & !(PAGE_SIZE - 1),
        2 => GUEST_PHYSICAL_END + (random.next_number() & 0xffff_ffff_f000),
        _ => random.next_number() | 1 << 63,
    }
}

/// What a call must be refused with.
fn expect(what: &str, number: SyscallNumber, arguments: [u64; 3], errno: Errno) -> Outcome {
    let seen = refused(number, arguments);
    demand!(
        seen == Err(errno),
        "{what}, with {arguments:#x?}: {errno} expected, {seen:?} seen"
    );
    Ok(())
}

fn bad_pointer(random: &mut Random) -> u64 {
    [NOWHERE, KERNEL, HOLE, 8, !7][random.below(5) as usize]
}

/// Outside of guest mode.
fn outside(root: u64, random: &mut Random) -> Outcome {
    use SyscallNumber::{VmmGuestCtl, VmmGuestSyncAddr};
    match random.below(6) {
        0 => {
            let operation = 3 + random.next_number() % 1000;
            expect("no such operation", VmmGuestCtl, [operation, 0, 0], Errno::EINVAL)
        }
        1 => expect("leaving", VmmGuestCtl, [VMM_LEAVE, 0, 0], Errno::EINVAL),
        2 => {
            let pointer = bad_pointer(random);
            expect(
                "options nowhere",
                VmmGuestCtl,
                [VMM_RUN, pointer, 0],
                Errno::EFAULT,
            )
        }
        3 => {
            let options = match random.below(2) {
                0 => options(root, 2 << random.below(30), 0),
                _ => options(root, GUEST_MASTER, 1 << random.below(32)),
            };
            let pointer = core::ptr::from_ref(&options) as u64;
            expect("bad options", VmmGuestCtl, [VMM_RUN, pointer, 0], Errno::EINVAL)
        }
        4 => {
            let options = options(bad_root(random), GUEST_MASTER, 0);
            let pointer = core::ptr::from_ref(&options) as u64;
            expect("a bad root", VmmGuestCtl, [VMM_RUN, pointer, 0], Errno::EINVAL)
        }
        _ => expect(
            "exchanging outside of guest mode",
            VmmGuestSyncAddr,
            [root, root, 0],
            Errno::EINVAL,
        ),
    }
}

/// In guest mode.
fn within(root: u64, random: &mut Random) -> Outcome {
    use SyscallNumber::{Madvise, VmmGuestCtl, VmmGuestSyncAddr, VmspaceCtl};
    let mut state = RunState::default();
    match random.below(8) {
        0 => {
            let options = options(root, GUEST_MASTER * random.below(2) as u32, 0);
            let pointer = core::ptr::from_ref(&options) as u64;
            expect("entering twice", VmmGuestCtl, [VMM_RUN, pointer, 0], Errno::EBUSY)
        }
        1 => {
            let operation = 3 + random.next_number() % 1000;
            expect("no such operation", VmmGuestCtl, [operation, 0, 0], Errno::EINVAL)
        }
        2 => {
            let pointer = core::ptr::from_mut(&mut state) as u64;
            let arguments = [bad_root(random), VMSPACE_CTL_RUN, pointer];
            expect("a user's bad root", VmspaceCtl, arguments, Errno::EINVAL)
        }
        3 => {
            let arguments = [root, VMSPACE_CTL_RUN, bad_pointer(random)];
            expect("a state nowhere", VmspaceCtl, arguments, Errno::EFAULT)
        }
        4 => {
            let bad = HOLE + (random.next_number() >> 1);
            let registers = &mut state.registers;
            match random.below(4) {
                0 => registers.rip = bad,
                1 => registers.rsp = bad,
                2 => registers.fs_base = bad,
                _ => registers.gs_base = bad,
            }
            let pointer = core::ptr::from_mut(&mut state) as u64;
            expect(
                "registers that cannot be",
                VmspaceCtl,
                [root, VMSPACE_CTL_RUN, pointer],
                Errno::EINVAL,
            )?;
            demand!(
                state.reason == 0 && state.registers != RegisterFrame::default(),
                "RUN was refused, but wrote {state:x?}"
            );
            Ok(())
        }
        5 => {
            let pointer = bad_pointer(random);
            expect(
                "an entry nowhere",
                VmmGuestSyncAddr,
                [pointer, root + 8, 0],
                Errno::EFAULT,
            )
        }
        6 => {
            let pointer = bad_pointer(random);
            expect(
                "a value nowhere",
                VmmGuestSyncAddr,
                [root + 8, pointer, 0],
                Errno::EFAULT,
            )
        }
        _ => {
            let (address, length) = match random.below(3) {
                0 => (1 + random.below(PAGE_SIZE - 1), PAGE_SIZE),
                1 => (HOLE - PAGE_SIZE, 2 * PAGE_SIZE),
                _ => (!0 << 47, u64::MAX),
            };
            let arguments = [address, length, Advice::Invalidate as u64];
            expect("invalidating what cannot be", Madvise, arguments, Errno::EINVAL)
        }
    }
}

pub fn play(team: &mut Team) -> Outcome {
    let map = Arc::new(IdentityMap::new().map_err(doing("making the identity map"))?);
    let (cpus, sabotaged) = (team.cpus(), team.sabotaged());
    let step = move |map: &IdentityMap, space: &Space, random: &mut Random| {
        for _ in 0..16 {
            outside(space.root(), random)?;
        }
        if sabotaged {
            return within(space.root(), random);
        }
        inside(map, || {
            for _ in 0..16 {
                wander(random, cpus)?;
                within(space.root(), random)?;
            }
            Ok(())
        })
    };
    for _ in 0..team.helpers() {
        let (map, space) = (Arc::clone(&map), Space::new(4)?);
        team.helper("who asks", move |random| step(&map, &space, random))?;
    }
    let space = Space::new(4)?;
    team.lead(|random| step(&map, &space, random))
}
