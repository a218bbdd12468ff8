//! Broken event injection (SDM 3C 27.2.1.3): VMfail with error 7.

use super::{Change, Mutation, can};
use crate::Field;
use crate::checker::Failure;
use crate::controls::{Group, PrimaryControls};

const fn control(name: &'static str, field: Field, change: Change) -> Mutation {
    Mutation::new(Failure::ControlFields, name, field, change)
}

const UNDEFINED_OPCODE: u64 = 0x8000_0306;
const GENERAL_PROTECTION: u64 = 0x8000_0b0d;
const BREAKPOINT: u64 = 0x8000_0603;

pub(super) const MUTATIONS: &[Mutation] = &[
    control(
        "event of a reserved kind",
        Field::EntryInterruptionInfo,
        |_, _| 0x8000_0120,
    ),
    control("NMI of another vector", Field::EntryInterruptionInfo, |_, _| {
        0x8000_0203
    }),
    control(
        "exception of a vector above 31",
        Field::EntryInterruptionInfo,
        |_, _| 0x8000_0320,
    ),
    control(
        "monitor trap flag that does not exist",
        Field::EntryInterruptionInfo,
        |_, _| 0x8000_0700,
    )
    .when(|c, _| !can(c, Group::Primary, PrimaryControls::MONITOR_TRAP_FLAG.bits()))
    .unchecked_by_bochs(),
    control(
        "monitor trap flag with a vector",
        Field::EntryInterruptionInfo,
        |_, _| 0x8000_0701,
    )
    .when(|c, _| can(c, Group::Primary, PrimaryControls::MONITOR_TRAP_FLAG.bits())),
    control(
        "reserved bit in an event",
        Field::EntryInterruptionInfo,
        |_, _| UNDEFINED_OPCODE | 1 << 12,
    ),
    control(
        "error code for an undefined opcode",
        Field::EntryInterruptionInfo,
        |_, _| UNDEFINED_OPCODE | 1 << 11,
    )
    .when(|c, _| !c.basic().allows_any_error_code()),
    control(
        "no error code for a general-protection fault",
        Field::EntryInterruptionInfo,
        |_, _| GENERAL_PROTECTION & !(1 << 11),
    )
    .when(|c, _| !c.basic().allows_any_error_code()),
    control(
        "error code for a software exception",
        Field::EntryInterruptionInfo,
        |_, _| BREAKPOINT | 1 << 11,
    )
    .after(&[(Field::EntryInstructionLength, |_, _| 1)])
    // Where any error code goes with exceptions, Bochs 2.7 takes one for the other kinds too.
    .when(|c, _| !c.basic().allows_any_error_code()),
    control(
        "error code of more than 16 bits",
        Field::EntryExceptionErrorCode,
        |_, _| 1 << 16,
    )
    .after(&[(Field::EntryInterruptionInfo, |_, _| GENERAL_PROTECTION)]),
    control(
        "instruction of 16 bytes",
        Field::EntryInstructionLength,
        |_, _| 16,
    )
    .after(&[
        (Field::EntryInterruptionInfo, |_, _| BREAKPOINT),
        (Field::EntryInstructionLength, |_, _| 1),
    ]),
    control("instruction of no bytes", Field::EntryInstructionLength, |_, _| 0)
        .after(&[
            (Field::EntryInterruptionInfo, |_, _| BREAKPOINT),
            (Field::EntryInstructionLength, |_, _| 1),
        ])
        .when(|c, _| !c.misc().injects_length_zero()),
];
