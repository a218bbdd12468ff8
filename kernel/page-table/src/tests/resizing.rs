//! Leaves larger than a page: breaking, replacing, splitting and promoting them.

use super::hardware::FORMATS;
use super::machine::{Collected, Harvested, Machine, ROOT, Source};
use super::operations::{READ_WRITE, attributes, enter_as, owed};
use crate::*;

/// INVLPG is only certain to drop all pieces of a larger page that the tables still have, so when it is gone, all is flushed; and
/// while it stays, one address is enough.
#[test]
fn a_larger_leaf_that_goes_is_flushed_with_everything() {
    for (format, _) in FORMATS {
        for level in 2..=3 {
            let bytes = span(level);
            let machine = Machine::new();
            let tables = Tables::new(format, ROOT, &machine);
            enter_as(format, &machine, bytes, level, 4 * bytes);
            let inside = bytes + 0x5000;
            let leaf = tables.lookup(inside + 0x678).unwrap();
            assert_eq!((leaf.level, leaf.physical), (level, 4 * bytes + 0x5678));
            let narrowed = tables.narrow(&(inside..inside + 0x1000), Protection::READ);
            assert_eq!(owed(narrowed).0, Some((Some(vec![inside]), false)));
            // A smaller leaf breaks it first.
            let entry = format.leaf(1, 0x9000, attributes(Protection::READ));
            let mut source = Source::plenty(&machine);
            let Ok(Entered::Broken(broken)) = tables.enter(inside, 1, entry, &mut source) else {
                panic!("a larger leaf is in the way")
            };
            let (said, taken) = owed(broken);
            assert_eq!(said, Some((None, false)));
            assert!(
                matches!(taken, Taken::Leaf { address, level: there, .. } if (address, there) == (bytes, level))
            );
            let entered = tables.enter(inside, 1, entry, &mut source);
            assert!(matches!(entered, Ok(Entered::New)));
            assert!(tables.lookup(bytes).is_none());
            // One that sticks out of what is removed goes as a whole.
            enter_as(format, &machine, 2 * bytes, level, 0);
            let range = 2 * bytes + 0x1000..2 * bytes + 0x2000;
            let removed = tables.remove(&range, &(0..0), Collected::default());
            let (said, collected) = owed(removed);
            assert_eq!(said, Some((None, false)));
            assert_eq!((collected.leaves[0].0, collected.leaves[0].2), (2 * bytes, level));
            assert!(tables.lookup(2 * bytes).is_none());
        }
    }
}

/// A CPU that answers before it flushes would meet both sizes of a page when the next one is made before it has flushed, and would
/// drop only a piece of one that was narrowed if that is removed before.
#[test]
fn a_flush_of_a_larger_leaf_is_not_delayed() {
    for (format, _) in FORMATS {
        let machine = Machine::new();
        let tables = Tables::new(format, ROOT, &machine);
        let mut source = Source::plenty(&machine);
        for level in 1..=3 {
            let address = 4 * span(level);
            let page = address..address + PAGE_SIZE;
            let mut delayed = Vec::new();
            let entry = format.leaf(level, 0, attributes(READ_WRITE)) | format.accessed | format.dirty;
            let entered = tables.enter(address, level, entry, &mut source);
            assert!(matches!(entered, Ok(Entered::New)));
            tables
                .narrow(&page, Protection::READ)
                .discharge(|set| delayed.push(set.may_be_delayed()));
            tables
                .harvest(&page, Usage::DIRTY, Harvested::default())
                .discharge(|set| delayed.push(set.may_be_delayed()));
            match tables.split(address, &mut source).unwrap() {
                Some(owed) => owed.discharge(|set| delayed.push(set.may_be_delayed())).make(),
                None => drop(
                    tables
                        .remove(&page, &(0..0), Collected::default())
                        .discharge(|set| delayed.push(set.may_be_delayed())),
                ),
            }
            assert_eq!(delayed, [level == 1; 3], "{} {level}", format.name);
        }
    }
}

/// A larger leaf where a table stands: the table comes back whole, and then there is room.
#[test]
fn a_larger_leaf_takes_the_place_of_a_table() {
    for (format, _) in FORMATS {
        for level in 2..=3 {
            let machine = Machine::new();
            let tables = Tables::new(format, ROOT, &machine);
            for page in [0, 3, 511] {
                enter_as(format, &machine, page << 12, 1, page << 12);
            }
            let entry = format.leaf(level, 0, attributes(READ_WRITE));
            let mut source = Source::plenty(&machine);
            let Ok(Entered::Broken(broken)) = tables.enter(0x3000, level, entry, &mut source) else {
                panic!("a table is in the way")
            };
            let (said, taken) = owed(broken);
            assert_eq!(said, Some((None, true)));
            let mut collected = Collected::default();
            taken.hand_to(&mut collected);
            let [(table, below)] = collected.tables[..] else {
                panic!("one table")
            };
            assert_eq!(below, level - 1);
            let mut freed = 0;
            let pages = release_subtree(format, &machine, table, below, &mut |released| {
                if let Released::Table(table) = released {
                    machine.free(table);
                    freed += 1;
                }
            });
            assert_eq!((pages, freed), (3, u64::from(level) - 1));
            let entered = tables.enter(0x3000, level, entry, &mut source);
            assert!(matches!(entered, Ok(Entered::New)));
            assert_eq!(tables.lookup(0x7000).unwrap().physical, 0x7000);
        }
    }
}

/// Level by level down to pages and up again: at every step the same translations.
#[test]
fn a_leaf_that_is_split_and_promoted_again_is_the_same() {
    for (format, mmu) in FORMATS {
        let machine = Machine::new();
        let tables = Tables::new(format, ROOT, &machine);
        let wanted = Attributes {
            user: format.user != 0,
            cache: CacheMode::WriteCombining,
            software: 5,
            ..attributes(READ_WRITE)
        };
        let entry = mmu.used(format.leaf(3, 7 << 30, wanted), true);
        let mut source = Source::plenty(&machine);
        let entered = tables.enter(1 << 30, 3, entry, &mut source);
        assert!(matches!(entered, Ok(Entered::New)));
        let check = |address: u64, level: u8| {
            let leaf = tables.lookup(address + 0x123).unwrap();
            assert_eq!((leaf.level, leaf.physical), (level, address + (6 << 30) + 0x123));
            assert_eq!(format.attributes(leaf.entry, level), Some(wanted));
            assert_eq!(format.usage(leaf.entry), Usage::all());
        };
        check((1 << 30) + 0x5000, 3);
        let address = (1 << 30) + 5 * span(2) + 0x5000;
        for level in [2, 1] {
            let split = tables.split(address, &mut source).unwrap().unwrap();
            let (said, split) = owed(split);
            assert_eq!(said, Some((None, false)));
            assert!(tables.lookup(address).is_none(), "not broken");
            assert_eq!(split.level(), level);
            split.make();
            check(address, level);
        }
        check((1 << 30) + 6 * span(2) + 0x7000, 2);
        assert!(tables.split(address, &mut source).unwrap().is_none());
        for level in [2, 3] {
            assert!(tables.promote(address, level ^ 1).is_none());
            let (said, promotion) = owed(tables.promote(address, level).unwrap());
            assert_eq!(said, Some((None, true)));
            assert!(tables.lookup(address).is_none(), "not broken");
            machine.free(promotion.make());
            check(address, level);
        }
        assert!(tables.promote(address, 3).is_none() && tables.promote(address, 4).is_none());
        assert_eq!(
            machine.peek(X86_64.table_address(machine.peek(ROOT, 0)), 1),
            entry
        );
        assert_eq!(machine.count(), 2);
    }
}

/// One leaf that is missing, elsewhere or different keeps a table from becoming a larger leaf, and so does a start that is not
/// aligned. Usage does not.
#[test]
fn only_leaves_that_are_contiguous_aligned_and_alike_are_promoted() {
    for (format, mmu) in FORMATS {
        for level in 2..=3 {
            let step = span(level - 1);
            let promoted = |start: u64, odd: usize, change: &dyn Fn(u64) -> u64| {
                let machine = Machine::new();
                let tables = Tables::new(format, ROOT, &machine);
                for slot in 0..ENTRIES as u64 {
                    enter_as(format, &machine, slot * step, level - 1, start + slot * step);
                }
                let mut table = ROOT;
                for above in (level..=ROOT_LEVEL).rev() {
                    table = format.table_address(machine.peek(table, index(0, above)));
                }
                let entry = change(machine.peek(table, odd));
                machine.store(table, odd, entry);
                tables.promote(0, level).is_some()
            };
            let base = 8 * span(3);
            assert!(promoted(base, 0, &|entry| entry));
            assert!(promoted(base, 7, &|entry| mmu.used(entry, true)));
            assert!(promoted(base, 0, &|entry| mmu.used(entry, true)));
            assert!(!promoted(base + step, 0, &|entry| entry), "not aligned");
            for odd in [0, 1, 300, 511] {
                assert!(!promoted(base, odd, &|_| 0), "not there");
                assert!(!promoted(base, odd, &|entry| entry ^ step), "elsewhere");
                assert!(!promoted(base, odd, &|entry| entry ^ format.software[2]));
                assert!(!promoted(base, odd, &|entry| entry ^ format.write));
                let execute = format.execute | format.no_execute;
                assert!(!promoted(base, odd, &|entry| entry ^ execute));
                let (vector, mask) = match level {
                    2 => (format.cache, format.cache_mask),
                    _ => (format.cache_large, format.cache_mask_large),
                };
                for bits in &vector[1..] {
                    assert!(!promoted(base, odd, &|entry| entry & !mask | bits));
                }
                if level == 3 {
                    assert!(!promoted(base, odd, &|_| format.table(0x7000, true)));
                }
            }
        }
    }
}

#[test]
fn a_split_without_memory_changes_nothing() {
    let machine = Machine::new();
    let tables = Tables::new(&X86_64, ROOT, &machine);
    enter_as(&X86_64, &machine, span(2), 2, 0);
    let before = tables.lookup(span(2));
    let mut none = Source {
        machine: &machine,
        left: 0,
    };
    assert_eq!(tables.split(span(2), &mut none).err(), Some(NoMemory));
    assert_eq!(tables.lookup(span(2)), before);
}
