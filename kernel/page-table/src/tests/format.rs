//! Formats, exhaustively over what a leaf can say: what hardware reads in it, and what comes back.

use super::hardware::{Decoded, FORMATS, Meaning, Mmu, PAT_ENTRIES};
use crate::*;

/// Every combination.
pub fn all_attributes() -> impl Iterator<Item = Attributes> {
    (0..4 * 2 * 2 * 5 * 8u32).map(|number| Attributes {
        protection: protection(number & 3),
        user: number >> 2 & 1 != 0,
        global: number >> 3 & 1 != 0,
        cache: CacheMode::ALL[(number >> 4) as usize % 5],
        software: (number / 80) as u8,
    })
}

/// `READ` and, by two bits, more.
fn protection(bits: u32) -> Protection {
    Protection::READ | Protection::from_bits_truncate((bits << 1) as u8)
}

/// Physical addresses of leaves of a level: the first, the last, and patterns.
fn addresses(level: u8) -> [u64; 4] {
    let mask = ((1 << 52) - 1) & !(span(level) - 1);
    [
        0,
        mask,
        0xaaaa_aaaa_aaaa_aaaa & mask,
        0x5555_5555_5555_5555 & mask,
    ]
}

/// Memory types by [`CacheMode`], numbers as in the manuals (SDM volume 3, table 12-10, and 29.3.7).
const MEMORY_TYPES: [u8; 5] = [6, 4, 0, 1, 5];

/// What hardware is to read in a leaf that was never used.
fn meaning(mmu: Mmu, physical: u64, attributes: Attributes) -> Meaning {
    Meaning {
        physical,
        write: attributes.protection.contains(Protection::WRITE),
        execute: attributes.protection.contains(Protection::EXECUTE),
        user: mmu == Mmu::Paging && attributes.user,
        global: mmu == Mmu::Paging && attributes.global,
        memory_type: MEMORY_TYPES[attributes.cache as usize],
        accessed: false,
        dirty: false,
    }
}

/// What the format can say of them.
fn expressible(format: &Format, attributes: Attributes) -> Attributes {
    Attributes {
        user: attributes.user && format.user != 0,
        global: attributes.global && format.global != 0,
        ..attributes
    }
}

fn for_all(mut check: impl FnMut(&Format, Mmu, u8, u64, Attributes)) {
    for (format, mmu) in FORMATS {
        for level in 1..=3 {
            for physical in addresses(level) {
                for attributes in all_attributes() {
                    check(format, mmu, level, physical, attributes);
                }
            }
        }
    }
}

#[test]
fn all_combinations_are_different() {
    let mut all: Vec<_> = all_attributes().collect();
    all.dedup();
    assert_eq!(all.len(), 640);
    let entries: std::collections::BTreeSet<u64> = all_attributes()
        .map(|attributes| X86_64.leaf(1, 0, attributes))
        .collect();
    assert_eq!(entries.len(), 640);
}

#[test]
fn hardware_reads_in_a_leaf_what_was_meant_and_finds_no_reserved_bit() {
    for_all(|format, mmu, level, physical, attributes| {
        let entry = format.leaf(level, physical, attributes);
        let expected = meaning(mmu, physical, attributes);
        assert_eq!(mmu.decode(entry, level), Decoded::Leaf(expected), "{entry:#x}");
        let used = mmu.used(entry, true);
        let expected = Meaning {
            accessed: mmu.records(),
            dirty: mmu.records(),
            ..expected
        };
        assert_eq!(mmu.decode(used, level), Decoded::Leaf(expected), "{used:#x}");
    });
}

#[test]
fn attributes_survive_encoding_at_every_level() {
    for_all(|format, mmu, level, physical, attributes| {
        let leaf = format.leaf(level, physical, attributes);
        for entry in [leaf, mmu.used(leaf, false), mmu.used(leaf, true)] {
            assert!(format.is_present(entry) && format.is_leaf(entry, level));
            assert_eq!(format.leaf_address(entry, level), physical);
            let expected = expressible(format, attributes);
            assert_eq!(format.attributes(entry, level), Some(expected));
        }
    });
}

/// The same attributes lead to the same accesses and the same memory type in every format.
#[test]
fn formats_agree_on_meaning() {
    for level in 1..=3 {
        for attributes in all_attributes() {
            let read = FORMATS.map(|(format, mmu)| {
                let entry = format.leaf(level, span(level), attributes);
                let Decoded::Leaf(meaning) = mmu.decode(entry, level) else {
                    panic!("not a leaf")
                };
                Meaning {
                    user: false,
                    global: false,
                    ..meaning
                }
            });
            assert!(read.iter().all(|meaning| *meaning == read[0]), "{read:?}");
        }
    }
}

/// Usage is known only to have happened where hardware or the right to store says so.
#[test]
fn usage_is_what_hardware_recorded_or_could_not() {
    for_all(|format, mmu, level, physical, attributes| {
        let leaf = format.leaf(level, physical, attributes);
        let writable = attributes.protection.contains(Protection::WRITE);
        for (accessed, dirty) in [(false, false), (true, false), (true, true)] {
            let entry = if accessed { mmu.used(leaf, dirty) } else { leaf };
            let mut expected = Usage::empty();
            expected.set(Usage::ACCESSED, accessed || !mmu.records());
            expected.set(Usage::DIRTY, if mmu.records() { dirty } else { writable });
            assert_eq!(format.usage(entry), expected);
            for bits in 0..4 {
                let cleared = Usage::from_bits_truncate(bits);
                let without = format.without_usage(entry, cleared);
                let mut left = expected - cleared;
                left.set(Usage::ACCESSED, left.contains(Usage::ACCESSED) || !mmu.records());
                assert_eq!(format.usage(without), left);
                let mut kept = expressible(format, attributes);
                if cleared.contains(Usage::DIRTY) && !mmu.records() {
                    kept.protection -= Protection::WRITE;
                }
                assert_eq!(format.attributes(without, level), Some(kept));
            }
        }
    });
}

/// Execute permission is real in EPT.
#[test]
fn narrowing_takes_away_and_never_gives() {
    for_all(|format, mmu, level, physical, attributes| {
        let entry = mmu.used(format.leaf(level, physical, attributes), true);
        for bits in 0..4 {
            let keep = protection(bits);
            let narrowed = format.narrowed(entry, keep);
            let expected = Attributes {
                protection: attributes.protection & keep,
                ..expressible(format, attributes)
            };
            assert_eq!(format.attributes(narrowed, level), Some(expected));
            assert_eq!(format.narrowed(narrowed, keep), narrowed);
            let Decoded::Leaf(read) = mmu.decode(narrowed, level) else {
                panic!("{narrowed:#x} is no leaf")
            };
            assert_eq!(read.write, expected.protection.contains(Protection::WRITE));
            assert_eq!(read.execute, expected.protection.contains(Protection::EXECUTE));
            // What was written before may be written no more, but it was.
            assert_eq!(format.usage(narrowed), format.usage(entry));
        }
    });
}

#[test]
fn tables_allow_everything_and_have_no_cache_bits() {
    for (format, mmu) in FORMATS {
        for level in 2..=ROOT_LEVEL {
            for address in addresses(1) {
                for user in [false, true] {
                    let entry = format.table(address, user);
                    let expected = Decoded::Table {
                        address,
                        write: true,
                        execute: true,
                        user: user && mmu == Mmu::Paging,
                    };
                    assert_eq!(mmu.decode(entry, level), expected, "{} {level}", format.name);
                    let used = mmu.used(entry, false);
                    assert_eq!(format.table_address(used), address);
                    assert!(format.is_present(used) && !format.is_leaf(used, level));
                }
            }
        }
    }
}

/// A store or a fetch without the right to load is a misconfiguration of EPT (SDM volume 3, 29.3.3.1) or needs a CPU that
/// has execute-only.
#[test]
fn no_leaf_is_without_the_right_to_load() {
    for (format, mmu) in FORMATS {
        for bits in 0..8 {
            let attributes = Attributes {
                protection: Protection::from_bits_truncate(bits),
                user: false,
                global: false,
                cache: CacheMode::WriteBack,
                software: 0,
            };
            let entry = format.leaf(1, 0x5000, attributes);
            for keep in 0..8 {
                let narrowed = format.narrowed(entry, Protection::from_bits_truncate(keep));
                for entry in [narrowed, format.without_usage(narrowed, Usage::all())] {
                    assert!(matches!(mmu.decode(entry, 1), Decoded::Leaf(_)), "{entry:#x}");
                    assert!(format.protection(entry).contains(Protection::READ));
                }
            }
        }
    }
}

#[test]
fn no_two_meanings_share_a_bit() {
    for (format, _) in FORMATS {
        for (address, cache) in [
            (format.address, format.cache_mask),
            (
                format.leaf_address_mask(2),
                format.cache_mask_large | format.large,
            ),
        ] {
            let single = [
                format.read,
                format.write,
                format.execute,
                format.no_execute,
                format.user,
                format.accessed,
                format.dirty,
                format.global,
                format.software[0],
                format.software[1],
                format.software[2],
                address,
                cache,
            ];
            let mut seen = 0;
            for bits in single {
                assert_eq!(seen & bits, 0, "{} {bits:#x}", format.name);
                seen |= bits;
            }
        }
    }
}

/// An entry of EPT with only one of its bits is still used by hardware.
#[test]
fn ept_is_present_by_any_access() {
    for format in [&EPT, &EPT_WITHOUT_ACCESSED_DIRTY] {
        for bit in 0..3 {
            assert!(format.is_present(1 << bit));
        }
        assert!(!format.is_present(!7));
    }
    assert!(!X86_64.is_present(!1));
}

#[test]
fn pat_is_what_the_cache_vectors_assume() {
    assert_eq!(PAT.to_le_bytes(), PAT_ENTRIES);
    // What firmware and boot loaders use while another value is loaded: write-back, write-through, uncached.
    assert_eq!((PAT_ENTRIES[0], PAT_ENTRIES[1], PAT_ENTRIES[3]), (6, 4, 0));
}

#[test]
fn known_entries() {
    let code = Attributes {
        protection: Protection::READ | Protection::EXECUTE,
        user: true,
        global: false,
        cache: CacheMode::WriteBack,
        software: 0,
    };
    let data = Attributes {
        protection: Protection::READ | Protection::WRITE,
        ..code
    };
    assert_eq!(X86_64.leaf(1, 0x5000, code), 0x5005);
    assert_eq!(X86_64.leaf(1, 0x5000, data), 1 << 63 | 0x5007);
    assert_eq!(X86_64.leaf(2, 0x20_0000, data), 1 << 63 | 0x20_0087);
    assert_eq!(X86_64.table(0x7000, true), 0x7007);
    assert_eq!(X86_64.table(0x7000, false), 0x7003);
    // EPT: read 0, write 1, execute 2, memory type in bits 3-5 (6 = WB), ignore PAT 6, large 7.
    assert_eq!(EPT.leaf(1, 0x5000, code), 0x5000 | 1 | 4 | 6 << 3 | 1 << 6);
    assert_eq!(EPT.leaf(1, 0x5000, data), 0x5000 | 3 | 6 << 3 | 1 << 6);
    let device = Attributes {
        cache: CacheMode::Uncached,
        ..data
    };
    assert_eq!(EPT.leaf(2, 0x20_0000, device), 0x20_0000 | 3 | 1 << 6 | 1 << 7);
}

#[test]
fn the_ept_pointer_says_type_depth_and_whether_usage_is_recorded() {
    // Bits 2:0 type, 5:3 levels less one, 6 accessed and dirty, 51:12 root (SDM volume 3, 25.6.11).
    assert_eq!(ept_pointer(0x1234_5000, WalkMemory::WriteBack, true), 0x1234_505e);
    assert_eq!(
        ept_pointer(0x1234_5000, WalkMemory::WriteBack, false),
        0x1234_501e
    );
    assert_eq!(ept_pointer(0x1234_5000, WalkMemory::Uncached, true), 0x1234_5058);
    let highest = 0x000f_ffff_ffff_f000;
    assert_eq!(ept_pointer(highest, WalkMemory::Uncached, false), highest | 0x18);
    assert!(ept_format(true).hardware_dirty && !ept_format(false).hardware_dirty);
}
