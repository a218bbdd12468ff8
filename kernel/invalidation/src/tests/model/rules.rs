//! What each operation drops, and that it drops nothing else.

use super::cache::{Cache, Cached, Invpcid, Invvpid, Rights, Tag};

const PAGE: u64 = 0x5000;
const OTHER: u64 = 0x6000;
/// Not below the same tables, the root aside.
const FAR: u64 = 3 << 39 | 0x5000;

fn linear(vpid: u16, pcid: impl Into<Option<u16>>) -> Tag {
    Tag::Linear {
        vpid,
        pcid: pcid.into(),
    }
}

fn combined(vpid: u16, pcid: impl Into<Option<u16>>, nested: u64) -> Tag {
    Tag::Combined {
        vpid,
        pcid: pcid.into(),
        nested,
    }
}

const PHYSICAL: Tag = Tag::GuestPhysical { nested: 1 };
const OTHER_PHYSICAL: Tag = Tag::GuestPhysical { nested: 2 };

/// One entry of each kind under each tag; global tags have translations only.
fn full() -> Cache {
    let mut cache = Cache::default();
    let mut tags = vec![PHYSICAL, OTHER_PHYSICAL];
    for vpid in 0..3 {
        for pcid in [None, Some(0), Some(1)] {
            tags.extend([
                linear(vpid, pcid),
                combined(vpid, pcid, 1),
                combined(vpid, pcid, 2),
            ]);
        }
    }
    for tag in tags {
        for address in [PAGE, OTHER, FAR] {
            let entry = |level| Cached {
                level,
                size: 1,
                base: address & !(page_table::span(level) - 1),
                target: 0x1000,
                allocation: 1,
                rights: Rights::ALL,
                guest_physical: 0,
            };
            let context = cache.context(tag);
            context.translations.insert(entry(1));
            if !is_global(tag) {
                context.structures.extend([entry(2), entry(3), entry(4)]);
            }
        }
    }
    cache
}

fn is_global(tag: Tag) -> bool {
    matches!(
        tag,
        Tag::Linear { pcid: None, .. } | Tag::Combined { pcid: None, .. }
    )
}

/// Which translations and which paging-structure entries are left, by address.
type Left = ([bool; 3], [bool; 3]);

/// What of a full cache is left by `operation`: translations and paging-structure entries of [`PAGE`], [`OTHER`] and [`FAR`],
/// under a tag.
fn left(operation: fn(&mut Cache)) -> impl Fn(Tag) -> Left {
    let mut cache = full();
    operation(&mut cache);
    move |tag| {
        let context = cache.contexts.get(&tag);
        let translated = |address| {
            context.is_some_and(|context| context.translations.iter().any(|cached| cached.covers(address)))
        };
        let structured = |address| {
            context.is_some_and(|context| context.structures.iter().any(|cached| cached.covers(address)))
        };
        (
            [PAGE, OTHER, FAR].map(translated),
            [PAGE, OTHER, FAR].map(structured),
        )
    }
}

const ALL: Left = ([true; 3], [true; 3]);
const GLOBAL: Left = ([true; 3], [false; 3]);
const NOTHING: Left = ([false; 3], [false; 3]);

/// 4.10.4.1.
#[test]
fn invlpg_drops_a_page_and_all_paging_structures_of_its_identifier() {
    let left = left(|cache| cache.invlpg(0, 1, &(PAGE..OTHER)));
    assert_eq!(left(linear(0, 1)), ([false, true, true], [false; 3]));
    assert_eq!(left(linear(0, None)), ([false, true, true], [false; 3]));
    assert_eq!(left(linear(0, 0)), ALL);
    assert_eq!(left(linear(1, 1)), ALL);
    assert_eq!(left(combined(0, 1, 2)), ([false, true, true], [false; 3]));
    assert_eq!(left(PHYSICAL), ALL);
}

/// 4.10.2.3: a large page is cached as small ones, which go together while the tables have the large page.
#[test]
fn invlpg_drops_a_large_page_only_if_it_is_still_there() {
    let there = left(|cache| cache.invlpg(0, 1, &(0..2 << 20)));
    assert_eq!(there(linear(0, 1)).0, [false, false, true]);
    let gone = left(|cache| cache.invlpg(0, 1, &(PAGE..OTHER)));
    assert_eq!(gone(linear(0, 1)).0, [false, true, true]);
}

/// 4.10.4.1: only what would be used to translate the address.
#[test]
fn invpcid_of_an_address_keeps_other_paging_structures_and_globals() {
    let left = left(|cache| cache.invpcid(0, Invpcid::Address(1, PAGE)));
    // The neighbour shares all tables.
    assert_eq!(left(linear(0, 1)), ([false, true, true], [false, false, true]));
    assert_eq!(left(linear(0, None)), GLOBAL);
    assert_eq!(left(linear(0, 0)), ALL);
}

/// 4.10.4.1.
#[test]
fn other_flushes_of_identifiers_differ_in_globals() {
    let one = left(|cache| cache.invpcid(0, Invpcid::Single(1)));
    let load = left(|cache| cache.mov_to_cr3(0, 1, false));
    for left in [&one, &load] {
        assert_eq!(left(linear(0, 1)), NOTHING);
        assert_eq!(left(linear(0, None)), GLOBAL);
        assert_eq!(left(linear(0, 0)), ALL);
        assert_eq!(left(linear(1, 1)), ALL);
    }
    let all = left(|cache| cache.invpcid(0, Invpcid::All));
    assert_eq!([0, 1].map(|pcid| all(linear(0, pcid))), [NOTHING; 2]);
    assert_eq!(all(linear(0, None)), GLOBAL);
    let really_all = left(|cache| cache.invpcid(0, Invpcid::AllWithGlobals));
    let paging = left(|cache| cache.mov_to_cr4_pge(0));
    for left in [&really_all, &paging] {
        assert_eq!(left(linear(0, None)), NOTHING);
        assert_eq!(left(linear(1, None)), GLOBAL);
    }
    let kept = left(|cache| cache.mov_to_cr3(0, 1, true));
    assert_eq!(kept(linear(0, 1)), ALL);
}

/// 4.10.4.1 and 29.4.3.1.
#[test]
fn faults_drop_what_would_be_used_for_the_address() {
    let fault = left(|cache| cache.page_fault(0, 1, PAGE));
    assert_eq!(fault(linear(0, 1)), ([false, true, true], [false, false, true]));
    assert_eq!(fault(linear(0, 0)), ALL);
    let violation = left(|cache| cache.ept_violation(1, 0, 1, PAGE, FAR));
    assert_eq!(violation(PHYSICAL), ([false, true, true], [false, false, true]));
    assert_eq!(
        violation(combined(1, 0, 1)),
        ([true, true, false], [true, true, false])
    );
    assert_eq!(violation(OTHER_PHYSICAL), ALL);
    assert_eq!(violation(combined(1, 0, 2)), ALL);
    assert_eq!(violation(linear(1, 0)), ALL);
}

/// 29.4.3.1 and 29.4.3.2.
#[test]
fn invept_drops_what_comes_from_the_root_and_no_linear_mappings() {
    let single = left(|cache| cache.invept(1));
    assert_eq!(single(PHYSICAL), NOTHING);
    for vpid in 0..3 {
        assert_eq!(single(combined(vpid, 0, 1)), NOTHING);
        assert_eq!(single(combined(vpid, None, 1)), NOTHING);
        assert_eq!(single(combined(vpid, 0, 2)), ALL);
        assert_eq!(single(linear(vpid, 0)), ALL);
    }
    assert_eq!(single(OTHER_PHYSICAL), ALL);
    let all = left(Cache::invept_all);
    assert_eq!([all(OTHER_PHYSICAL), all(combined(1, 0, 2))], [NOTHING; 2]);
    assert_eq!(all(linear(0, 1)), ALL);
}

/// 29.4.3.1 and 29.4.3.2.
#[test]
fn invvpid_drops_linear_and_combined_mappings_and_no_guest_physical_ones() {
    let address = left(|cache| cache.invvpid(Invvpid::Address(1, PAGE)));
    for tag in [linear(1, 0), linear(1, 1), combined(1, 1, 2)] {
        assert_eq!(address(tag), ([false, true, true], [false, false, true]));
    }
    assert_eq!(address(linear(1, None)), ([false, true, true], [false; 3]));
    let single = left(|cache| cache.invvpid(Invvpid::Single(1)));
    for tag in [linear(1, 0), linear(1, None), combined(1, 1, 2)] {
        assert_eq!(single(tag), NOTHING);
    }
    let retaining = left(|cache| cache.invvpid(Invvpid::SingleRetainingGlobals(1)));
    assert_eq!(
        [retaining(linear(1, 0)), retaining(combined(1, 1, 2))],
        [NOTHING; 2]
    );
    assert_eq!(retaining(combined(1, None, 1)), GLOBAL);
    let all = left(|cache| cache.invvpid(Invvpid::All));
    assert_eq!([all(linear(1, 0)), all(combined(2, None, 1))], [NOTHING; 2]);
    for left in [&address, &single, &retaining, &all] {
        assert_eq!(left(PHYSICAL), ALL);
        assert_eq!(left(linear(0, 0)), ALL);
        assert_eq!(left(combined(0, 1, 1)), ALL);
    }
    for left in [&address, &single, &retaining] {
        assert_eq!(left(linear(2, 0)), ALL);
    }
}

/// 29.4.3.1: with VPIDs, transitions drop nothing, so there is no operation for that.
#[test]
fn transitions_without_vpids_drop_all_of_vpid_zero() {
    let left = left(Cache::transition_without_vpids);
    assert_eq!([left(linear(0, 1)), left(combined(0, None, 2))], [NOTHING; 2]);
    assert_eq!(left(linear(1, 1)), ALL);
    assert_eq!(left(PHYSICAL), ALL);
}
