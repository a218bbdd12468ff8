//! What went wrong in DragonFly BSD's tables, by the label of the pitfall: seeds of 2013 as S*n*, else the commit that corrected it.

use super::cpu::{Access, Cpu};
use super::format::all_attributes;
use super::hardware::{Decoded, FORMATS, Mmu};
use super::machine::{Collected, Harvested, Machine, ROOT, Source};
use super::operations::{READ_WRITE, attributes, enter_as};
use crate::*;

/// Enters a page on a fault of a load or a store, and returns what was in its place.
fn fault(
    format: &'static Format,
    machine: &Machine,
    address: u64,
    physical: u64,
    store: bool,
) -> Option<Taken> {
    let tables = Tables::new(format, ROOT, machine);
    let protection = format.protection_on_fault(READ_WRITE, store);
    let entry = format.leaf(1, physical, attributes(protection));
    let mut taken = None;
    loop {
        match tables
            .enter(address, 1, entry, &mut Source::plenty(machine))
            .unwrap()
        {
            Entered::New | Entered::Same | Entered::Widened => return taken,
            Entered::Broken(owed) => taken = Some(owed.discharge(|set| machine.flush(set))),
        }
    }
}

fn harvest(format: &'static Format, machine: &Machine) -> Vec<(u64, u8, Usage)> {
    let tables = Tables::new(format, ROOT, machine);
    let owed = tables.harvest(&(0..ADDRESS_END), Usage::DIRTY, Harvested::default());
    owed.discharge(|set| machine.flush(set)).0
}

/// The leaf for an address, if it is dirty.
fn dirty_leaf(format: &'static Format, machine: &Machine, address: u64) -> Option<Leaf> {
    let leaf = Tables::new(format, ROOT, machine).lookup(address)?;
    format.usage(leaf.entry).contains(Usage::DIRTY).then_some(leaf)
}

fn is_dirty(format: &'static Format, machine: &Machine, address: u64) -> bool {
    dirty_leaf(format, machine, address).is_some()
}

/// S4: a regular table converted to EPT lost the cache modes, since there they are in other places and in leaves alone, and
/// could not be converted back. Here each table is filled from what is known of the page, and says all of it.
#[test]
fn the_cache_mode_of_a_page_is_in_its_leaf_in_every_format_and_never_in_a_directory() {
    for level in 1..=3 {
        for wanted in all_attributes().filter(|wanted| wanted.software == 0) {
            let types = FORMATS.map(|(format, mmu)| {
                let machine = Machine::new();
                let tables = Tables::new(format, ROOT, &machine);
                let entry = format.leaf(level, 0, wanted);
                let entered = tables.enter(span(3), level, entry, &mut Source::plenty(&machine));
                assert!(matches!(entered, Ok(Entered::New)));
                let mut table = ROOT;
                for above in (level + 1..=ROOT_LEVEL).rev() {
                    let entry = machine.peek(table, index(span(3), above));
                    let Decoded::Table { address, .. } = mmu.decode(entry, above) else {
                        panic!("{}: {entry:#x}", format.name)
                    };
                    table = address;
                }
                let Decoded::Leaf(leaf) = mmu.decode(machine.peek(table, index(span(3), level)), level)
                else {
                    panic!("{}: no leaf", format.name)
                };
                leaf.memory_type
            });
            assert!(types.iter().all(|memory_type| *memory_type == types[0]));
        }
    }
}

/// S6: a CPU whose EPT has no accessed and dirty bits.
#[test]
fn without_hardware_dirty_bits_the_first_store_faults_and_is_seen() {
    let format = ept_format(false);
    let mmu = Mmu::Extended {
        accessed_dirty: false,
    };
    let machine = Machine::with(Cpu::new(mmu, 1, vec![]));
    let stored = || {
        machine.access(0x5000, Access::Store);
        machine.cpu(|cpu| !core::mem::take(&mut cpu.dirtied).is_empty())
    };
    fault(format, &machine, 0x5000, 0x9000, false);
    machine.access(0x5000, Access::Load);
    assert!(!stored(), "the first store must fault");
    assert!(!is_dirty(format, &machine, 0x5000) && harvest(format, &machine).is_empty());
    for _ in 0..2 {
        fault(format, &machine, 0x5000, 0x9000, true);
        assert!(stored() && is_dirty(format, &machine, 0x5000));
        assert_eq!(harvest(format, &machine), [(0x5000, 1, Usage::DIRTY)]);
        assert!(!stored(), "the first store after a harvest must fault");
        assert!(harvest(format, &machine).is_empty());
    }
    // A page that was stored to stays dirty when the right to store is taken.
    fault(format, &machine, 0x5000, 0x9000, true);
    let tables = Tables::new(format, ROOT, &machine);
    tables
        .narrow(&(0..ADDRESS_END), Protection::READ)
        .discharge(|set| machine.flush(set));
    assert!(!stored() && is_dirty(format, &machine, 0x5000));
    // And the bits of CPUs that have them are clear.
    assert_eq!(tables.lookup(0x5000).unwrap().entry >> 8 & 3, 0);
}

/// S10: the bits that are free in the CPU's own tables are accessed and dirty bits of EPT.
#[test]
fn no_bit_of_the_owner_means_anything_to_hardware() {
    assert_eq!(EPT.software, [1 << 10, 1 << 11, 1 << 52]);
    for (format, mmu) in FORMATS {
        for level in 1..=3 {
            for wanted in all_attributes() {
                let entry = format.leaf(level, 0, wanted);
                let without = entry & !format.software_mask();
                assert_eq!(mmu.decode(entry, level), mmu.decode(without, level));
                let used = mmu.used(entry, true);
                assert_eq!(used & format.software_mask(), entry & format.software_mask());
                let software = format.attributes(used, level).map(|found| found.software);
                assert_eq!(software, Some(wanted.software));
            }
        }
    }
}

/// 95270b7ecb: 32-bit counts of pages wrapped at 16 TiB.
#[test]
fn counts_of_pages_do_not_wrap_at_16_tib() {
    for (format, _) in FORMATS {
        let machine = Machine::new();
        for number in 0..17 << 10 {
            enter_as(format, &machine, number * span(3), 3, number * span(3));
        }
        let pages = release_subtree(format, &machine, ROOT, ROOT_LEVEL, &mut |_| ());
        assert_eq!(pages, 17 << 28);
    }
}

/// 95270b7ecb: a page became dirty because the one that was mapped there before was.
#[test]
fn a_page_does_not_inherit_the_dirty_bit_of_the_one_before() {
    for (format, mmu) in FORMATS {
        let machine = Machine::with(Cpu::new(mmu, 1, vec![]));
        fault(format, &machine, 0x5000, 0x9000, true);
        machine.access(0x5000, Access::Store);
        // In place of the other.
        let taken = fault(format, &machine, 0x5000, 0xa000, false);
        let Some(Taken::Leaf { entry, level: 1, .. }) = taken else {
            panic!("{taken:?}")
        };
        assert_eq!(format.leaf_address(entry, 1), 0x9000);
        assert!(format.usage(entry).contains(Usage::DIRTY), "a store was lost");
        assert!(!is_dirty(format, &machine, 0x5000));
        // After the other.
        fault(format, &machine, 0x5000, 0xa000, true);
        machine.access(0x5000, Access::Store);
        let tables = Tables::new(format, ROOT, &machine);
        let owed = tables.remove(&(0x5000..0x6000), &(0..0), Collected::default());
        owed.discharge(|set| machine.flush(set));
        fault(format, &machine, 0x5000, 0xb000, false);
        assert!(!is_dirty(format, &machine, 0x5000));
        // Beside the other.
        fault(format, &machine, 0x6000, 0xc000, true);
        machine.access(0x6000, Access::Store);
        assert!(!is_dirty(format, &machine, 0x5000) && is_dirty(format, &machine, 0x6000));
    }
}

/// 3627d1271d: a page table that was used for a guest and then for a process still had the guest's format. Here the format is
/// no state of a table, and an empty root is empty in every format.
#[test]
fn a_recycled_root_has_nothing_of_the_format_before() {
    let machine = Machine::new();
    for (format, mmu) in FORMATS.into_iter().chain(FORMATS) {
        enter_as(format, &machine, 0x5000, 1, 0x9000);
        enter_as(format, &machine, span(3), 3, span(3));
        let mut table = ROOT;
        for level in (2..=ROOT_LEVEL).rev() {
            let Decoded::Table { address, .. } = mmu.decode(machine.peek(table, 0), level) else {
                panic!("{}", format.name)
            };
            table = address;
        }
        let Decoded::Leaf(leaf) = mmu.decode(machine.peek(table, 5), 1) else {
            panic!("{}", format.name)
        };
        assert!(leaf.write && !leaf.execute && leaf.memory_type == 6 && !leaf.dirty);
        let tables = Tables::new(format, ROOT, &machine);
        let everything = 0..ADDRESS_END;
        let owed = tables.remove(&everything, &everything, Collected::default());
        for (table, level) in owed.discharge(|_| ()).tables {
            release_subtree(format, &machine, table, level, &mut |released| {
                if let Released::Table(table) = released {
                    machine.free(table);
                }
            });
        }
        assert!((0..ENTRIES).all(|slot| machine.peek(ROOT, slot) == 0));
    }
}

/// eb25e04b19: a write fault of a guest entered the page without noting that it becomes dirty, and the page was lost.
#[test]
fn a_store_that_faulted_leaves_its_page_dirty() {
    for (format, mmu) in FORMATS {
        for read_first in [false, true] {
            let machine = Machine::with(Cpu::new(mmu, 1, vec![]));
            if read_first {
                fault(format, &machine, 0x5000, 0x9000, false);
                machine.access(0x5000, Access::Load);
            }
            fault(format, &machine, 0x5000, 0x9000, true);
            machine.access(0x5000, Access::Store);
            assert_eq!(machine.cpu(|cpu| cpu.dirtied.len()), 1, "the store must succeed");
            assert_eq!(harvest(format, &machine), [(0x5000, 1, Usage::DIRTY)]);
        }
        // Whoever stores on behalf of the program says so in the entry, also if the translation is there already.
        let machine = Machine::with(Cpu::new(mmu, 1, vec![]));
        fault(format, &machine, 0x5000, 0x9000, false);
        let tables = Tables::new(format, ROOT, &machine);
        for protection in [Protection::READ, READ_WRITE] {
            let entry = format.leaf(1, 0x9000, attributes(protection)) | format.usage_bits(Usage::DIRTY);
            let entered = tables.enter(0x5000, 1, entry, &mut Source::plenty(&machine));
            assert!(matches!(entered, Ok(Entered::Same | Entered::Widened)));
            assert_eq!(harvest(format, &machine), [(0x5000, 1, Usage::DIRTY)]);
        }
    }
}

/// An operation on the page at 0x5000, which says what is dirty (addresses).
type Operation = fn(&'static Format, &Machine) -> Vec<u64>;

fn told(format: &Format, machine: &Machine, collected: &Collected) -> Vec<u64> {
    let dirty = |entry| format.usage(entry).contains(Usage::DIRTY);
    let leaves = collected.leaves.iter();
    let mut told: Vec<u64> = leaves.filter(|leaf| dirty(leaf.1)).map(|leaf| leaf.0).collect();
    for &(table, level) in &collected.tables {
        release_subtree(format, machine, table, level, &mut |released| {
            if let Released::Leaf { entry, level } = released {
                told.extend(dirty(entry).then_some(format.leaf_address(entry, level)));
            }
        });
    }
    told
}

/// 5947157eb0: an entry was read and then overwritten, and what hardware set in between was lost. Here with a store at each moment
/// of each operation.
#[test]
fn what_hardware_sets_until_the_last_moment_comes_back() {
    let operations: [(u8, Operation); 9] = [
        (1, |format, machine| {
            let tables = Tables::new(format, ROOT, machine);
            let owed = tables.remove(&(0x5000..0x6000), &(0..0), Collected::default());
            told(format, machine, &owed.discharge(|set| machine.flush(set)))
        }),
        (1, |format, machine| {
            let tables = Tables::new(format, ROOT, machine);
            let owed = tables.remove(&(0..span(2)), &(0..span(2)), Collected::default());
            told(format, machine, &owed.discharge(|set| machine.flush(set)))
        }),
        (1, |format, machine| {
            let mut collected = Collected::default();
            fault(format, machine, 0x5000, 0x9_9000, false)
                .unwrap()
                .hand_to(&mut collected);
            told(format, machine, &collected)
        }),
        (1, |format, machine| {
            let tables = Tables::new(format, ROOT, machine);
            let entry = format.leaf(2, 0, attributes(READ_WRITE));
            let Ok(Entered::Broken(owed)) = tables.enter(0, 2, entry, &mut Source::plenty(machine)) else {
                panic!("a table is in the way")
            };
            let mut collected = Collected::default();
            owed.discharge(|set| machine.flush(set)).hand_to(&mut collected);
            told(format, machine, &collected)
        }),
        (1, |format, machine| {
            harvest(format, machine).iter().map(|leaf| leaf.0).collect()
        }),
        (1, |format, machine| {
            let tables = Tables::new(format, ROOT, machine);
            let owed = tables.harvest(&(0..span(2)), Usage::all(), Harvested::default());
            let harvested = owed.discharge(|set| machine.flush(set)).0;
            let dirty = harvested.iter().filter(|leaf| leaf.2.contains(Usage::DIRTY));
            dirty.map(|leaf| leaf.0).collect()
        }),
        (1, |format, machine| {
            let tables = Tables::new(format, ROOT, machine);
            let owed = tables.narrow(&(0..span(3)), Protection::READ);
            owed.discharge(|set| machine.flush(set));
            Vec::new()
        }),
        (1, |format, machine| {
            let tables = Tables::new(format, ROOT, machine);
            let promotion = tables.promote(0, 2).unwrap();
            let _freed = promotion.discharge(|set| machine.flush(set)).make();
            Vec::new()
        }),
        (2, |format, machine| {
            let tables = Tables::new(format, ROOT, machine);
            let split = tables.split(0, &mut Source::plenty(machine));
            let split = split.unwrap().unwrap();
            split.discharge(|set| machine.flush(set)).make();
            Vec::new()
        }),
    ];
    for (format, mmu) in FORMATS {
        for (number, (level, operation)) in operations.iter().enumerate() {
            let mut stored = 0;
            for moment in 0.. {
                let machine = Machine::new();
                let slots = if *level == 1 { ENTRIES as u64 } else { 1 };
                for slot in 0..slots {
                    enter_as(format, &machine, slot << 12, *level, slot << 12);
                }
                machine.attach(Cpu::new(mmu, 1, vec![]));
                machine.access(0x5000, Access::Load);
                machine.cpu(|cpu| cpu.store_at(moment, 0x5000));
                let told = operation(format, &machine);
                if !machine.cpu(|cpu| cpu.has_stored()) {
                    break;
                }
                let dirtied = machine.cpu(|cpu| core::mem::take(&mut cpu.dirtied));
                stored += dirtied.len();
                let dirty = dirty_leaf(format, &machine, 0x5000);
                let known = told.contains(&0x5000) || dirty.is_some_and(|leaf| leaf.physical == 0x5000);
                assert!(
                    dirtied.is_empty() || known,
                    "{}: operation {number}, moment {moment}",
                    format.name
                );
            }
            assert!(stored > 0, "operation {number}");
        }
    }
}
