//! The mapper against a naive model, and what it says about flushes against what a TLB could hold.

use crate::*;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Tables by address; touching one that is not there is a use after free.
#[derive(Default)]
struct Machine {
    tables: RefCell<BTreeMap<u64, Vec<u64>>>,
    /// Entries looked at.
    touched: RefCell<usize>,
}

impl Machine {
    fn new() -> Self {
        let machine = Machine::default();
        machine.tables.borrow_mut().insert(ROOT, vec![0; ENTRIES]);
        machine
    }

    fn count(&self) -> usize {
        self.tables.borrow().len()
    }
}

impl TableMemory for Machine {
    fn load(&self, table: u64, index: usize) -> u64 {
        *self.touched.borrow_mut() += 1;
        self.tables.borrow()[&table][index]
    }
    fn store(&self, table: u64, index: usize, entry: u64) {
        self.tables.borrow_mut().get_mut(&table).unwrap()[index] = entry;
    }
    fn swap(&self, table: u64, index: usize, entry: u64) -> u64 {
        core::mem::replace(
            &mut self.tables.borrow_mut().get_mut(&table).unwrap()[index],
            entry,
        )
    }
    fn compare_exchange(&self, table: u64, index: usize, old: u64, new: u64) -> Result<(), u64> {
        let now = self.load(table, index);
        if now == old {
            self.store(table, index, new);
            Ok(())
        } else {
            Err(now)
        }
    }
}

const ROOT: u64 = 0x1000;

struct Source<'machine> {
    machine: &'machine Machine,
    left: usize,
}

impl TableSource for Source<'_> {
    fn allocate(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        let mut tables = self.machine.tables.borrow_mut();
        let address = tables.keys().next_back().unwrap() + 0x1000;
        tables.insert(address, vec![0; ENTRIES]);
        Some(address)
    }
}

#[derive(Default)]
struct Taken {
    tables: Vec<(u64, u8)>,
    leaves: Vec<u64>,
}

impl Detached for Taken {
    fn table(&mut self, table: u64, level: u8) {
        self.tables.push((table, level));
    }
    fn leaf(&mut self, address: u64, _entry: u64, _level: u8) {
        self.leaves.push(address);
    }
}

/// Page addresses that share tables on all levels, and some that do not.
fn page() -> impl Strategy<Value = u64> {
    (0..2u64, 0..2u64, 0..3u64, prop_oneof![0..6u64, 508..512u64])
        .prop_map(|(root, third, second, first)| root << 39 | third << 30 | second << 21 | first << 12)
}

fn protection() -> impl Strategy<Value = Protection> {
    (0..4u8).prop_map(|bits| Protection::READ | Protection::from_bits_truncate(bits << 1))
}

#[derive(Clone, Debug)]
enum Step {
    Enter(u64, u64, Protection),
    Remove(u64, u64),
    Narrow(u64, u64, Protection),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (page(), 0..4u64, protection()).prop_map(|(address, frame, protection)| {
            Step::Enter(address, 0x100_0000 + frame * 0x1000, protection)
        }),
        1 => (page(), page()).prop_map(|(a, b)| Step::Remove(a.min(b), a.max(b) + 0x1000)),
        1 => (page(), page(), protection())
            .prop_map(|(a, b, keep)| Step::Narrow(a.min(b), a.max(b) + 0x1000, keep)),
    ]
}

fn attributes(protection: Protection) -> Attributes {
    Attributes {
        protection,
        user: true,
        global: false,
        cache: CacheMode::WriteBack,
        software: 0,
    }
}

/// A TLB that caches everything and forgets only what it is told to.
type Tlb = BTreeMap<u64, (u64, Protection)>;

fn flush(tlb: &mut Tlb, set: &FlushSet) {
    match set.pages() {
        Some(pages) => tlb.retain(|page, _| !pages.contains(page)),
        None => tlb.clear(),
    }
}

fn gap(model: &Tlb, range: &std::ops::Range<u64>) -> std::ops::Range<u64> {
    let start = model
        .range(..range.start)
        .next_back()
        .map_or(0, |(page, _)| page + 0x1000);
    let end = model
        .range(range.end..)
        .next()
        .map_or(ADDRESS_END, |(page, _)| *page);
    start..end
}

fn check(format: &'static Format, steps: &[Step]) -> Result<(), TestCaseError> {
    let machine = Machine::new();
    let tables = Tables::new(format, ROOT, &machine);
    // What must be there, and what a CPU may have cached: everything that was ever there and not flushed.
    let mut model = Tlb::new();
    let mut tlb = Tlb::new();
    for step in steps {
        match step.clone() {
            Step::Enter(address, frame, protection) => {
                let entry = format.leaf(1, frame, attributes(protection));
                let mut source = Source {
                    machine: &machine,
                    left: usize::MAX,
                };
                loop {
                    match tables.enter(address, 1, entry, &mut source).unwrap() {
                        Entered::New => {
                            prop_assert!(model.insert(address, (frame, protection)).is_none());
                        }
                        Entered::Same => {
                            let there = model.get_mut(&address).unwrap();
                            prop_assert_eq!(there.0, frame);
                            there.1 |= protection;
                        }
                        Entered::Broken(owed) => {
                            model.remove(&address);
                            owed.discharge(|set| flush(&mut tlb, set));
                            prop_assert!(!tlb.contains_key(&address), "broken, yet cached");
                            continue;
                        }
                    }
                    break;
                }
            }
            Step::Remove(start, end) => {
                let pages: BTreeSet<u64> = model.range(start..end).map(|(page, _)| *page).collect();
                model.retain(|page, _| !pages.contains(page));
                let range = start..end;
                let before = machine.count();
                let owed = tables.remove(&range, &gap(&model, &range), Taken::default());
                let mut tables_detached = false;
                let taken = owed.discharge(|set| {
                    flush(&mut tlb, set);
                    tables_detached = set.tables_detached();
                });
                prop_assert_eq!(tables_detached, !taken.tables.is_empty());
                prop_assert!(taken.leaves.iter().all(|leaf| pages.contains(leaf)));
                let mut translated = taken.leaves.len() as u64;
                for (table, level) in taken.tables {
                    let mut freed = Vec::new();
                    translated +=
                        release_subtree(format, &machine, table, level, &mut |table| freed.push(table));
                    for table in freed {
                        prop_assert!(
                            machine.tables.borrow_mut().remove(&table).is_some(),
                            "freed twice"
                        );
                    }
                }
                prop_assert_eq!(translated, pages.len() as u64);
                prop_assert!(pages.is_empty() || model.is_empty() <= (machine.count() == 1));
                prop_assert!(machine.count() <= before);
            }
            Step::Narrow(start, end, keep) => {
                for (_, (_, protection)) in model.range_mut(start..end) {
                    *protection &= keep;
                }
                tables
                    .narrow(&(start..end), keep)
                    .discharge(|set| flush(&mut tlb, set));
            }
        }
        // Nothing in the TLB may go beyond the table: the same frame, and no access that the table does not allow.
        for (page, (frame, protection)) in &tlb {
            let now = model.get(page);
            prop_assert!(
                now.is_some_and(|(now, allowed)| now == frame && allowed.contains(*protection)),
                "stale: {page:#x} -> {frame:#x} {protection:?}, table has {now:?} after {step:?}"
            );
        }
        tlb.extend(model.iter().map(|(page, translation)| (*page, *translation)));
        let mut found = Tlb::new();
        tables.for_each(&(0..ADDRESS_END), &mut |address, entry, level| {
            found.insert(
                address,
                (format.leaf_address(entry, level), format.protection(entry)),
            );
        });
        prop_assert_eq!(&found, &model);
        for (page, (frame, protection)) in &model {
            let leaf = tables.lookup(page + 0x123).unwrap();
            prop_assert_eq!((leaf.physical, leaf.protection), (frame + 0x123, *protection));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn behaves_like_a_list_of_pages(steps in prop::collection::vec(step(), 1..40)) {
        check(&X86_64, &steps)?;
        check(&EPT, &steps)?;
    }
}

fn enter(machine: &Machine, address: u64, level: u8, physical: u64) {
    let tables = Tables::new(&X86_64, ROOT, machine);
    let entry = X86_64.leaf(level, physical, attributes(Protection::READ | Protection::WRITE));
    let mut source = Source {
        machine,
        left: usize::MAX,
    };
    assert!(matches!(
        tables.enter(address, level, entry, &mut source),
        Ok(Entered::New)
    ));
}

/// A fault that finds nothing, or only less, flushes nothing.
#[test]
fn not_present_to_present_owes_nothing() {
    let machine = Machine::new();
    enter(&machine, 0x5000, 1, 0x9000);
    let tables = Tables::new(&X86_64, ROOT, &machine);
    let wider = X86_64.leaf(1, 0x9000, attributes(Protection::all() - Protection::EXECUTE));
    let mut source = Source {
        machine: &machine,
        left: 0,
    };
    assert!(matches!(
        tables.enter(0x5000, 1, wider, &mut source),
        Ok(Entered::Same)
    ));
    let owed = tables.remove(&(0x6000..0x8000), &(0..0), Taken::default());
    owed.discharge(|_| panic!("nothing was there, so nothing may be flushed"));
    tables
        .narrow(&(0x6000..0x8000), Protection::READ)
        .discharge(|_| panic!("nothing was narrowed"));
    tables
        .narrow(&(0x5000..0x6000), Protection::READ | Protection::WRITE)
        .discharge(|_| panic!("nothing was narrowed"));
}

#[test]
fn removing_everything_looks_at_few_entries() {
    let machine = Machine::new();
    for page in 0..2000 {
        enter(&machine, (page << 12) + (7 << 39), 1, page << 12);
    }
    *machine.touched.borrow_mut() = 0;
    let tables = Tables::new(&X86_64, ROOT, &machine);
    let everything = 0..1 << 47;
    let owed = tables.remove(&everything, &everything, Taken::default());
    let mut full = false;
    let taken = owed.discharge(|set| full = set.pages().is_none());
    assert!(full && taken.tables.len() == 1 && taken.leaves.is_empty());
    assert!(*machine.touched.borrow() <= ENTRIES);
}

/// An invalidation that detached a table must not be answered before the flush: a page walk may be in that table.
#[test]
fn a_flush_tells_whether_page_walks_may_be_in_detached_tables() {
    let machine = Machine::new();
    let tables = Tables::new(&X86_64, ROOT, &machine);
    let told = |range: std::ops::Range<u64>, releasable: std::ops::Range<u64>| {
        let owed = tables.remove(&range, &releasable, Taken::default());
        let mut told = None;
        let taken = owed.discharge(|set| told = Some((set.tables_detached(), set.pages().map(<[u64]>::len))));
        (told, taken.tables.len())
    };
    for page in 0..20 {
        enter(&machine, page << 12, 1, page << 12);
    }
    // Leaves only, few and many.
    assert_eq!(told(0..0x2000, 0..0x2000), (Some((false, Some(2))), 0));
    assert_eq!(told(0x2000..0x1_4000, 0..0x1_4000), (Some((false, None)), 0));
    // The table of level 1, by few pages and by its whole span, and then that of level 3.
    enter(&machine, 0, 1, 0);
    assert_eq!(told(0..0x1000, 0..span(2)), (Some((true, Some(1))), 1));
    enter(&machine, 0, 1, 0);
    assert_eq!(told(0..span(2), 0..span(2)), (Some((true, None)), 1));
    assert_eq!(told(0..ADDRESS_END, 0..ADDRESS_END), (Some((true, None)), 1));
    // Narrowing detaches nothing.
    enter(&machine, 0, 1, 0);
    let owed = tables.narrow(&(0..0x1000), Protection::READ);
    owed.discharge(|set| assert!(!set.is_nothing() && !set.tables_detached()));
}

/// A table page may be freed only if no translation outside of the range needs it.
#[test]
fn tables_with_neighbours_stay() {
    let machine = Machine::new();
    enter(&machine, 0x5000, 1, 0x9000);
    enter(&machine, 0x7000, 1, 0xa000);
    let tables = Tables::new(&X86_64, ROOT, &machine);
    let owed = tables.remove(&(0x5000..0x6000), &(0..0x7000), Taken::default());
    let mut pages = Vec::new();
    let taken = owed.discharge(|set| pages = set.pages().unwrap().to_vec());
    assert_eq!(
        (pages, taken.leaves, taken.tables.len()),
        (vec![0x5000], vec![0x5000], 0)
    );
    assert_eq!(tables.lookup(0x7000).unwrap().physical, 0xa000);
    // The last one takes all tables along, and the page that was mapped is flushed by its address.
    let owed = tables.remove(&(0x7000..0x8000), &(0..ADDRESS_END / 2), Taken::default());
    let mut pages = Vec::new();
    let taken = owed.discharge(|set| pages = set.pages().unwrap().to_vec());
    assert_eq!((pages, taken.tables.len()), (vec![0x7000], 1));
    assert!(tables.lookup(0x7000).is_none());
}

#[test]
fn more_pages_than_a_set_holds_flush_everything() {
    let machine = Machine::new();
    for page in 0..20 {
        enter(&machine, page << 12, 1, page << 12);
    }
    enter(&machine, 100 << 12, 1, 0);
    let tables = Tables::new(&X86_64, ROOT, &machine);
    let flushed = |range: std::ops::Range<u64>| {
        let mut count = None;
        let owed = tables.remove(&range, &range, Taken::default());
        owed.discharge(|set| count = Some(set.pages().map(<[u64]>::len)));
        count
    };
    assert_eq!(flushed(0..3 << 12), Some(Some(3)));
    assert_eq!(flushed(0..20 << 12), Some(None));
    assert_eq!(flushed(0..20 << 12), None);
}

#[test]
fn large_leaves_are_found_broken_and_removed_whole() {
    let machine = Machine::new();
    enter(&machine, 0x20_0000, 2, 0x4000_0000);
    let tables = Tables::new(&X86_64, ROOT, &machine);
    let leaf = tables.lookup(0x20_5678).unwrap();
    assert_eq!((leaf.level, leaf.physical), (2, 0x4000_5678));
    let entry = X86_64.leaf(1, 0x9000, attributes(Protection::READ));
    let mut source = Source {
        machine: &machine,
        left: usize::MAX,
    };
    let Ok(Entered::Broken(owed)) = tables.enter(0x20_5000, 1, entry, &mut source) else {
        panic!("a larger leaf is in the way")
    };
    owed.discharge(|set| assert_eq!(set.pages(), Some(&[0x20_5000][..])));
    assert!(matches!(
        tables.enter(0x20_5000, 1, entry, &mut source),
        Ok(Entered::New)
    ));
    assert!(tables.lookup(0x20_4000).is_none());
    enter(&machine, 0x40_0000, 2, 0x4020_0000);
    let owed = tables.remove(&(0x41_0000..0x41_1000), &(0..0), Taken::default());
    owed.discharge(|set| assert_eq!(set.pages().unwrap().len(), 1));
    assert!(tables.lookup(0x40_0000).is_none());
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
        assert_eq!(tables.enter(0x5000, 1, entry, &mut source).err(), Some(NoMemory));
        assert!(tables.lookup(0x5000).is_none());
        enter(&machine, 0x5000, 1, 0x9000);
        assert_eq!(machine.count(), 4);
    }
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
