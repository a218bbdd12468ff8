//! The walker of virtual page tables against hostile tables and a plain reference.

use crate::vpagetable::*;
use crate::{Interlock, Stamp};
use dragonet_abi::memory::Vpte;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;

const ALLOW: u64 = Vpte::VALID | Vpte::WRITE | Vpte::USER;
const AD: u64 = Vpte::ACCESSED | Vpte::DIRTY;
const PAGES: u64 = 4096;
const READ: Access = Access {
    write: false,
    execute: false,
};
const WRITE: Access = Access {
    write: true,
    execute: false,
};
const FETCH: Access = Access {
    write: false,
    execute: true,
};

type Interference = Box<dyn Fn(&Object, u64, usize)>;

/// An object whose words can be changed behind the walker's back.
struct Object {
    words: RefCell<BTreeMap<(u64, usize), u64>>,
    pages: u64,
    /// Called before each compare-and-swap.
    interfere: Interference,
}

impl Object {
    fn new(entries: &[(u64, usize, u64)]) -> Self {
        let words = entries
            .iter()
            .map(|&(page, index, entry)| ((page, index), entry))
            .collect();
        Object {
            words: RefCell::new(words),
            pages: PAGES,
            interfere: Box::new(|_, _, _| ()),
        }
    }

    fn word(&self, page: u64, index: usize) -> u64 {
        self.words.borrow().get(&(page, index)).copied().unwrap_or(0)
    }

    fn set(&self, page: u64, index: usize, entry: u64) {
        self.words.borrow_mut().insert((page, index), entry);
    }
}

impl VpteMemory for Object {
    fn pages(&self) -> u64 {
        self.pages
    }
    fn load(&self, page: u64, index: usize) -> u64 {
        assert!(page < self.pages && index < 512, "read outside of the object");
        self.word(page, index)
    }
    fn compare_exchange(&self, page: u64, index: usize, old: u64, new: u64) -> Result<(), u64> {
        assert!(page < self.pages && index < 512, "write outside of the object");
        (self.interfere)(self, page, index);
        let now = self.word(page, index);
        if now != old {
            return Err(now);
        }
        self.set(page, index, new);
        Ok(())
    }
}

const ADDRESS: u64 = 1 << 39 | 2 << 30 | 3 << 21 | 4 << 12 | 0x123;

/// Root in page 1, then 2, 3, 4; the page itself is 9.
fn four_levels(leaf: u64) -> Object {
    Object::new(&[
        (1, 1, 2 << 12 | ALLOW),
        (2, 2, 3 << 12 | ALLOW),
        (3, 3, 4 << 12 | ALLOW),
        (4, 4, 9 << 12 | leaf),
    ])
}

const ROOT: u64 = 1 << 12 | ALLOW;

/// A walk that began before an invalidation must not mark anything after it: the table may be data by then.
#[test]
fn a_walk_that_is_overtaken_by_an_invalidation_touches_nothing() {
    let place = 0x5000;
    let mut interlock = Interlock::new();
    let walked = |interlock: &Interlock, stamp: Stamp| {
        let object = four_levels(ALLOW);
        let outcome = walk_since(interlock, stamp, place, &object, ROOT, ADDRESS, WRITE);
        let marks = object
            .words
            .into_inner()
            .into_values()
            .any(|entry| entry & AD != 0);
        (outcome.map(|outcome| outcome.is_ok()), marks)
    };
    let before = interlock.stamp();
    assert_eq!(walked(&interlock, before), (Some(true), true));
    interlock.invalidate(&(place + 4096..place + 8192));
    assert_eq!(
        walked(&interlock, before),
        (Some(true), true),
        "the next page is another matter"
    );
    interlock.invalidate(&(place..place + 4096));
    assert_eq!(walked(&interlock, before), (None, false));
    assert_eq!(walked(&interlock, interlock.stamp()), (Some(true), true));
}

#[test]
fn four_levels_set_accessed_and_dirty() {
    let object = four_levels(ALLOW);
    let found = walk(&object, ROOT, ADDRESS, READ).unwrap();
    assert_eq!(
        found,
        Translation {
            page: 9,
            writable: false,
            executable: true,
            steps: 4
        }
    );
    for (page, index) in [(1, 1), (2, 2), (3, 3), (4, 4)] {
        assert_eq!(
            object.word(page, index) & AD,
            Vpte::ACCESSED,
            "level of page {page}"
        );
    }
    let found = walk(&object, ROOT, ADDRESS, WRITE).unwrap();
    assert!(
        found.writable,
        "a store sets the dirty bit, then stores need no walk"
    );
    assert_eq!(object.word(4, 4) & AD, AD);
    assert_eq!(
        object.word(3, 3) & AD,
        Vpte::ACCESSED,
        "directories are not dirtied"
    );
    assert!(walk(&object, ROOT, ADDRESS, READ).unwrap().writable);
    // DragonFly c50e690bc7: once the owner clears D (and invalidates), the next load must again give a read-only translation.
    object.set(4, 4, 9 << 12 | ALLOW);
    assert!(!walk(&object, ROOT, ADDRESS, READ).unwrap().writable);
}

#[test]
fn every_level_must_allow() {
    let levels = [(1, 1), (2, 2), (3, 3), (4, 4)];
    for (page, index) in levels {
        for (clear, set, access) in [
            (Vpte::WRITE, 0, WRITE),
            (Vpte::USER, 0, READ),
            (Vpte::USER, 0, WRITE),
            (0, Vpte::NO_EXECUTE, FETCH),
        ] {
            let object = four_levels(ALLOW);
            object.set(page, index, object.word(page, index) & !clear | set);
            assert_eq!(
                walk(&object, ROOT, ADDRESS, access),
                Err(Refusal::Denied),
                "page {page} {access:?}"
            );
            assert_eq!(
                object.word(4, 4) & AD,
                0,
                "a refused access leaves no trace in the last entry"
            );
        }
        let object = four_levels(ALLOW);
        object.set(page, index, object.word(page, index) & !Vpte::VALID);
        assert_eq!(walk(&object, ROOT, ADDRESS, READ), Err(Refusal::NotValid));
    }
    for (root, access) in [
        (ROOT & !Vpte::WRITE, WRITE),
        (ROOT & !Vpte::USER, READ),
        (ROOT | Vpte::NO_EXECUTE, FETCH),
    ] {
        assert_eq!(
            walk(&four_levels(ALLOW), root, ADDRESS, access),
            Err(Refusal::Denied)
        );
    }
    assert_eq!(
        walk(&four_levels(ALLOW), 0, ADDRESS, READ),
        Err(Refusal::NotValid),
        "no root was set"
    );
}

#[test]
fn narrower_levels_narrow_the_translation() {
    let object = four_levels(ALLOW | Vpte::NO_EXECUTE);
    assert!(!walk(&object, ROOT, ADDRESS, READ).unwrap().executable);
    let object = four_levels(ALLOW | AD);
    object.set(2, 2, object.word(2, 2) & !Vpte::WRITE);
    let found = walk(&object, ROOT, ADDRESS, READ).unwrap();
    assert!(!found.writable && found.executable);
}

#[test]
fn large_pages_end_the_walk() {
    let two = Object::new(&[
        (1, 1, 2 << 12 | ALLOW),
        (2, 2, 3 << 12 | ALLOW),
        (3, 3, 2 << 21 | ALLOW | Vpte::LARGE | 1 << 12),
    ]);
    let found = walk(&two, ROOT, ADDRESS, WRITE).unwrap();
    assert_eq!(
        (found.page, found.steps),
        (2 * 512 + 4, 3),
        "bit 12 is the memory type"
    );
    assert_eq!(two.word(3, 3) & AD, AD);
    let mut one = Object::new(&[(1, 1, 2 << 12 | ALLOW), (2, 2, 1 << 30 | ALLOW | Vpte::LARGE)]);
    assert_eq!(walk(&one, ROOT, ADDRESS, READ), Err(Refusal::OutOfBounds));
    assert_eq!(one.word(2, 2) & AD, 0);
    one.pages = 1 << 20;
    assert_eq!(
        walk(&one, ROOT, ADDRESS, READ).unwrap().page,
        (1 << 18) + 3 * 512 + 4
    );
}

#[test]
fn reserved_bits_are_refused() {
    let object = four_levels(ALLOW);
    object.set(1, 1, object.word(1, 1) | Vpte::LARGE);
    assert_eq!(
        walk(&object, ROOT, ADDRESS, READ),
        Err(Refusal::Reserved),
        "no 512 GiB pages"
    );
    let object = four_levels(ALLOW);
    object.set(3, 3, object.word(3, 3) | Vpte::LARGE);
    assert_eq!(
        walk(&object, ROOT, ADDRESS, READ),
        Err(Refusal::Reserved),
        "a 2 MiB page at 16 KiB"
    );
}

/// As in DragonFly, a large root is a linear map of the object.
#[test]
fn large_root_maps_linearly() {
    let object = Object::new(&[]);
    let root = ALLOW | Vpte::LARGE;
    let found = walk(&object, root, 5 << 12, READ).unwrap();
    assert_eq!(
        found,
        Translation {
            page: 5,
            writable: true,
            executable: true,
            steps: 0
        }
    );
    assert_eq!(walk(&object, root | 7 << 12, 5 << 12, WRITE).unwrap().page, 12);
    assert_eq!(walk(&object, root, PAGES << 12, READ), Err(Refusal::OutOfBounds));
    assert_eq!(
        walk(&object, root | Vpte::FRAME, 0xffff_ffff_f000, READ),
        Err(Refusal::OutOfBounds)
    );
    assert_eq!(walk(&object, root & !Vpte::WRITE, 0, WRITE), Err(Refusal::Denied));
}

#[test]
fn page_numbers_are_bounded_at_every_level() {
    for (page, index) in [(1, 1), (2, 2), (3, 3), (4, 4)] {
        for outside in [PAGES, PAGES + 1, Vpte::FRAME >> 12] {
            let object = four_levels(ALLOW);
            object.set(page, index, outside << 12 | ALLOW);
            assert_eq!(walk(&object, ROOT, ADDRESS, WRITE), Err(Refusal::OutOfBounds));
        }
    }
    assert_eq!(
        walk(&four_levels(ALLOW), PAGES << 12 | ALLOW, ADDRESS, READ),
        Err(Refusal::OutOfBounds)
    );
}

#[test]
fn a_table_that_names_itself_ends() {
    let object = Object::new(&[(1, 1, 1 << 12 | ALLOW)]);
    let same_index = 1 << 39 | 1 << 30 | 1 << 21 | 1 << 12;
    assert_eq!(walk(&object, ROOT, same_index, WRITE).unwrap().page, 1);
}

/// DragonFly 00eb801e04 and 5947157eb0: the accessed and dirty bits are set by compare-and-swap, so an entry that its owner
/// changes at the same moment is judged anew and never overwritten.
#[test]
fn a_change_under_the_walker_wins() {
    let mut object = four_levels(ALLOW);
    object.interfere = Box::new(|object, page, index| {
        if (page, index) == (4, 4) {
            object.set(4, 4, 0);
        }
    });
    assert_eq!(walk(&object, ROOT, ADDRESS, WRITE), Err(Refusal::NotValid));
    assert_eq!(object.word(4, 4), 0);
    let mut object = four_levels(ALLOW);
    object.interfere = Box::new(|object, page, index| {
        if (page, index) == (4, 4) && object.word(4, 4) >> 12 == 9 {
            object.set(4, 4, 10 << 12 | ALLOW);
        }
    });
    assert_eq!(walk(&object, ROOT, ADDRESS, WRITE).unwrap().page, 10);
    assert_eq!(object.word(4, 4), 10 << 12 | ALLOW | AD);
    // One that never rests is given up.
    let mut object = four_levels(ALLOW);
    object.interfere =
        Box::new(|object, page, index| object.set(page, index, object.word(page, index) ^ 1 << 9));
    assert_eq!(walk(&object, ROOT, ADDRESS, READ), Err(Refusal::Busy));
}

/// The same rules, written as plainly as possible, without accessed and dirty bits.
fn reference(object: &Object, root: u64, address: u64, access: Access) -> Result<u64, ()> {
    let mut entry = root;
    let mut entries = Vec::new();
    for level in (0..=4u32).rev() {
        if entry & Vpte::VALID == 0 {
            return Err(());
        }
        entries.push(entry);
        let large = entry & Vpte::LARGE != 0;
        if level == 4 && large {
            let page = ((entry & Vpte::FRAME) >> 12) + (address >> 12);
            return finish(&entries, access, page);
        }
        if level == 3 && large {
            return Err(());
        }
        if level == 0 || large {
            let low = (1u64 << (12 + 9 * level)) - 1;
            if large && level > 0 && entry & Vpte::FRAME & low & !0x1000 != 0 {
                return Err(());
            }
            return finish(
                &entries,
                access,
                (entry & Vpte::FRAME & !low | address & low) >> 12,
            );
        }
        let page = (entry & Vpte::FRAME) >> 12;
        if page >= PAGES {
            return Err(());
        }
        entry = object.word(page, (address >> (3 + 9 * level)) as usize & 511);
    }
    unreachable!()
}

fn finish(entries: &[u64], access: Access, page: u64) -> Result<u64, ()> {
    let all = |bit: u64| entries.iter().all(|entry| entry & bit != 0);
    let any = |bit: u64| entries.iter().any(|entry| entry & bit != 0);
    let denied =
        !all(Vpte::USER) || access.write && !all(Vpte::WRITE) || access.execute && any(Vpte::NO_EXECUTE);
    if denied || page >= PAGES {
        Err(())
    } else {
        Ok(page)
    }
}

fn entry() -> impl Strategy<Value = u64> {
    let flags =
        prop_oneof![8 => Just(ALLOW), 2 => any::<u64>().prop_map(|bits| bits & (0xfff | Vpte::NO_EXECUTE))];
    let page = prop_oneof![8 => 0..6u64, 1 => Just(1024u64), 1 => PAGES - 2..PAGES + 2, 1 => 0..1u64 << 40];
    (flags, page, prop::bool::weighted(0.1))
        .prop_map(|(flags, page, large)| flags | page << 12 | if large { Vpte::LARGE } else { 0 })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn agrees_with_the_plain_reference(
        root in entry(),
        entries in prop::collection::vec((0..6u64, 0..2usize, entry()), 0..24),
        address in (0..2u64, 0..2u64, 0..2u64, 0..2u64).prop_map(|(a, b, c, d)| a << 39 | b << 30 | c << 21 | d << 12),
        (write, execute) in prop_oneof![Just((false, false)), Just((true, false)), Just((false, true))],
    ) {
        let object = Object::new(&entries);
        let access = Access { write, execute };
        let expected = reference(&object, root, address, access);
        let before = object.words.borrow().clone();
        let result = walk(&object, root, address, access);
        prop_assert_eq!(result.map(|found| found.page).map_err(|_| ()), expected);
        // Only accessed and dirty bits change, and dirty only by a store.
        for (place, entry) in object.words.borrow().iter() {
            let changed = entry ^ before.get(place).copied().unwrap_or(0);
            prop_assert_eq!(changed & !AD, 0);
            prop_assert!(write || changed & Vpte::DIRTY == 0);
            prop_assert_eq!(changed & !entry, 0, "a bit was cleared");
        }
        if let Ok(found) = result {
            prop_assert!(!write || found.writable);
            prop_assert!(!execute || found.executable);
        }
    }
}

/// S13: the tables of 2006 had 32-bit entries, and objects may be larger than 4 GiB.
#[test]
fn page_numbers_beyond_32_bits_are_kept() {
    let page = (5 << 32) + 7;
    let mut object = Object::new(&[
        (0, 0, ALLOW | 1 << 12),
        (1, 0, ALLOW | 2 << 12),
        (2, 0, ALLOW | 3 << 12),
        (3, 0, ALLOW | AD | page << 12),
    ]);
    object.pages = 1 << 36;
    assert_eq!(walk(&object, ALLOW, 0x123, WRITE).unwrap().page, page);
    let address = 1 << 46;
    let linear = walk(&object, ALLOW | Vpte::LARGE | page << 12, address, READ);
    assert_eq!(linear.unwrap().page, page + (address >> 12));
    object.pages = page;
    assert_eq!(walk(&object, ALLOW, 0x123, WRITE), Err(Refusal::OutOfBounds));
}
