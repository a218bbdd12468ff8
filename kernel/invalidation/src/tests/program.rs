//! Random programs: what each CPU does, one operation after the other.

use super::driver::cpu::Core;
use super::driver::guest::{PAGES, ROOTS, TABLES};
use super::driver::pmap::Which;
use super::driver::vmspace::Vmspace;
use super::driver::{RAM_PAGES, SLOTS};
use super::model::Mode;
use super::model::access::Outcome;
use super::universe::{self, DEVICE, PRIVATE, VIRTUAL, address};
use dragonet_abi::memory::Vpte;
use proptest::prelude::*;
use std::fmt;
use std::sync::Arc;

/// A word of the virtual page tables: page and index.
pub type Place = (usize, usize);

/// One operation of a program or of the kernel of virtual machines that manages it. Spaces are named by slot.
#[derive(Clone, Debug)]
pub enum Operation {
    /// The CPU runs the space, or with an empty slot the kernel's own table.
    Run(usize),
    /// The CPU runs the kernel's own table.
    Rest,
    /// A new space takes the slot; the one that was there goes when nobody runs it any more.
    Replace(usize),
    /// The slot becomes empty.
    Destroy(usize),
    /// A copy of the first space takes the second slot.
    Fork(usize, usize),
    /// Loads, or stores, of the program that runs.
    Access(usize, usize, bool),
    Unmap(usize, usize, usize),
    /// New memory takes the place of what is there.
    Map(usize, usize, usize),
    Protect(usize, usize, usize, bool),
    Discard(usize, usize, usize),
    /// `MADV_INVAL`.
    Invalidate(usize, usize, usize),
    /// `MADV_SETMAP`.
    SetRoot(usize, u64),
    /// The device is mapped anew, for stores or not.
    MapDevice(usize, bool),
    /// One of its large pages is split or put together.
    Resize(usize, u64, bool),
    /// Dirty flags of the page table are collected.
    Collect(usize, usize, usize),
    /// A virtual page table is changed, without an invalidation.
    Edit(Place, u64),
    /// Dirty flags are taken from some entries, and their pages invalidated in one space.
    Harvest(usize, usize),
    /// A process writes a page table for its guests.
    BuildGuest,
    /// A process changes an entry of its guests' last table.
    EditGuest(usize, usize, bool, bool),
    /// A process changes an entry and invalidates it for both guests.
    InvalidateGuest(usize, usize),
    /// A process runs a guest, which makes these accesses.
    Guest(usize, Vec<(usize, bool)>),
}

/// What all CPUs do, and what CPUs there are.
#[derive(Clone, Debug)]
pub struct Program {
    pub pcids: bool,
    pub vpids: bool,
    pub cpus: Vec<Vec<Operation>>,
}

const ALLOW: u64 = Vpte::VALID | Vpte::WRITE | Vpte::USER;
/// A virtual page table as it is at first: root in page 0, then 1, 2, and for the two last tables 3 and 4.
pub const ROOT: u64 = ALLOW;
/// First page that is no table.
const FIRST_DATA: u64 = 7;

/// The words of the first virtual page table.
pub fn first_table() -> Vec<(Place, u64)> {
    let mut words = vec![
        ((0, 0), 1 << 12 | ALLOW),
        ((1, 0), 2 << 12 | ALLOW),
        ((2, 0), 3 << 12 | ALLOW),
        ((2, 1), 4 << 12 | ALLOW),
        // Another root, which shares all but one table.
        ((5, 0), 6 << 12 | ALLOW),
        ((6, 0), 2 << 12 | ALLOW),
    ];
    for index in 0..4 {
        words.push(((3, index), (FIRST_DATA + index as u64) << 12 | ALLOW));
        words.push(((4, index), (FIRST_DATA + 4 - index as u64) << 12 | ALLOW));
    }
    words
}

/// Operations of a CPU at most, the first ones aside.
const OPERATIONS: usize = 16;

fn slot() -> impl Strategy<Value = usize> {
    prop_oneof![5 => Just(0usize), 1 => Just(1usize), 1 => Just(SLOTS - 1)]
}

/// First page and number of pages.
fn span_of(pages: std::ops::Range<usize>) -> impl Strategy<Value = (usize, usize)> {
    let end = pages.end;
    (
        pages,
        prop_oneof![4 => 1..3usize, 2 => 3..9usize, 1 => 16..17usize],
    )
        .prop_map(move |(first, count)| (first, count.min(end - first)))
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        1 => Just((0, 0)),
        1 => Just((1, 0)),
        2 => (0..2usize).prop_map(|index| (2, index)),
        6 => (3..5usize, 0..4usize),
        1 => (5..7usize).prop_map(|page| (page, 0)),
    ]
}

/// An entry at this place: as a rule one of the right kind.
fn entry(place: Place) -> impl Strategy<Value = u64> {
    let target = match place.0 {
        0 | 5 => prop_oneof![Just(1u64), Just(6)].boxed(),
        1 | 6 => Just(2u64).boxed(),
        2 => prop_oneof![Just(3u64), Just(4)].boxed(),
        _ => (FIRST_DATA..RAM_PAGES as u64).boxed(),
    };
    let large = if place.0 == 2 { 1 } else { 0 };
    prop_oneof![
        6 => target.clone().prop_map(|page| page << 12 | ALLOW),
        2 => target.clone().prop_map(|page| page << 12 | ALLOW | Vpte::DIRTY),
        2 => target.prop_map(|page| page << 12 | ALLOW & !Vpte::WRITE),
        1 => Just(0),
        large => Just(ALLOW | Vpte::LARGE),
    ]
}

fn access() -> impl Strategy<Value = Operation> {
    (span_of(0..DEVICE.start), any::<bool>())
        .prop_map(|((first, count), write)| Operation::Access(first, count.min(4), write))
}

/// What programs are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Private memory.
    Memory,
    /// Forks, and stores to what they share.
    Copies,
    /// Virtual page tables.
    Virtual,
    /// Guests and the memory of their processes.
    Guests,
    /// Large pages, and dirty flags.
    Sizes,
}

fn management() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => slot().prop_map(Operation::Run),
        1 => Just(Operation::Rest),
        1 => slot().prop_map(Operation::Replace),
        1 => slot().prop_map(Operation::Destroy),
        2 => (slot(), slot()).prop_map(|(from, to)| Operation::Fork(from, to)),
    ]
}

fn memory() -> impl Strategy<Value = Operation> {
    let range = || (slot(), span_of(PRIVATE));
    prop_oneof![
        range().prop_map(|(slot, (first, count))| Operation::Unmap(slot, first, count)),
        range().prop_map(|(slot, (first, count))| Operation::Map(slot, first, count)),
        (range(), any::<bool>())
            .prop_map(|((slot, (first, count)), allow)| Operation::Protect(slot, first, count, allow)),
        range().prop_map(|(slot, (first, count))| Operation::Discard(slot, first, count)),
    ]
}

fn virtual_tables() -> impl Strategy<Value = Operation> {
    let roots = prop_oneof![Just(ROOT), Just(5 << 12 | ALLOW), Just(ALLOW | Vpte::LARGE)];
    prop_oneof![
        3 => (slot(), span_of(VIRTUAL)).prop_map(|(slot, (first, count))| Operation::Invalidate(slot, first, count)),
        1 => (slot(), roots).prop_map(|(slot, root)| Operation::SetRoot(slot, root)),
        4 => place().prop_flat_map(|place| (Just(place), entry(place)))
            .prop_map(|(place, entry)| Operation::Edit(place, entry)),
        2 => (slot(), 3..5usize).prop_map(|(slot, table)| Operation::Harvest(slot, table)),
    ]
}

fn guests() -> impl Strategy<Value = Operation> {
    let accesses = prop::collection::vec((0..PAGES, any::<bool>()), 1..6);
    prop_oneof![
        1 => Just(Operation::BuildGuest),
        2 => (0..PAGES, PRIVATE, any::<bool>(), any::<bool>())
            .prop_map(|(page, target, write, global)| Operation::EditGuest(page, target, write, global)),
        3 => (0..PAGES, 0..PAGES).prop_map(|(page, target)| Operation::InvalidateGuest(page, target)),
        8 => (0..ROOTS.len(), accesses).prop_map(|(which, accesses)| Operation::Guest(which, accesses)),
    ]
}

fn sizes() -> impl Strategy<Value = Operation> {
    let range = || (slot(), span_of(DEVICE));
    prop_oneof![
        1 => (slot(), any::<bool>()).prop_map(|(slot, write)| Operation::MapDevice(slot, write)),
        2 => (slot(), 0..2u64, any::<bool>())
            .prop_map(|(slot, which, larger)| Operation::Resize(slot, which, larger)),
        2 => range().prop_map(|(slot, (first, count))| Operation::Collect(slot, first, count)),
        1 => range().prop_map(|(slot, (first, count))| Operation::Unmap(slot, first, count)),
        2 => (range(), any::<bool>())
            .prop_map(|((slot, (first, count)), allow)| Operation::Protect(slot, first, count, allow)),
        8 => (span_of(DEVICE), any::<bool>())
            .prop_map(|((first, count), write)| Operation::Access(first, count.min(4), write)),
    ]
}

/// All about few pages of two spaces.
fn copies() -> impl Strategy<Value = Operation> {
    prop_oneof![
        2 => Just(Operation::Run(0)),
        1 => Just(Operation::Run(1)),
        3 => Just(Operation::Fork(0, 1)),
        1 => (0..2usize, 0..2usize).prop_map(|(from, to)| Operation::Fork(from, to)),
        9 => (0..2usize, prop::bool::weighted(0.9))
            .prop_map(|(page, write)| Operation::Access(page, 1, write)),
        1 => (0..2usize, 0..2usize).prop_map(|(slot, page)| Operation::Discard(slot, page, 1)),
        1 => (0..2usize, 0..2usize, any::<bool>())
            .prop_map(|(slot, page, allow)| Operation::Protect(slot, page, 1, allow)),
    ]
}

fn operation(subject: Subject) -> BoxedStrategy<Operation> {
    match subject {
        Subject::Memory => {
            prop_oneof![5 => management(), 7 => access(), 8 => memory(), 1 => virtual_tables()].boxed()
        }
        Subject::Copies => copies().boxed(),
        Subject::Virtual => {
            prop_oneof![3 => management(), 7 => access(), 1 => memory(), 8 => virtual_tables()].boxed()
        }
        Subject::Sizes => prop_oneof![3 => management(), 1 => access(), 1 => memory(), 14 => sizes()].boxed(),
        Subject::Guests => {
            prop_oneof![3 => management(), 2 => access(), 5 => memory(), 12 => guests()].boxed()
        }
    }
}

/// What a CPU does: as a rule it first runs a space and touches something.
fn operations(subject: Subject) -> BoxedStrategy<Vec<Operation>> {
    let start = (slot(), access()).prop_map(move |(slot, access)| match subject {
        Subject::Guests => vec![Operation::Run(slot), Operation::BuildGuest],
        _ => vec![Operation::Run(slot), access],
    });
    let more = prop::collection::vec(operation(subject), 1..=OPERATIONS);
    (start, more)
        .prop_map(|(mut all, more)| {
            all.extend(more);
            all
        })
        .boxed()
}

/// Programs for up to four CPUs.
pub fn program(subject: Subject) -> impl Strategy<Value = Program> {
    let cpus = prop_oneof![1 => 1..2usize, 4 => 2..4usize, 2 => 4..5usize];
    let cpus = cpus.prop_flat_map(move |cpus| prop::collection::vec(operations(subject), cpus));
    (prop::bool::weighted(0.8), prop::bool::weighted(0.8), cpus).prop_map(|(pcids, vpids, cpus)| Program {
        pcids,
        vpids,
        cpus,
    })
}

impl Subject {
    pub const ALL: [Subject; 5] = [
        Subject::Memory,
        Subject::Copies,
        Subject::Virtual,
        Subject::Guests,
        Subject::Sizes,
    ];

    /// By its name in small letters.
    pub fn named(name: &str) -> Option<Subject> {
        Self::ALL
            .into_iter()
            .find(|subject| format!("{subject:?}").eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Program {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "PCIDs {}, VPIDs {}", self.pcids, self.vpids)?;
        for (cpu, operations) in self.cpus.iter().enumerate() {
            writeln!(formatter, "CPU {cpu}: {operations:?}")?;
        }
        Ok(())
    }
}

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
            Operation::EditGuest(page, target, write, global) => self.with_own(|core, space| {
                let flags = Vpte::VALID
                    | Vpte::USER
                    | if write { Vpte::WRITE } else { 0 }
                    | if global { Vpte::GLOBAL } else { 0 };
                core.store(space, TABLES[2], page, address(target) | flags);
            }),
            Operation::InvalidateGuest(page, target) => self.with_own(|core, space| {
                core.store(space, TABLES[2], page, address(target) | ALLOW);
                core.set_mode(Mode::Kernel);
                for which in 0..ROOTS.len() {
                    space.invalidate_guest(core, which, page, 1);
                }
            }),
            Operation::Guest(which, ref accesses) => {
                self.with_own(|core, space| space.run_guest(core, which, accesses));
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
        for root in ROOTS {
            self.store(space, root, 0, address(TABLES[0]) | ALLOW);
        }
        self.store(space, TABLES[0], 0, address(TABLES[1]) | ALLOW);
        self.store(space, TABLES[1], 0, address(TABLES[2]) | ALLOW);
        for page in 0..PAGES {
            self.store(space, TABLES[2], page, address(page) | ALLOW);
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
