//! What random programs are made of.

use crate::*;
use proptest::prelude::*;
use std::ops::Range;

/// Pages that share tables on all levels, and some that do not: the ones that programs and the CPU name. Others are there too
/// (the rest of larger leaves), and are counted.
pub fn named_pages() -> Vec<u64> {
    let mut pages = Vec::new();
    for third in [0, 1, 512, 513u64] {
        for second in 0..3u64 {
            for first in [0, 1, 2, 3, 4, 5, 508, 509, 510, 511u64] {
                pages.push(third << 30 | second << 21 | first << 12);
            }
        }
    }
    pages
}

/// Where the variants of backing begin: physical address = variant + address. So no frame is mapped twice.
pub fn backing(variant: u64, address: u64) -> u64 {
    (variant + 1) << 44 | address
}

/// One operation, or a series of them.
#[derive(Clone, Debug)]
pub enum Step {
    Enter {
        page: u64,
        level: u8,
        variant: u64,
        attributes: Attributes,
        store: bool,
        dirty: bool,
    },
    /// A page beside another.
    EnterAbsent(u64, Attributes),
    /// 512 leaves of a level, side by side, but for one that has another variant.
    Fill {
        page: u64,
        level: u8,
        protection: Protection,
        odd: Option<u64>,
    },
    Remove(Range<u64>),
    Narrow(Range<u64>, Protection),
    Harvest(Range<u64>, Usage),
    Split(u64),
    Promote(u64, u8),
}

fn page() -> impl Strategy<Value = u64> {
    prop::sample::select(named_pages())
}

fn range() -> impl Strategy<Value = Range<u64>> {
    (page(), page()).prop_map(|(one, other)| one.min(other)..one.max(other) + PAGE_SIZE)
}

fn protection() -> impl Strategy<Value = Protection> {
    (0..4u8).prop_map(|bits| Protection::READ | Protection::from_bits_truncate(bits << 1))
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let cache = prop_oneof![4 => Just(0), 1 => 0..5usize].prop_map(|number| CacheMode::ALL[number]);
    let software = prop_oneof![2 => Just(0), 1 => 0..8u8];
    (protection(), cache, software).prop_map(|(protection, cache, software)| Attributes {
        protection,
        user: false,
        global: false,
        cache,
        software,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let level = prop_oneof![6 => Just(1u8), 2 => Just(2u8), 1 => Just(3u8)];
    let flags = (any::<bool>(), any::<bool>());
    prop_oneof![
        8 => (page(), level, 0..3u64, attributes(), flags).prop_map(
            |(page, level, variant, attributes, (store, dirty))| Step::Enter {
                page, level, variant, attributes, store, dirty
            }
        ),
        2 => (page(), attributes()).prop_map(|(page, attributes)| Step::EnterAbsent(page, attributes)),
        2 => range().prop_map(Step::Remove),
        2 => (range(), protection()).prop_map(|(range, keep)| Step::Narrow(range, keep)),
        2 => (range(), 1..4u8).prop_map(
            |(range, usage)| Step::Harvest(range, Usage::from_bits_truncate(usage))
        ),
        2 => page().prop_map(Step::Split),
        1 => (page(), 2..4u8).prop_map(|(page, level)| Step::Promote(page, level)),
    ]
}

/// Programs in which a promotion often finds what it needs.
pub fn program() -> impl Strategy<Value = Vec<Step>> {
    let odd = prop::option::weighted(0.2, 0..512u64);
    let fill =
        (page(), 1..3u8, protection(), odd, step()).prop_map(|(page, level, protection, odd, other)| {
            let fill = Step::Fill {
                page,
                level,
                protection,
                odd,
            };
            vec![fill, other, Step::Promote(page, level + 1)]
        });
    let part = prop_oneof![8 => step().prop_map(|step| vec![step]), 1 => fill];
    prop::collection::vec(part, 1..36).prop_map(|parts| parts.concat())
}
