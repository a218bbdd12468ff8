//! Random programs.

use super::{ALLOW, FIRST_DATA, Operation, Place, Program, ROOT, Subject};
use crate::tests::driver::guest::{GUESTS, PAGES, ROOTS, TOPS};
use crate::tests::driver::structure::STRUCTURES;
use crate::tests::driver::{RAM_PAGES, SLOTS};
use crate::tests::model::Features;
use crate::tests::universe::{DEVICE, PRIVATE, VIRTUAL};
use dragonet_abi::memory::Vpte;
use proptest::prelude::*;

/// Operations of a CPU at most, the first ones aside.
const OPERATIONS: usize = 16;

fn slot() -> impl Strategy<Value = usize> {
    prop_oneof![6 => Just(0usize), 3 => Just(1usize), 1 => Just(SLOTS - 1)]
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

fn management() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => slot().prop_map(Operation::Run),
        1 => Just(Operation::Rest),
        2 => slot().prop_map(Operation::Replace),
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

/// An entry of a last table that is not one of a higher level too.
fn guest_place() -> impl Strategy<Value = Place> {
    prop_oneof![
        4 => (Just(0), 0..PAGES),
        1 => (1..TOPS.len(), 1..PAGES),
    ]
}

fn guests() -> impl Strategy<Value = Operation> {
    let accesses = prop::collection::vec((0..PAGES, any::<bool>()), 1..6);
    let root = || (0..ROOTS.len(), 0..TOPS.len());
    prop_oneof![
        1 => Just(Operation::BuildGuest),
        2 => (guest_place(), PRIVATE, any::<bool>(), any::<bool>())
            .prop_map(|(place, target, write, global)| Operation::EditGuest(place, target, write, global)),
        4 => (0..GUESTS, guest_place(), 0..PAGES)
            .prop_map(|(which, place, target)| Operation::InvalidateGuest(which, place, target)),
        1 => root().prop_map(|(root, top)| Operation::EditGuestRoot(root, top)),
        2 => (0..GUESTS, root()).prop_map(|(which, (root, top))| Operation::RenewGuestRoot(which, root, top)),
        1 => (0..STRUCTURES).prop_map(Operation::Load),
        10 => (0..GUESTS, 0..ROOTS.len(), accesses)
            .prop_map(|(which, root, accesses)| Operation::Guest(which, root, accesses)),
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
        Subject::Roots => prop_oneof![1 => management(), 1 => memory(), 24 => guests()].boxed(),
    }
}

/// What a CPU does: as a rule it first runs a space and touches something.
fn operations(subject: Subject) -> BoxedStrategy<Vec<Operation>> {
    let start = (slot(), access()).prop_map(move |(slot, access)| match subject {
        Subject::Guests | Subject::Roots => vec![Operation::Run(slot), Operation::BuildGuest],
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
    let cpus = match subject {
        // Three to share, copy and store at once.
        Subject::Copies => prop_oneof![1 => 2..3usize, 4 => 3..5usize].boxed(),
        _ => prop_oneof![1 => 1..2usize, 4 => 2..4usize, 2 => 4..5usize].boxed(),
    };
    let cpus = cpus.prop_flat_map(move |cpus| prop::collection::vec(operations(subject), cpus));
    (features(), cpus, prop::bool::weighted(0.6)).prop_map(|(features, cpus, guest_pcids)| {
        let features = Features {
            guest_pcids,
            ..features
        };
        Program { features, cpus }
    })
}

fn features() -> impl Strategy<Value = Features> {
    let likely = || prop::bool::weighted(0.8);
    (likely(), likely(), likely()).prop_map(|(pcids, vpids, nested_dirty)| Features {
        pcids,
        vpids,
        guest_pcids: false,
        nested_dirty,
    })
}
