//! What each operation does.

use super::{ALLOW, Operation, ROOT};
use crate::tests::driver::cpu::Core;
use crate::tests::driver::guest::{BELOW, LAST, PAGES, ROOTS, TOPS};
use crate::tests::driver::pmap::Which;
use crate::tests::driver::vmspace::Vmspace;
use crate::tests::model::Mode;
use crate::tests::model::access::Outcome;
use crate::tests::universe::{self, VIRTUAL, address};
use dragonet_abi::memory::Vpte;
use std::sync::Arc;

impl Core {
    /// Does all operations, with accesses of whatever program runs in between.
    pub fn run(&mut self, operations: &[Operation]) {
        for operation in operations {
            self.set_mode(self.idle_mode());
            self.step();
            self.rig
                .hardware()
                .trace(|| format!("CPU {}: {operation:?}", self.index));
            self.operate(operation);
        }
    }

    /// Calls `work` with the space in `slot`, in the kernel.
    fn with_slot(&mut self, slot: usize, work: impl FnOnce(&mut Core, &Vmspace)) {
        self.set_mode(Mode::Kernel);
        if let Some(space) = self.rig.slot(slot) {
            work(self, &space);
            self.put(space);
        }
    }

    /// Calls `work` with the space that runs.
    fn with_own(&mut self, work: impl FnOnce(&mut Core, &Vmspace)) {
        if let Some(space) = self.space.clone() {
            work(self, &space);
            self.put(space);
        }
    }

    fn put_slot(&mut self, slot: usize, space: Option<Arc<Vmspace>>) {
        if let Some(before) = self.rig.replace_slot(slot, space) {
            self.put(before);
        }
    }

    fn operate(&mut self, operation: &Operation) {
        match *operation {
            Operation::Run(slot) => {
                let space = self.rig.slot(slot);
                self.switch_to(space);
            }
            Operation::Rest => self.switch_to(None),
            Operation::Replace(slot) => {
                let space = Vmspace::new(&self.rig, ROOT);
                self.put_slot(slot, Some(space));
            }
            Operation::Destroy(slot) => self.put_slot(slot, None),
            Operation::Fork(from, to) => {
                let mut child = None;
                self.with_slot(from, |core, space| child = Some(space.fork(core)));
                if child.is_some() {
                    self.put_slot(to, child);
                }
            }
            Operation::Access(first, count, write) => self.with_own(|core, space| {
                for page in first..first + count {
                    core.touch(space, page, write);
                }
            }),
            Operation::Unmap(slot, first, count) => {
                self.with_slot(slot, |core, space| {
                    space.unmap(core, &universe::range(first, count))
                });
            }
            Operation::Map(slot, first, count) => {
                self.with_slot(slot, |core, space| {
                    space.map(core, &universe::range(first, count))
                });
            }
            Operation::Protect(slot, first, count, allow) => {
                self.with_slot(slot, |core, space| {
                    space.protect(core, &universe::range(first, count), allow)
                });
            }
            Operation::Discard(slot, first, count) => {
                self.with_slot(slot, |core, space| {
                    space.discard(core, &universe::range(first, count))
                });
            }
            Operation::Invalidate(slot, first, count) => {
                self.with_slot(slot, |core, space| {
                    space.invalidate(core, &universe::range(first, count))
                });
            }
            Operation::MapDevice(slot, write) => {
                self.with_slot(slot, |core, space| space.map_device(core, write));
            }
            Operation::Resize(slot, which, larger) => {
                self.with_slot(slot, |core, space| space.resize(core, which, larger));
            }
            Operation::Collect(slot, first, count) => {
                self.with_slot(slot, |core, space| {
                    space.pmap.harvest(core, &universe::range(first, count));
                });
            }
            Operation::SetRoot(slot, root) => self.with_slot(slot, |core, space| space.set_root(core, root)),
            Operation::Edit((page, index), entry) => {
                let frame = self.rig.ram[page];
                self.rig.hardware().write_frame(frame, index, entry);
            }
            Operation::Harvest(slot, table) => self.harvest(slot, table),
            Operation::BuildGuest => self.with_own(Core::build_guest),
            Operation::EditGuest((table, page), target, write, global) => self.with_own(|core, space| {
                let flags = Vpte::VALID
                    | Vpte::USER
                    | if write { Vpte::WRITE } else { 0 }
                    | if global { Vpte::GLOBAL } else { 0 };
                core.store(space, LAST[table], page, address(target) | flags);
            }),
            Operation::InvalidateGuest(which, (table, page), target) => self.with_own(|core, space| {
                core.store(space, LAST[table], page, address(target) | ALLOW);
                core.set_mode(Mode::Kernel);
                space.invalidate_guest(core, which, page, 1);
            }),
            Operation::EditGuestRoot(root, top) => self.with_own(|core, space| {
                core.store(space, ROOTS[root], 0, address(TOPS[top]) | ALLOW);
            }),
            Operation::RenewGuestRoot(which, root, top) => self.with_own(|core, space| {
                core.store(space, ROOTS[root], 0, address(TOPS[top]) | ALLOW);
                core.set_mode(Mode::Kernel);
                space.invalidate_guest(core, which, 0, universe::PAGES);
            }),
            Operation::Load(which) => {
                self.set_mode(Mode::Kernel);
                self.load_structure(which);
            }
            Operation::Guest(which, root, ref accesses) => {
                self.with_own(|core, space| space.run_guest(core, which, root, accesses));
            }
        }
    }

    /// One access with its faults. True if it was completed.
    fn touch(&mut self, space: &Vmspace, page: usize, write: bool) -> bool {
        let address = address(page);
        for _ in 0..8 {
            self.set_mode(Mode::User);
            self.step();
            let choice = self.random();
            let outcome = self.rig.hardware().access(self.index, address, write, choice);
            if outcome == Outcome::Done {
                return true;
            }
            self.set_mode(Mode::Kernel);
            if space.handle_fault(self, Which::Regular, address, write).is_err() {
                return false;
            }
        }
        false
    }

    /// A store of this word to the memory of the process.
    fn store(&mut self, space: &Vmspace, page: usize, index: usize, word: u64) {
        if self.touch(space, page, true) {
            let mut hardware = self.rig.hardware();
            if let Some(frame) = hardware.oracle.writable_frame(space.id(), address(page)) {
                hardware.write_frame(frame.address, index, word);
            }
        }
    }

    fn build_guest(&mut self, space: &Vmspace) {
        for (index, root) in ROOTS.into_iter().enumerate() {
            self.store(space, root, 0, address(TOPS[index % TOPS.len()]) | ALLOW);
        }
        self.store(space, TOPS[0], 0, address(BELOW[0]) | ALLOW);
        self.store(space, BELOW[0], 0, address(BELOW[1]) | ALLOW);
        for page in 0..PAGES {
            let global = if page == 3 { Vpte::GLOBAL } else { 0 };
            self.store(space, LAST[0], page, address(page) | ALLOW | global);
        }
        for (distance, top) in (1..).zip(&TOPS[1..]) {
            self.store(space, *top, 0, address(*top) | ALLOW);
            for page in 1..PAGES {
                self.store(space, *top, page, address(page + distance) | ALLOW);
            }
        }
    }

    fn harvest(&mut self, slot: usize, table: usize) {
        let frame = self.rig.ram[table];
        for index in 0..4 {
            self.step();
            let mut hardware = self.rig.hardware();
            let entry = hardware.memory.word(frame, index);
            if entry & Vpte::DIRTY != 0 {
                hardware.write_frame(frame, index, entry & !Vpte::DIRTY);
            }
        }
        self.with_slot(slot, |core, space| {
            space.invalidate(core, &universe::range(VIRTUAL.start, VIRTUAL.len()));
        });
    }
}
