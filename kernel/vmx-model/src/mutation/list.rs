//! Broken VM-exit and VM-entry controls and MSR lists (SDM 3C 27.2.1.2, 27.2.1.3): VMfail with error 7.

use super::{Change, Mutation, beyond_physical, can, demanded, forbidden};
use crate::Field;
use crate::checker::Failure;
use crate::controls::{EntryControls, ExitControls, Group};

const fn control(name: &'static str, field: Field, change: Change) -> Mutation {
    Mutation::new(Failure::ControlFields, name, field, change)
}

/// The place of the last entry of an MSR list.
fn last_entry(_: u64, capabilities: &crate::Capabilities) -> u64 {
    beyond_physical(capabilities).wrapping_sub(16)
}

pub(super) const MUTATIONS: &[Mutation] = &[
    control(
        "clear an exit control that must be 1",
        Field::ExitControls,
        |old, c| old & !demanded(c, Group::Exit),
    ),
    control(
        "set an exit control that must be 0",
        Field::ExitControls,
        |old, c| old | forbidden(c, Group::Exit),
    ),
    control(
        "save a preemption timer that is off",
        Field::ExitControls,
        |old, _| old | ExitControls::SAVE_PREEMPTION_TIMER.bits() as u64,
    )
    .when(|c, _| can(c, Group::Exit, ExitControls::SAVE_PREEMPTION_TIMER.bits())),
    control(
        "exit MSR-store list that is not aligned",
        Field::ExitMsrStoreAddress,
        |_, _| 0x1008,
    )
    .after(&[(Field::ExitMsrStoreCount, |_, _| 1)]),
    control(
        "exit MSR-store list that ends too high",
        Field::ExitMsrStoreCount,
        |_, _| 2,
    )
    .after(&[
        (Field::ExitMsrStoreAddress, last_entry),
        (Field::ExitMsrStoreCount, |_, _| 1),
    ]),
    control(
        "exit MSR-load list that is not aligned",
        Field::ExitMsrLoadAddress,
        |_, _| 0x1001,
    )
    .after(&[(Field::ExitMsrLoadCount, |_, _| 1)]),
    control(
        "exit MSR-load list too high",
        Field::ExitMsrLoadAddress,
        |_, c| beyond_physical(c),
    )
    .after(&[(Field::ExitMsrLoadCount, |_, _| 1)]),
    control(
        "clear an entry control that must be 1",
        Field::EntryControls,
        |old, c| old & !demanded(c, Group::Entry),
    ),
    control(
        "set an entry control that must be 0",
        Field::EntryControls,
        |old, c| old | forbidden(c, Group::Entry),
    ),
    control(
        "deactivate a dual-monitor treatment",
        Field::EntryControls,
        |old, _| old | EntryControls::DEACTIVATE_DUAL_MONITOR.bits() as u64,
    )
    .when(|c, _| can(c, Group::Entry, EntryControls::DEACTIVATE_DUAL_MONITOR.bits())),
    control(
        "entry MSR-load list that is not aligned",
        Field::EntryMsrLoadAddress,
        |_, _| 0x1004,
    )
    .after(&[(Field::EntryMsrLoadCount, |_, _| 1)]),
    control(
        "entry MSR-load list that ends too high",
        Field::EntryMsrLoadCount,
        |_, _| 2,
    )
    .after(&[
        (Field::EntryMsrLoadAddress, last_entry),
        (Field::EntryMsrLoadCount, |_, _| 1),
    ]),
];
