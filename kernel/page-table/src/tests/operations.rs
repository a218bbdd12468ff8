//! Each operation on its own: what it does, what it owes, what it costs.

use super::cpu::{Access, Cpu};
use super::hardware::{FORMATS, Mmu};
use super::machine::{Collected, Harvested, Machine, ROOT, Source};
use crate::*;
use std::ops::Range;

pub const READ_WRITE: Protection = Protection::READ.union(Protection::WRITE);

pub fn attributes(protection: Protection) -> Attributes {
    Attributes {
        protection,
        user: true,
        global: false,
        cache: CacheMode::WriteBack,
        software: 0,
    }
}

/// Enters what was not there.
fn enter(machine: &Machine, address: u64, level: u8, physical: u64) {
    enter_as(&X86_64, machine, address, level, physical);
}

pub fn enter_as(format: &'static Format, machine: &Machine, address: u64, level: u8, physical: u64) {
    let tables = Tables::new(format, ROOT, machine);
    let entry = format.leaf(level, physical, attributes(READ_WRITE));
    let entered = tables.enter(address, level, entry, &mut Source::plenty(machine));
    assert!(matches!(entered, Ok(Entered::New)));
}

/// What an owed flush says: its pages, `None` for everything, and whether tables were detached.
pub type Said = (Option<Vec<u64>>, bool);

/// What an owed flush says, and what waited for it.
pub fn owed<D>(owed: OwedFlush<D>) -> (Option<Said>, D) {
    let mut said = None;
    let kept = owed.discharge(|set| said = Some((set.pages().map(<[u64]>::to_vec), set.tables_detached())));
    (said, kept)
}

fn remove(machine: &Machine, range: Range<u64>, releasable: Range<u64>) -> OwedFlush<Collected> {
    Tables::new(&X86_64, ROOT, machine).remove(&range, &releasable, Collected::default())
}

/// A fault that finds nothing, or only less, flushes nothing.
#[test]
fn not_present_to_present_owes_nothing() {
    let machine = Machine::new();
    enter(&machine, 0x5000, 1, 0x9000);
    let tables = Tables::new(&X86_64, ROOT, &machine);
    let mut none = Source {
        machine: &machine,
        left: 0,
    };
    let entry = X86_64.leaf(1, 0x9000, attributes(READ_WRITE));
    let entered = tables.enter(0x5000, 1, entry, &mut none);
    assert!(matches!(entered, Ok(Entered::Same)));
    assert_eq!(owed(remove(&machine, 0x6000..0x8000, 0..0)).0, None);
    assert_eq!(owed(tables.narrow(&(0x6000..0x8000), Protection::READ)).0, None);
    assert_eq!(owed(tables.narrow(&(0x5000..0x6000), READ_WRITE)).0, None);
    let harvest = tables.harvest(&(0..ADDRESS_END), Usage::all(), Harvested::default());
    assert_eq!(owed(harvest).0, None);
    let widest = X86_64.leaf(1, 0x9000, attributes(Protection::all()));
    let entered = tables.enter(0x5000, 1, widest, &mut none);
    assert!(matches!(entered, Ok(Entered::Widened)));
    assert_eq!(tables.lookup(0x5000).unwrap().entry, widest);
}

/// What is entered beside a page that faulted takes no table, and leaves every translation as it is.
#[test]
fn what_is_entered_where_nothing_is_takes_no_table_and_breaks_nothing() {
    let machine = Machine::new();
    enter(&machine, 0x5000, 1, 0x9000);
    enter(&machine, 0x40_0000, 2, 0x80_0000);
    let tables = Tables::new(&X86_64, ROOT, &machine);
    let entry = X86_64.leaf(1, 0xa000, attributes(Protection::READ));
    let before = machine.count();
    assert!(!tables.enter_absent(0x5000, entry), "a translation was replaced");
    assert!(!tables.enter_absent(0x20_0000, entry), "without a table");
    assert!(
        !tables.enter_absent(1 << 39, entry),
        "without a table of a higher level"
    );
    assert!(!tables.enter_absent(0x40_1000, entry), "into a large page");
    assert!(tables.enter_absent(0x6000, entry));
    assert_eq!(machine.count(), before);
    let found = |address| tables.lookup(address).map(|leaf| leaf.physical);
    assert_eq!(
        [0x5000, 0x6000, 0x20_0000, 0x40_1000].map(found),
        [Some(0x9000), Some(0xa000), None, Some(0x80_1000)]
    );
}

/// Bits that hardware ignores change without a flush.
#[test]
fn the_owners_bits_are_replaced_in_place() {
    for (format, _) in FORMATS {
        let machine = Machine::new();
        let tables = Tables::new(format, ROOT, &machine);
        for software in [5, 2, 0, 7] {
            for protection in [READ_WRITE, Protection::READ] {
                let wanted = Attributes {
                    software,
                    ..attributes(protection)
                };
                let entry = format.leaf(1, 0x9000, wanted);
                let entered = tables.enter(0x5000, 1, entry, &mut Source::plenty(&machine));
                assert!(!matches!(entered, Ok(Entered::Broken(_))));
                let there = format.attributes(tables.lookup(0x5000).unwrap().entry, 1);
                assert_eq!(there.unwrap().software, software);
                assert_eq!(there.unwrap().protection, READ_WRITE);
            }
        }
    }
}

/// Tables that were built for the kernel alone let a program's page be reached.
#[test]
fn a_table_for_all_is_widened_for_users() {
    let machine = Machine::new();
    let tables = Tables::new(&X86_64, ROOT, &machine);
    let mut source = Source::plenty(&machine);
    tables.build(0, 1, false, &mut source).unwrap();
    let user_bits = |expected: bool| {
        let mut table = ROOT;
        for _ in 2..=ROOT_LEVEL {
            let entry = machine.peek(table, 0);
            assert_eq!(entry & X86_64.user != 0, expected);
            table = X86_64.table_address(entry);
        }
    };
    user_bits(false);
    enter(&machine, 0, 1, 0x9000);
    user_bits(true);
    // And one for the kernel takes nothing away.
    tables.build(0, 1, false, &mut source).unwrap();
    user_bits(true);
}

#[test]
fn removing_everything_looks_at_few_entries() {
    let machine = Machine::new();
    for page in 0..2000 {
        enter(&machine, (page << 12) + (7 << 39), 1, page << 12);
    }
    machine.touched.set(0);
    let everything = 0..1 << 47;
    let (said, collected) = owed(remove(&machine, everything.clone(), everything));
    assert_eq!(said, Some((None, true)));
    assert!(collected.tables.len() == 1 && collected.leaves.is_empty());
    assert!(machine.touched.get() <= ENTRIES);
}

/// A table page may be freed only if no translation outside of the range needs it.
#[test]
fn tables_with_neighbours_stay() {
    let machine = Machine::new();
    enter(&machine, 0x5000, 1, 0x9000);
    enter(&machine, 0x7000, 1, 0xa000);
    let (said, collected) = owed(remove(&machine, 0x5000..0x6000, 0..0x7000));
    assert_eq!(said, Some((Some(vec![0x5000]), false)));
    assert_eq!((collected.leaves[0].0, collected.tables.len()), (0x5000, 0));
    let tables = Tables::new(&X86_64, ROOT, &machine);
    assert_eq!(tables.lookup(0x7000).unwrap().physical, 0xa000);
    // The last one takes all tables along, and the page that was mapped is flushed by its address.
    let (said, collected) = owed(remove(&machine, 0x7000..0x8000, 0..ADDRESS_END / 2));
    assert_eq!(said, Some((Some(vec![0x7000]), true)));
    assert_eq!(collected.tables.len(), 1);
    assert!(tables.lookup(0x7000).is_none());
}

#[test]
fn more_pages_than_a_set_holds_flush_everything() {
    let machine = Machine::new();
    for page in 0..20 {
        enter(&machine, page << 12, 1, page << 12);
    }
    enter(&machine, 100 << 12, 1, 0);
    let flushed = |range: Range<u64>| {
        let (said, _) = owed(remove(&machine, range.clone(), range));
        said.map(|(pages, _)| pages.map(|pages| pages.len()))
    };
    assert_eq!(flushed(0..3 << 12), Some(Some(3)));
    assert_eq!(flushed(0..20 << 12), Some(None));
    assert_eq!(flushed(0..20 << 12), None);
}

/// An invalidation that detached a table must not be answered before the flush: a page walk may be in that table.
#[test]
fn a_flush_tells_whether_page_walks_may_be_in_detached_tables() {
    let machine = Machine::new();
    let tables = Tables::new(&X86_64, ROOT, &machine);
    let detached = |range: Range<u64>, releasable: Range<u64>| {
        let (said, collected) = owed(remove(&machine, range, releasable));
        let (pages, detached) = said.unwrap();
        assert_eq!(detached, !collected.tables.is_empty());
        (pages.map(|pages| pages.len()), detached)
    };
    for page in 0..20 {
        enter(&machine, page << 12, 1, page << 12);
    }
    // Leaves only, few and many.
    assert_eq!(detached(0..0x2000, 0..0x2000), (Some(2), false));
    assert_eq!(detached(0x2000..0x1_4000, 0..0x1_4000), (None, false));
    // The table of level 1, by few pages and by its whole span, and then that of level 3.
    enter(&machine, 0, 1, 0);
    assert_eq!(detached(0..0x1000, 0..span(2)), (Some(1), true));
    enter(&machine, 0, 1, 0);
    assert_eq!(detached(0..span(2), 0..span(2)), (None, true));
    assert_eq!(detached(0..ADDRESS_END, 0..ADDRESS_END), (None, true));
    // Narrowing, a harvest and a split detach nothing; a promotion and a larger leaf do.
    let tell = |said: Option<Said>| said.map(|(_, detached)| detached);
    enter(&machine, 0, 2, 0);
    let split = tables.split(0, &mut Source::plenty(&machine)).unwrap().unwrap();
    let (said, split) = owed(split);
    assert_eq!(tell(said), Some(false));
    split.make();
    assert_eq!(
        tell(owed(tables.narrow(&(0..span(2)), Protection::READ)).0),
        Some(false)
    );
    machine.attach(Cpu::new(Mmu::Paging, 1, vec![]));
    machine.access(0, Access::Load);
    let harvest = tables.harvest(&(0..span(2)), Usage::all(), Harvested::default());
    assert_eq!(tell(owed(harvest).0), Some(false));
    let (said, promotion) = owed(tables.promote(0, 2).unwrap());
    assert_eq!(tell(said), Some(true));
    let _freed = promotion.make();
    let entry = X86_64.leaf(3, 0, attributes(READ_WRITE));
    let Ok(Entered::Broken(broken)) = tables.enter(0, 3, entry, &mut Source::plenty(&machine)) else {
        panic!("a table is in the way")
    };
    assert_eq!(tell(owed(broken).0), Some(true));
}

/// A harvest tells each way of use once, clears just what was asked for, and tells of a larger leaf as a whole.
#[test]
fn a_harvest_tells_and_clears_what_was_asked_for() {
    let machine = Machine::with(Cpu::new(Mmu::Paging, 1, vec![]));
    let tables = Tables::new(&X86_64, ROOT, &machine);
    for page in 0..4 {
        enter(&machine, page << 12, 1, page << 12);
    }
    enter(&machine, span(2), 2, span(2));
    machine.access(0x1000, Access::Load);
    machine.access(0x2000, Access::Store);
    machine.access(span(2) + 0x7000, Access::Store);
    let harvest = |range: Range<u64>, usage| {
        let (said, harvested) = owed(tables.harvest(&range, usage, Harvested::default()));
        (said.map(|(pages, _)| pages.unwrap()), harvested.0)
    };
    let (accessed, dirty) = (Usage::ACCESSED, Usage::DIRTY);
    assert_eq!(
        harvest(0..span(2) + 0x3000, dirty),
        (
            Some(vec![0x2000, span(2)]),
            vec![(0x2000, 1, dirty), (span(2), 2, dirty)]
        )
    );
    assert_eq!(harvest(0..span(3), dirty), (None, vec![]));
    assert_eq!(
        harvest(0x2000..0x3000, Usage::all()),
        (Some(vec![0x2000]), vec![(0x2000, 1, accessed)])
    );
    // A part of the larger leaf.
    assert_eq!(
        harvest(span(2) + 0x8000..span(2) + 0x9000, accessed),
        (Some(vec![span(2) + 0x8000]), vec![(span(2), 2, accessed)])
    );
    assert_eq!(
        harvest(0..span(3), Usage::all()),
        (Some(vec![0x1000]), vec![(0x1000, 1, accessed)])
    );
    assert_eq!(harvest(0..span(3), Usage::all()), (None, vec![]));
}

#[test]
fn memory_that_runs_out_leaves_the_table_usable() {
    for left in 0..3 {
        let machine = Machine::new();
        let tables = Tables::new(&X86_64, ROOT, &machine);
        let entry = X86_64.leaf(1, 0x9000, attributes(Protection::READ));
        let mut source = Source {
            machine: &machine,
            left,
        };
        let entered = tables.enter(0x5000, 1, entry, &mut source);
        assert_eq!(entered.err(), Some(NoMemory));
        assert!(tables.lookup(0x5000).is_none());
        enter(&machine, 0x5000, 1, 0x9000);
        assert_eq!(machine.count(), 4);
    }
}

#[test]
fn counting_clips_large_pages_and_takes_no_more_steps_than_told() {
    let machine = Machine::new();
    enter(&machine, 0x20_0000, 2, 0x40_0000);
    enter(&machine, 0x40_0000, 1, 0x9000);
    let tables = Tables::new(&X86_64, ROOT, &machine);
    assert_eq!(tables.count(&(0..ADDRESS_END), usize::MAX), (513, ADDRESS_END));
    assert_eq!(tables.count(&(0x20_3000..0x20_5000), usize::MAX).0, 2);
    assert_eq!(tables.count(&(0x1000..0x1000), 0), (0, 0x1000));
    // Root, level 3, then the first two entries of the level below: the first is empty.
    assert_eq!(tables.count(&(0..ADDRESS_END), 4), (512, 0x40_0000));
    let (mut pages, mut address) = (0, 0);
    while address < ADDRESS_END {
        let (some, next) = tables.count(&(address..ADDRESS_END), 7);
        assert!(next > address, "counting gets nowhere");
        (pages, address) = (pages + some, next);
    }
    assert_eq!(pages, 513);
}

/// The short way of removing one page does what the long one does.
#[test]
fn one_page_is_removed_alone_or_with_the_large_page_that_it_is_in() {
    let machine = Machine::new();
    enter(&machine, 0x5000, 1, 0x9000);
    enter(&machine, 0x6000, 1, 0xa000);
    enter(&machine, 0x40_0000, 2, 0x80_0000);
    let tables = machine.count();
    for releasable in [0..0, 0x5000..0x6000, 0..0x1000_0000] {
        let one = Machine::new();
        enter(&one, 0x5000, 1, 0x9000);
        enter(&one, 1 << 40, 1, 0xb000);
        let (said, collected) = owed(remove(&one, 0x5000..0x6000, releasable.clone()));
        let table_goes = releasable.end > 0x20_0000;
        assert_eq!(said, Some((Some(vec![0x5000]), table_goes)));
        assert_eq!(collected.tables.is_empty(), !table_goes);
    }
    let (said, collected) = owed(remove(&machine, 0x5000..0x6000, 0x5000..0x6000));
    assert_eq!(said, Some((Some(vec![0x5000]), false)));
    assert_eq!(collected.leaves.len(), 1);
    let (said, collected) = owed(remove(&machine, 0x40_3000..0x40_4000, 0x40_3000..0x40_4000));
    assert_eq!(said, Some((None, false)), "a large page is flushed as a whole");
    assert_eq!(collected.leaves.len(), 1);
    assert_eq!(owed(remove(&machine, 0x7000..0x8000, 0..0)).0, None);
    assert_eq!(machine.count(), tables);
    let left = Tables::new(&X86_64, ROOT, &machine).count(&(0..ADDRESS_END), usize::MAX);
    assert_eq!(left.0, 1);
}
