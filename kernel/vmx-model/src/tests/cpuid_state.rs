//! The CPUID policy: extended state and topology.

use super::cpuid::{ask, guest};
use super::recorded::{ICELAKE_U, SKYLAKE_X};
use crate::cpuid::{Cpuid, Guest, Leaf, answer};

#[test]
fn extended_state_is_that_of_the_guest_s_xcr0() {
    let whole = ask(&ICELAKE_U, 0xd, 0);
    assert_eq!(
        whole,
        Leaf {
            eax: 0xe7,
            ebx: 0xa80,
            ecx: 0xa80,
            edx: 0
        },
        "no protection keys"
    );
    let instructions = ask(&ICELAKE_U, 0xd, 1);
    // XSAVEOPT, XSAVEC, XGETBV(1); 576 + 256 + 64 + 512 + 1024 bytes compacted.
    assert_eq!(
        instructions,
        Leaf {
            eax: 7,
            ebx: 2432,
            ecx: 0,
            edx: 0
        }
    );
    for component in [2, 5, 6, 7] {
        assert_eq!(ask(&ICELAKE_U, 0xd, component), ICELAKE_U.leaf(0xd, component));
    }
    for absent in [3, 4, 8, 9, 31, 62, 63, 64, u32::MAX] {
        assert_eq!(ask(&ICELAKE_U, 0xd, absent), Leaf::ZERO);
    }
    let mut guest = guest(&ICELAKE_U);
    guest.xcr0 = 7;
    let avx = answer(&ICELAKE_U, &guest, 0xd, 0);
    assert_eq!((avx.eax, avx.ebx, avx.ecx), (7, 0x340, 0x340));
    assert_eq!(answer(&ICELAKE_U, &guest, 0xd, 5), Leaf::ZERO);
}

#[test]
fn compacted_components_are_aligned_where_they_ask_for_it() {
    let host = |leaf: u32, subleaf: u32| match (leaf, subleaf) {
        (0, _) => Leaf {
            eax: 0xd,
            ..Leaf::ZERO
        },
        (0xd, 1) => Leaf {
            eax: 0xf,
            ..Leaf::ZERO
        },
        (0xd, 2) => Leaf {
            eax: 8,
            ebx: 576,
            ..Leaf::ZERO
        },
        (0xd, 5) => Leaf {
            eax: 16,
            ebx: 1024,
            ecx: 6,
            edx: 0,
        },
        _ => Leaf::ZERO,
    };
    let guest = Guest {
        xcr0: 0x27,
        ..guest(&SKYLAKE_X)
    };
    assert_eq!(answer(&host, &guest, 0xd, 1).ebx, 640 + 16);
    assert_eq!(answer(&host, &guest, 0xd, 5).ecx, 2, "XFD is hidden");
    assert_eq!(answer(&host, &guest, 0xd, 0).ebx, 1040);
}

#[test]
fn every_thread_is_a_core_of_one_package() {
    let leaf = ask(&SKYLAKE_X, 1, 0);
    assert_eq!(
        (leaf.ebx >> 24, leaf.ebx >> 16 & 0xff, leaf.ebx >> 8 & 0xff),
        (2, 8, 8)
    );
    assert_ne!(leaf.edx & 1 << 28, 0);
    let threads = ask(&SKYLAKE_X, 0xb, 0);
    assert_eq!(
        (threads.eax, threads.ebx, threads.ecx, threads.edx),
        (0, 1, 0x100, 2)
    );
    let cores = ask(&SKYLAKE_X, 0xb, 1);
    assert_eq!((cores.eax, cores.ebx, cores.ecx, cores.edx), (3, 6, 0x201, 2));
    let end = ask(&SKYLAKE_X, 0xb, 0x102);
    assert_eq!((end.eax, end.ebx, end.ecx, end.edx), (0, 0, 2, 2));
    let first = ask(&SKYLAKE_X, 4, 0);
    assert_eq!(
        (first.eax >> 26, first.eax >> 14 & 0xfff, first.eax & 0x3fff),
        (7, 0, 0x121)
    );
    let third = ask(&SKYLAKE_X, 4, 3);
    assert_eq!(
        (third.eax >> 26, third.eax >> 14 & 0xfff),
        (7, 7),
        "all share the third level"
    );
    assert_eq!(ask(&SKYLAKE_X, 4, 4), Leaf::ZERO);

    let alone = Guest {
        cpu: 0,
        cpus: 1,
        ..guest(&SKYLAKE_X)
    };
    let leaf = answer(&SKYLAKE_X, &alone, 1, 0);
    assert_eq!((leaf.ebx >> 16, leaf.edx >> 28 & 1), (1, 0));
}
