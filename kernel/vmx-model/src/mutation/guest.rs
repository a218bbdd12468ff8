//! Broken guest registers and other guest state (SDM 3C 27.3.1.1, 27.3.1.3 to 27.3.1.5): exit 33.

use super::{Change, Mutation, NOT_CANONICAL, beyond_physical, can};
use crate::Field;
use crate::capability::FixedBits;
use crate::checker::Failure;
use crate::controls::{EntryControls, Group, PinControls};

const fn guest(name: &'static str, field: Field, change: Change) -> Mutation {
    Mutation::new(Failure::GuestState, name, field, change)
}

const EXTERNAL_INTERRUPT: (Field, Change) = (Field::EntryInterruptionInfo, |_, _| 0x8000_0020);
const NMI: (Field, Change) = (Field::EntryInterruptionInfo, |_, _| 0x8000_0202);
const UNDEFINED_OPCODE: (Field, Change) = (Field::EntryInterruptionInfo, |_, _| 0x8000_0306);
const BLOCKED_BY_MOV_SS: (Field, Change) = (Field::GuestInterruptibility, |_, _| 2);
const RFLAGS_TF: u64 = 1 << 8;
const RFLAGS_IF: u64 = 1 << 9;

/// Control and debug registers, MSRs, descriptor tables, RIP and RFLAGS.
pub(super) const REGISTERS: &[Mutation] = &[
    guest("guest CR0 without PE", Field::GuestCr0, |old, _| old & !1),
    guest("guest CR0 without PG", Field::GuestCr0, |old, _| old & !(1 << 31)),
    guest("guest CR0 without NE", Field::GuestCr0, |old, _| old & !(1 << 5)),
    guest("guest CR0 with bit 63", Field::GuestCr0, |old, _| old | 1 << 63),
    guest("guest CR4 without VMXE", Field::GuestCr4, |old, _| {
        old & !FixedBits::CR4_VMXE
    }),
    guest("guest CR4 without PAE", Field::GuestCr4, |old, _| old & !(1 << 5)),
    guest(
        "guest CR4 with a bit that must be 0",
        Field::GuestCr4,
        |old, c| old | 1 << c.cr4().may.trailing_ones(),
    ),
    guest("guest CR3 beyond physical memory", Field::GuestCr3, |old, c| {
        old | beyond_physical(c)
    }),
    guest("guest CR3 with bit 63", Field::GuestCr3, |old, _| old | 1 << 63),
    guest(
        "guest CR4 with CET while CR0.WP is 0",
        Field::GuestCr0,
        |old, _| old & !(1 << 16),
    )
    .after(&[(Field::GuestCr4, |old, _| old | 1 << 23)])
    .blames(Field::GuestCr4)
    .when(|c, _| c.cr4().may & 1 << 23 != 0),
    guest("guest DR7 with bit 32", Field::GuestDr7, |old, _| old | 1 << 32),
    guest(
        "reserved bit in the guest's DEBUGCTL",
        Field::GuestDebugctl,
        |old, _| old | 1 << 16,
    )
    .unchecked_by_bochs(),
    guest("guest SYSENTER stack", Field::GuestSysenterEsp, |_, _| {
        NOT_CANONICAL
    }),
    guest("guest SYSENTER entry", Field::GuestSysenterEip, |_, _| {
        NOT_CANONICAL
    }),
    guest("guest PAT with a reserved type", Field::GuestPat, |_, _| {
        0x0307_0406_0007_0406
    })
    .after(&[
        (Field::EntryControls, |old, _| {
            old | EntryControls::LOAD_PAT.bits() as u64
        }),
        (Field::GuestPat, |_, _| 0x0007_0406_0007_0406),
    ])
    .when(|c, _| can(c, Group::Entry, EntryControls::LOAD_PAT.bits())),
    guest("reserved bit in the guest's EFER", Field::GuestEfer, |old, _| {
        old | 1 << 9
    }),
    guest("guest EFER without LMA", Field::GuestEfer, |old, _| {
        old & !(1 << 10)
    }),
    guest("guest EFER without LME", Field::GuestEfer, |old, _| {
        old & !(1 << 8)
    }),
    guest(
        "64-bit guest entered as 32-bit",
        Field::EntryControls,
        |old, _| old & !(EntryControls::GUEST_64_BIT.bits() as u64),
    )
    .blames(Field::GuestEfer),
    guest("guest GDTR base", Field::GuestGdtrBase, |_, _| NOT_CANONICAL),
    guest("guest IDTR base", Field::GuestIdtrBase, |_, _| NOT_CANONICAL),
    guest("guest GDTR limit of 17 bits", Field::GuestGdtrLimit, |_, _| {
        0x1_0000
    }),
    guest("guest IDTR limit of 32 bits", Field::GuestIdtrLimit, |_, _| {
        0xffff_ffff
    }),
    guest("guest RIP with bit 63 alone", Field::GuestRip, |old, _| {
        old & 0xffff | 1 << 63
    })
    .unchecked_by_bochs(),
    guest(
        "guest RIP of 33 bits outside of 64-bit mode",
        Field::GuestRip,
        |_, _| 1 << 32,
    )
    .after(&[
        (Field::GuestCsRights, |_, _| 0xc0fb),
        (Field::GuestRip, |_, _| 0x1000),
    ]),
    guest("guest RFLAGS without bit 1", Field::GuestRflags, |old, _| {
        old & !2
    }),
    guest("guest RFLAGS with bit 3", Field::GuestRflags, |old, _| {
        old | 1 << 3
    }),
    guest("guest RFLAGS with bit 5", Field::GuestRflags, |old, _| {
        old | 1 << 5
    }),
    guest("guest RFLAGS with bit 15", Field::GuestRflags, |old, _| {
        old | 1 << 15
    }),
    guest("guest RFLAGS with bit 22", Field::GuestRflags, |old, _| {
        old | 1 << 22
    }),
    guest("guest RFLAGS with bit 63", Field::GuestRflags, |old, _| {
        old | 1 << 63
    }),
    guest(
        "virtual-8086 mode in a 64-bit guest",
        Field::GuestRflags,
        |old, _| old | 1 << 17,
    ),
    guest(
        "interrupt injected while IF is 0",
        Field::GuestRflags,
        |old, _| old & !RFLAGS_IF,
    )
    .after(&[EXTERNAL_INTERRUPT]),
];

/// Activity, interruptibility, pending debug exceptions, link.
pub(super) const STATE: &[Mutation] = &[
    guest(
        "activity state that does not exist",
        Field::GuestActivity,
        |_, _| 4,
    ),
    guest("halted at CPL 3", Field::GuestActivity, |_, _| 1),
    guest(
        "undefined opcode injected in shutdown",
        Field::GuestActivity,
        |_, _| 2,
    )
    .after(&[UNDEFINED_OPCODE]),
    guest(
        "interrupt injected in wait-for-SIPI",
        Field::GuestActivity,
        |_, _| 3,
    )
    .after(&[EXTERNAL_INTERRUPT]),
    guest(
        "shutdown while interrupts are blocked",
        Field::GuestActivity,
        |_, _| 2,
    )
    .after(&[
        (Field::GuestInterruptibility, |_, _| 1),
        (Field::GuestRflags, |old, _| old | RFLAGS_IF),
    ]),
    guest(
        "reserved bit in interruptibility",
        Field::GuestInterruptibility,
        |_, _| 1 << 5,
    ),
    guest(
        "blocked by STI and by MOV SS",
        Field::GuestInterruptibility,
        |_, _| 3,
    ),
    guest(
        "SMIs blocked outside of SMM",
        Field::GuestInterruptibility,
        |_, _| 4,
    ),
    guest(
        "blocked by STI while IF is 0",
        Field::GuestInterruptibility,
        |_, _| 1,
    )
    .after(&[(Field::GuestRflags, |old, _| old & !RFLAGS_IF)]),
    guest(
        "interrupt injected while blocked by MOV SS",
        Field::GuestInterruptibility,
        |_, _| 2,
    )
    .after(&[EXTERNAL_INTERRUPT]),
    guest(
        "NMI injected while blocked by MOV SS",
        Field::GuestInterruptibility,
        |_, _| 2,
    )
    .after(&[NMI]),
    guest(
        "reserved bit 4 in pending debug exceptions",
        Field::GuestPendingDebug,
        |_, _| 1 << 4,
    ),
    guest(
        "reserved bit 13 in pending debug exceptions",
        Field::GuestPendingDebug,
        |_, _| 1 << 13,
    ),
    guest(
        "reserved bit 63 in pending debug exceptions",
        Field::GuestPendingDebug,
        |_, _| 1 << 63,
    )
    .unchecked_by_bochs(),
    guest(
        "single step pending without TF while blocked",
        Field::GuestPendingDebug,
        |_, _| 1 << 14,
    )
    .after(&[BLOCKED_BY_MOV_SS])
    .unchecked_by_bochs(),
    guest(
        "TF without a single step pending while blocked",
        Field::GuestRflags,
        |old, _| old | RFLAGS_TF,
    )
    .after(&[BLOCKED_BY_MOV_SS])
    .blames(Field::GuestPendingDebug)
    .unchecked_by_bochs(),
    guest(
        "virtual NMI injected while blocked",
        Field::GuestInterruptibility,
        |_, _| 8,
    )
    .after(&[
        (Field::PinControls, |old, _| {
            old | PinControls::VIRTUAL_NMIS.bits() as u64
        }),
        NMI,
    ])
    .unchecked_by_bochs(),
    guest(
        "transaction pending without a breakpoint",
        Field::GuestPendingDebug,
        |_, _| 1 << 16,
    ),
    guest(
        "link pointer that is not aligned",
        Field::VmcsLinkPointer,
        |_, _| 0x123,
    ),
    guest(
        "link pointer beyond physical memory",
        Field::VmcsLinkPointer,
        |_, c| beyond_physical(c),
    ),
    guest("link to no VMCS", Field::VmcsLinkPointer, |_, _| 0),
];
