//! Formats: every combination of attributes, there and back, and the differences that matter.

use crate::*;

fn all_attributes() -> impl Iterator<Item = Attributes> {
    (0..2 * 2 * 2 * 2 * 4 * 8u32).map(|number| Attributes {
        protection: Protection::READ
            | Protection::from_bits_truncate(((number & 1) << 1 | (number >> 1 & 1) << 2) as u8),
        user: number >> 2 & 1 != 0,
        global: number >> 3 & 1 != 0,
        cache: CacheMode::ALL[(number >> 4 & 3) as usize],
        software: (number >> 6 & 7) as u8,
    })
}

#[test]
fn attributes_survive_encoding_at_every_level() {
    for format in [&X86_64, &EPT] {
        for level in 1..=3 {
            for attributes in all_attributes() {
                let physical = 5 * span(3);
                let entry = format.leaf(level, physical, attributes);
                assert!(format.is_present(entry), "{}", format.name);
                assert!(format.is_leaf(entry, level));
                assert_eq!(format.leaf_address(entry, level), physical);
                let mut expected = attributes;
                expected.user &= format.user != 0;
                expected.global &= format.global != 0;
                assert_eq!(
                    format.attributes(entry, level),
                    Some(expected),
                    "{} {level}",
                    format.name
                );
                let used = entry | format.accessed | format.dirty;
                assert_eq!(
                    format.attributes(used, level),
                    Some(expected),
                    "{} {level}",
                    format.name
                );
            }
        }
    }
}

#[test]
fn no_two_meanings_share_a_bit() {
    for format in [&X86_64, &EPT] {
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

/// DragonFly, 2013: a directory of EPT must have no cache bits, so converting a normal table is not possible.
#[test]
fn tables_have_no_cache_bits() {
    for user in [false, true] {
        assert_eq!(EPT.table(0x7000, user), 0x7007);
        assert_eq!(
            X86_64.table(0x7000, user) & (X86_64.cache_mask & !X86_64.large),
            0
        );
    }
}

/// An entry of EPT with only one of its bits is still used by hardware.
#[test]
fn ept_is_present_by_any_access() {
    for bit in 0..3 {
        assert!(EPT.is_present(1 << bit));
    }
    assert!(!EPT.is_present(!7));
    assert!(!X86_64.is_present(!1));
}

/// Execute permission is real in EPT.
#[test]
fn narrowing_takes_away_and_never_gives() {
    for format in [&X86_64, &EPT] {
        for attributes in all_attributes() {
            let entry = format.leaf(1, 0x5000, attributes);
            for bits in 0..4u8 {
                let keep = Protection::READ | Protection::from_bits_truncate(bits << 1);
                let narrowed = format.narrowed(entry, keep);
                let expected = attributes.protection & keep;
                assert_eq!(format.protection(narrowed), expected);
                assert_eq!(format.narrowed(narrowed, keep), narrowed);
            }
        }
    }
}

#[test]
fn pat_matches_the_cache_vector() {
    let memory_type = |entry: u64, pat_bit: u32| {
        let index = entry >> 3 & 1 | (entry >> 4 & 1) << 1 | (entry >> pat_bit & 1) << 2;
        PAT >> (8 * index) & 0xff
    };
    // SDM volume 3, table 12-10: WB 6, WT 4, UC 0, WC 1.
    for (mode, expected) in CacheMode::ALL.into_iter().zip([6, 4, 0, 1]) {
        assert_eq!(memory_type(X86_64.cache[mode as usize], 7), expected, "{mode:?}");
        assert_eq!(
            memory_type(X86_64.cache_large[mode as usize], 12),
            expected,
            "{mode:?} large"
        );
    }
}
