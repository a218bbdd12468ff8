//! A guest: a thread of a process enters it with the process's nested page table and a page table of its own, and leaves it by
//! any exit.

use super::Rig;
use super::cpu::Core;
use super::pmap::{Nested, Which};
use super::vmspace::Vmspace;
use crate::tests::fault::{Fault, Phase, planted};
use crate::tests::machine::{SharedWord, SimulatedCpu};
use crate::tests::model::access::Outcome;
use crate::tests::model::{Guest, Mode};
use crate::tests::universe;
use crate::{GuestEntry, GuestMachine, Space};
use page_table::FlushSet;
use std::sync::Arc;

/// Roots that the guests of a process have: pages of its own.
pub const ROOTS: [usize; 3] = [8, 9, 10];
/// The tables below, from level 3 down, which the guests share.
pub const TABLES: [usize; 3] = [11, 12, 13];
/// Pages of the universe that a guest's table translates: the first ones.
pub const PAGES: usize = 4;

/// The spaces of the guests' linear addresses, one for each root.
pub struct GuestAddresses {
    spaces: [Space<SharedWord>; ROOTS.len()],
}

/// Entries that one run makes at most.
const MOST_ENTRIES: u32 = 32;

/// Why a guest was left.
enum Exit {
    Interrupt,
    /// Nothing to do any more.
    End,
    /// An EPT violation at a page, by a store or not.
    Nested(u64, bool),
}

impl GuestAddresses {
    pub fn new(rig: &Rig, process: u64) -> Self {
        let spaces = ROOTS.map(|_| Space::new(rig.fresh_id()));
        for (space, root) in spaces.iter().zip(ROOTS) {
            rig.hardware()
                .oracle
                .add_linear(space.id(), process, universe::address(root));
        }
        GuestAddresses { spaces }
    }

    /// Nobody is in a guest any more.
    pub fn end(self, rig: &Rig) {
        for space in &self.spaces {
            let active = space.active();
            assert_eq!(
                active,
                0,
                "guest {} goes away while CPUs {active:#b} are in it",
                space.id()
            );
            rig.retire_id(space.id());
        }
    }
}

impl Vmspace {
    /// `madvise(MADV_INVAL)` of a vkernel for a guest's pages, on a CPU that is not in the guest.
    pub fn invalidate_guest(&self, core: &mut Core, which: usize, first: usize, count: usize) {
        let space = &self.guests.spaces[which];
        let since = core.rig.hardware().oracle.now();
        let range = universe::range(first, count);
        let mut set = FlushSet::nothing();
        universe::pages_in(&range).for_each(|page| set.add(page));
        core.step();
        core.irqs_off();
        core.rig.hardware().note_invalidation(core.index, space.id());
        if planted(Fault::InvalidateGuestHereOnly) {
            let rig = Arc::clone(&core.rig);
            let machine = SimulatedCpu {
                rig: &rig,
                cpu: core.index,
            };
            if let Some((tag, _)) = core.local().guests.known(space.id()) {
                universe::pages_in(&range).for_each(|page| machine.flush_guest_page(tag, page));
            }
        } else {
            core.protocol(Phase::Invalidate, |cpu| cpu.invalidate_guest(space, &set));
        }
        core.irqs_on();
        core.rig.hardware().promise(space.id(), &range, since);
    }

    /// A guest's program makes these accesses, one after the other.
    pub fn run_guest(&self, core: &mut Core, which: usize, accesses: &[(usize, bool)]) {
        core.set_mode(Mode::Kernel);
        let nested = self.pmap.nested(core);
        let mut rest = accesses;
        for _ in 0..MOST_ENTRIES {
            match self.enter_guest(core, which, &nested, &mut rest) {
                Exit::Interrupt => {}
                Exit::End => break,
                Exit::Nested(physical, write) => {
                    if self.handle_fault(core, Which::Nested, physical, write).is_err() {
                        rest = &rest[1..];
                    }
                }
            }
        }
        core.set_mode(core.idle_mode());
    }

    /// One entry, accesses until something ends it, one exit.
    fn enter_guest(
        &self,
        core: &mut Core,
        which: usize,
        nested: &Nested,
        rest: &mut &[(usize, bool)],
    ) -> Exit {
        let rig = Arc::clone(&core.rig);
        let linear = &self.guests.spaces[if planted(Fault::ShareGuestTag) { 0 } else { which }];
        let entry = GuestEntry {
            nested: &nested.space,
            nested_root: nested.root,
            linear,
            root: universe::address(ROOTS[which]),
        };
        let spaces = [nested.space.id(), linear.id()];
        core.set_mode(Mode::Kernel);
        core.irqs_off();
        spaces
            .iter()
            .for_each(|&space| rig.hardware().note_use(core.index, space, true));
        let identifiers = rig.hardware().features.guest_pcids;
        let tag = core.protocol(Phase::EnterGuest, |cpu| cpu.enter_guest(&entry, identifiers));
        if planted(Fault::ServeBeforeEntry) {
            for _ in 0..8 {
                core.rig.step();
                core.serve();
            }
        }
        core.rig.step();
        let guest = Guest {
            vpid: tag.tag,
            pcid: tag.identifier,
            nested: nested.root,
            nested_allocation: 0,
            root: universe::address(ROOTS[which]),
            process: self.id(),
            linear: self.guests.spaces[which].id(),
        };
        rig.hardware().enter_guest(core.index, guest);
        if planted(Fault::LeaveBeforeExit) {
            core.protocol(Phase::Other, |cpu| cpu.leave_guest(&entry));
        }
        let exit = self.in_guest(core, rest);
        rig.hardware().leave_guest(core.index);
        if !planted(Fault::LeaveBeforeExit) {
            core.protocol(Phase::Other, |cpu| cpu.leave_guest(&entry));
        }
        spaces
            .iter()
            .for_each(|&space| rig.hardware().note_use(core.index, space, false));
        core.irqs_on();
        exit
    }

    /// From the entry to the exit. An interrupt ends it before anything is done if it has arrived already.
    fn in_guest(&self, core: &mut Core, rest: &mut &[(usize, bool)]) -> Exit {
        loop {
            core.rig.step();
            let mut hardware = core.rig.hardware();
            hardware.cpus[core.index].mode = Mode::Kernel;
            if hardware.is_interrupted(core.index) {
                hardware.count("kicked out");
                return Exit::Interrupt;
            }
            let Some((&(page, write), behind)) = rest.split_first() else {
                return Exit::End;
            };
            hardware.set_mode(core.index, Mode::User);
            match hardware.access(core.index, universe::address(page), write, core.random()) {
                Outcome::Done | Outcome::Fault => *rest = behind,
                Outcome::NestedFault(physical, write) => {
                    hardware.cpus[core.index].mode = Mode::Kernel;
                    return Exit::Nested(physical, write);
                }
            }
        }
    }
}
