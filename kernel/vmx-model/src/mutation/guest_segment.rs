//! Broken segment registers of the guest (SDM 3C 27.3.1.2): exit 33.

use super::{Change, Mutation, NOT_CANONICAL};
use crate::Field;
use crate::checker::Failure;

const fn segment(name: &'static str, field: Field, change: Change) -> Mutation {
    Mutation::new(Failure::GuestState, name, field, change)
}

/// Bits of access rights.
const PRESENT: u64 = 1 << 7;
const CODE_OR_DATA: u64 = 1 << 4;
const PRIVILEGE: u64 = 3 << 5;
const LONG: u64 = 1 << 13;
const DEFAULT_BIG: u64 = 1 << 14;
const GRANULAR: u64 = 1 << 15;
const UNUSABLE: u64 = 1 << 16;

const fn with_type(rights: u64, kind: u64) -> u64 {
    rights & !0xf | kind
}

/// A usable data segment of CPL 3.
const DATA: u64 = 0xc0f3;
const SELECTOR: u64 = 0x23;
const USABLE_DS: &[(Field, Change)] = &[
    (Field::GuestDsSelector, |_, _| SELECTOR),
    (Field::GuestDsBase, |_, _| 0),
    (Field::GuestDsLimit, |_, _| 0xffff_ffff),
    (Field::GuestDsRights, |_, _| DATA),
];
const USABLE_ES: &[(Field, Change)] = &[
    (Field::GuestEsSelector, |_, _| SELECTOR),
    (Field::GuestEsBase, |_, _| 0),
    (Field::GuestEsLimit, |_, _| 0xffff_ffff),
    (Field::GuestEsRights, |_, _| DATA),
];
const USABLE_FS: &[(Field, Change)] = &[
    (Field::GuestFsSelector, |_, _| SELECTOR),
    (Field::GuestFsLimit, |_, _| 0xffff_ffff),
    (Field::GuestFsRights, |_, _| DATA),
];
const USABLE_GS: &[(Field, Change)] = &[
    (Field::GuestGsSelector, |_, _| SELECTOR),
    (Field::GuestGsLimit, |_, _| 0xffff_ffff),
    (Field::GuestGsRights, |_, _| DATA),
];
const USABLE_LDTR: &[(Field, Change)] = &[
    (Field::GuestLdtrSelector, |_, _| 0x38),
    (Field::GuestLdtrBase, |_, _| 0),
    (Field::GuestLdtrLimit, |_, _| 0xff),
    (Field::GuestLdtrRights, |_, _| 0x82),
];

pub(super) const MUTATIONS: &[Mutation] = &[
    segment("CS of a data type", Field::GuestCsRights, |old, _| {
        with_type(old, 3)
    }),
    segment("CS of code not accessed", Field::GuestCsRights, |old, _| {
        with_type(old, 10)
    }),
    segment("CS of a system type", Field::GuestCsRights, |old, _| {
        old & !CODE_OR_DATA
    }),
    segment("CS not present", Field::GuestCsRights, |old, _| old & !PRESENT),
    segment(
        "CS with a DPL that is not that of SS",
        Field::GuestCsRights,
        |old, _| old & !PRIVILEGE,
    ),
    segment("CS with reserved bit 8", Field::GuestCsRights, |old, _| {
        old | 1 << 8
    }),
    segment("CS with reserved bit 31", Field::GuestCsRights, |old, _| {
        old | 1 << 31
    }),
    segment("CS both L and D", Field::GuestCsRights, |old, _| {
        old | LONG | DEFAULT_BIG
    }),
    segment("CS limit in bytes, too large", Field::GuestCsRights, |old, _| {
        old & !GRANULAR
    }),
    segment("CS limit in pages, cut", Field::GuestCsLimit, |_, _| 0xffff_f000).blames(Field::GuestCsRights),
    segment("CS with RPL 0", Field::GuestCsSelector, |old, _| old & !3),
    segment("CS base of 33 bits", Field::GuestCsBase, |_, _| 1 << 32),
    segment("SS that is read-only", Field::GuestSsRights, |old, _| {
        with_type(old, 1)
    }),
    segment("SS of a code type", Field::GuestSsRights, |old, _| {
        with_type(old, 11)
    }),
    segment("SS of a system type", Field::GuestSsRights, |old, _| {
        old & !CODE_OR_DATA
    }),
    segment("SS not present", Field::GuestSsRights, |old, _| old & !PRESENT),
    segment("SS with DPL 0", Field::GuestSsRights, |old, _| old & !PRIVILEGE),
    segment("SS with reserved bit 11", Field::GuestSsRights, |old, _| {
        old | 1 << 11
    }),
    segment("SS with RPL 0", Field::GuestSsSelector, |old, _| old & !3),
    segment("SS base of 64 bits", Field::GuestSsBase, |_, _| 1 << 63),
    segment("DS not accessed", Field::GuestDsRights, |_, _| with_type(DATA, 2)).after(USABLE_DS),
    segment("DS of code that is not readable", Field::GuestDsRights, |_, _| {
        with_type(DATA, 9)
    })
    .after(USABLE_DS),
    segment("DS with a DPL below its RPL", Field::GuestDsRights, |_, _| {
        DATA & !PRIVILEGE
    })
    .after(USABLE_DS),
    segment("DS base of 33 bits", Field::GuestDsBase, |_, _| 1 << 32).after(USABLE_DS),
    segment("ES not present", Field::GuestEsRights, |_, _| DATA & !PRESENT).after(USABLE_ES),
    segment("ES of a system type", Field::GuestEsRights, |_, _| {
        DATA & !CODE_OR_DATA
    })
    .after(USABLE_ES),
    segment("ES limit in bytes, too large", Field::GuestEsRights, |_, _| {
        DATA & !GRANULAR
    })
    .after(USABLE_ES),
    segment("FS with reserved bit 17", Field::GuestFsRights, |_, _| {
        DATA | 1 << 17
    })
    .after(USABLE_FS),
    segment("FS with a DPL below its RPL", Field::GuestFsRights, |_, _| {
        DATA & !PRIVILEGE
    })
    .after(USABLE_FS),
    segment("GS not accessed", Field::GuestGsRights, |_, _| with_type(DATA, 2)).after(USABLE_GS),
    segment("FS base", Field::GuestFsBase, |_, _| NOT_CANONICAL),
    segment("GS base", Field::GuestGsBase, |_, _| NOT_CANONICAL),
    segment("TR in a local table", Field::GuestTrSelector, |old, _| old | 4),
    segment("TR base", Field::GuestTrBase, |_, _| NOT_CANONICAL),
    segment(
        "TR of a task state that is not busy",
        Field::GuestTrRights,
        |old, _| with_type(old, 9),
    ),
    segment("TR of a 16-bit task state", Field::GuestTrRights, |old, _| {
        with_type(old, 3)
    }),
    segment("TR of a code type", Field::GuestTrRights, |old, _| {
        old | CODE_OR_DATA
    }),
    segment("TR not present", Field::GuestTrRights, |old, _| old & !PRESENT),
    segment("TR unusable", Field::GuestTrRights, |old, _| old | UNUSABLE),
    segment("TR with reserved bit 8", Field::GuestTrRights, |old, _| {
        old | 1 << 8
    }),
    segment("TR limit in bytes, too large", Field::GuestTrLimit, |_, _| {
        0x10_0000
    })
    .blames(Field::GuestTrRights),
    segment("LDTR of another type", Field::GuestLdtrRights, |_, _| 0x83).after(USABLE_LDTR),
    segment("LDTR of a code type", Field::GuestLdtrRights, |_, _| 0x92).after(USABLE_LDTR),
    segment("LDTR not present", Field::GuestLdtrRights, |_, _| 0x02).after(USABLE_LDTR),
    segment("LDTR in a local table", Field::GuestLdtrSelector, |_, _| 0x3c).after(USABLE_LDTR),
    segment("LDTR base", Field::GuestLdtrBase, |_, _| NOT_CANONICAL).after(USABLE_LDTR),
    segment("LDTR limit in pages, cut", Field::GuestLdtrRights, |_, _| 0x8082).after(USABLE_LDTR),
];
