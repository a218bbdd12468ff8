//! Broken host state (SDM 3C 27.2.2 to 27.2.4): VMfail with error 8.

use super::{Change, Mutation, NOT_CANONICAL, beyond_physical, can};
use crate::Field;
use crate::capability::FixedBits;
use crate::checker::Failure;
use crate::controls::{ExitControls, Group};

const fn host(name: &'static str, field: Field, change: Change) -> Mutation {
    Mutation::new(Failure::HostState, name, field, change)
}

const fn selector(name: &'static str, field: Field, bit: Change) -> Mutation {
    host(name, field, bit)
}

/// An address that is not canonical.
const fn address(name: &'static str, field: Field) -> Mutation {
    host(name, field, |_, _| NOT_CANONICAL)
}

pub(super) const MUTATIONS: &[Mutation] = &[
    host("host CR0 without PE", Field::HostCr0, |old, _| old & !1),
    host("host CR0 without PG", Field::HostCr0, |old, _| old & !(1 << 31)),
    host("host CR0 without NE", Field::HostCr0, |old, _| old & !(1 << 5)),
    host("host CR0 with bit 32", Field::HostCr0, |old, _| old | 1 << 32),
    host("host CR4 without VMXE", Field::HostCr4, |old, _| {
        old & !FixedBits::CR4_VMXE
    }),
    host("host CR4 without PAE", Field::HostCr4, |old, _| old & !(1 << 5)),
    host("host CR4 with a bit that must be 0", Field::HostCr4, |old, c| {
        old | 1 << c.cr4().may.trailing_ones()
    }),
    host("host CR4 with bit 63", Field::HostCr4, |old, _| old | 1 << 63),
    host("host CR4 with CET while CR0.WP is 0", Field::HostCr0, |old, _| {
        old & !(1 << 16)
    })
    .after(&[(Field::HostCr4, |old, _| old | 1 << 23)])
    .blames(Field::HostCr4)
    .when(|c, _| c.cr4().may & 1 << 23 != 0)
    .unchecked_by_bochs(),
    host("host CR3 beyond physical memory", Field::HostCr3, |old, c| {
        old | beyond_physical(c)
    }),
    host("host CR3 with bit 51", Field::HostCr3, |old, _| old | 1 << 51)
        .when(|c, _| c.cpu().physical_bits <= 51),
    address("host SYSENTER stack", Field::HostSysenterEsp),
    address("host SYSENTER entry", Field::HostSysenterEip),
    host("reserved bit in the host's EFER", Field::HostEfer, |old, _| {
        old | 1 << 1
    }),
    host("host EFER without LMA", Field::HostEfer, |old, _| {
        old & !(1 << 10)
    }),
    host("host EFER without LME", Field::HostEfer, |old, _| old & !(1 << 8)),
    host("host PAT with a reserved type", Field::HostPat, |_, _| {
        0x0007_0406_0007_0402
    })
    .after(&[
        (Field::ExitControls, |old, _| {
            old | ExitControls::LOAD_PAT.bits() as u64
        }),
        (Field::HostPat, |_, _| 0x0007_0406_0007_0406),
    ])
    .when(|c, _| can(c, Group::Exit, ExitControls::LOAD_PAT.bits())),
    selector("host CS with RPL 3", Field::HostCsSelector, |old, _| old | 3),
    selector("host CS in a local table", Field::HostCsSelector, |old, _| {
        old | 4
    }),
    selector("host SS with RPL 3", Field::HostSsSelector, |old, _| old | 3),
    selector("host DS with RPL 3", Field::HostDsSelector, |old, _| old | 3),
    selector("host ES in a local table", Field::HostEsSelector, |old, _| {
        old | 4
    }),
    selector("host FS with RPL 1", Field::HostFsSelector, |old, _| old | 1),
    selector("host GS with RPL 2", Field::HostGsSelector, |old, _| old | 2),
    selector("host TR with RPL 3", Field::HostTrSelector, |old, _| old | 3),
    selector("host TR in a local table", Field::HostTrSelector, |old, _| {
        old | 4
    }),
    selector("host CS null", Field::HostCsSelector, |_, _| 0),
    selector("host TR null", Field::HostTrSelector, |_, _| 0),
    address("host FS base", Field::HostFsBase),
    address("host GS base", Field::HostGsBase),
    address("host TR base", Field::HostTrBase),
    address("host GDTR base", Field::HostGdtrBase),
    address("host IDTR base", Field::HostIdtrBase),
    address("host RIP", Field::HostRip),
    host(
        "host address-space size of 32 bits",
        Field::ExitControls,
        |old, _| old & !(ExitControls::HOST_64_BIT.bits() as u64),
    ),
];
