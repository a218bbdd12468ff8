//! A guest: a thread of a process enters it with the process's nested page table and one of the guest's own page tables, and leaves it
//! by any exit.

use super::Rig;
use super::cpu::Core;
use super::pmap::{Nested, Which};
use super::vmspace::Vmspace;
use crate::tests::fault::{Fault, Phase, planted};
use crate::tests::machine::{SharedWord, SimulatedCpu};
use crate::tests::model::access::Outcome;
use crate::tests::model::{Guest, Mode};
use crate::tests::universe;
use crate::{GuestEntry, GuestMachine, GuestTag, Space};
use page_table::FlushSet;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Guests of a process, more than a CPU remembers.
pub const GUESTS: usize = 3;
/// Root tables under which each of them may run: pages of the process, more than there are identifiers.
pub const ROOTS: [usize; 4] = [7, 8, 9, 10];
/// The tables of level 3 that a root may point to: each leads the same pages to other places.
pub const TOPS: [usize; 3] = [11, 14, 15];
/// What is below the first of them. Each of the others is its own table of level 2 and 1 too, by its entry 0.
pub const BELOW: [usize; 2] = [12, 13];
/// Last tables, by the number of the table of level 3.
pub const LAST: [usize; 3] = [BELOW[1], TOPS[1], TOPS[2]];
/// Pages of the universe that a guest's table translates: the first ones.
pub const PAGES: usize = 4;

/// A guest's linear addresses under all its roots.
struct Linear {
    space: Space<SharedWord>,
    /// For a planted fault: what each root was first entered under.
    first_tags: Mutex<BTreeMap<usize, GuestTag>>,
}

/// The linear addresses of all guests of a process.
pub struct GuestAddresses([Linear; GUESTS]);

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
        GuestAddresses(std::array::from_fn(|_| {
            let space = Space::new(rig.fresh_id());
            let roots = ROOTS.map(universe::address).to_vec();
            rig.hardware().oracle.add_linear(space.id(), process, roots);
            Linear {
                space,
                first_tags: Mutex::default(),
            }
        }))
    }

    /// Nobody is in a guest any more.
    pub fn end(self, rig: &Rig) {
        for Linear { space, .. } in &self.0 {
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
        let space = &self.guests.0[which].space;
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

    /// A guest's program makes these accesses under one of its roots, one after the other.
    pub fn run_guest(&self, core: &mut Core, which: usize, root: usize, accesses: &[(usize, bool)]) {
        core.set_mode(Mode::Kernel);
        let nested = self.pmap.nested(core);
        let mut rest = accesses;
        for _ in 0..MOST_ENTRIES {
            match self.enter_guest(core, (which, root), &nested, &mut rest) {
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

    /// The root that the protocol is told in place of this one.
    fn told_root(root: usize, identifiers: bool) -> usize {
        match identifiers {
            true if planted(Fault::ReuseIdentifier) => root % 2,
            false if planted(Fault::SkipRootFlush) => 0,
            _ => root,
        }
    }

    /// What a guest is entered under in place of `tag`.
    fn used_tag(&self, which: usize, root: usize, tag: GuestTag) -> GuestTag {
        if planted(Fault::IgnoreIdentifiers) {
            return GuestTag { identifier: 1, ..tag };
        }
        if planted(Fault::KeepGuestTag) {
            let mut first = self.guests.0[which].first_tags.lock().expect("nobody panics");
            return *first.entry(root).or_insert(tag);
        }
        tag
    }

    /// One entry, accesses until something ends it, one exit.
    fn enter_guest(
        &self,
        core: &mut Core,
        (which, root): (usize, usize),
        nested: &Nested,
        rest: &mut &[(usize, bool)],
    ) -> Exit {
        let rig = Arc::clone(&core.rig);
        let identifiers = rig.hardware().features.guest_pcids;
        let linear = &self.guests.0[if planted(Fault::ShareGuestTag) { 0 } else { which }].space;
        let entry = GuestEntry {
            nested: &nested.space,
            nested_root: nested.root,
            linear,
            root: universe::address(ROOTS[Self::told_root(root, identifiers)]),
        };
        let spaces = [nested.space.id(), linear.id()];
        core.set_mode(Mode::Kernel);
        core.irqs_off();
        spaces
            .iter()
            .for_each(|&space| rig.hardware().note_use(core.index, space, true));
        let tag = core.protocol(Phase::EnterGuest, |cpu| cpu.enter_guest(&entry, identifiers));
        let tag = self.used_tag(which, root, tag);
        if core.change_guest_root(linear.id(), root) {
            rig.hardware().count(match tag.identifier {
                0 => "root changed without identifiers",
                1 => "root changed to the first identifier",
                _ => "root changed to another identifier",
            });
        }
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
            root: universe::address(ROOTS[root]),
            process: self.id(),
            linear: self.guests.0[which].space.id(),
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
