//! Broken VM-execution control fields (SDM 3C 27.2.1.1): VMfail with error 7.

use super::{Change, Mutation, beyond_physical, can, demanded, forbidden};
use crate::Field;
use crate::capability::EptVpid;
use crate::checker::Failure;
use crate::controls::{
    Group, PinControls as Pin, PrimaryControls as Primary, SecondaryControls as Secondary,
};

const fn control(name: &'static str, field: Field, change: Change) -> Mutation {
    Mutation::new(Failure::ControlFields, name, field, change)
}

const fn bits32(bits: u32) -> u64 {
    bits as u64
}

const TPR_SHADOW: (Field, Change) = (Field::PrimaryControls, |old, _| {
    old | bits32(Primary::TPR_SHADOW.bits())
});
const PML: u32 = Secondary::PAGE_MODIFICATION_LOGGING.bits();
const WITHOUT_EPT: u64 = !bits32(Secondary::EPT.bits());

/// VM-execution controls.
pub(super) const MUTATIONS: &[Mutation] = &[
    control(
        "clear a pin-based control that must be 1",
        Field::PinControls,
        |old, c| old & !demanded(c, Group::Pin),
    ),
    control(
        "set a pin-based control that must be 0",
        Field::PinControls,
        |old, c| old | forbidden(c, Group::Pin),
    ),
    control(
        "clear a primary control that must be 1",
        Field::PrimaryControls,
        |old, c| old & !demanded(c, Group::Primary),
    ),
    control(
        "set a primary control that must be 0",
        Field::PrimaryControls,
        |old, c| old | forbidden(c, Group::Primary),
    ),
    control(
        "set a secondary control that must be 0",
        Field::SecondaryControls,
        |old, c| old | forbidden(c, Group::Secondary),
    ),
    control(
        "more CR3-target values than there are",
        Field::Cr3TargetCount,
        |_, _| 5,
    ),
    control(
        "NMI-window exiting without virtual NMIs",
        Field::PrimaryControls,
        |old, _| old | bits32(Primary::NMI_WINDOW_EXITING.bits()),
    ),
    control(
        "virtual NMIs without NMI exiting",
        Field::PinControls,
        |old, _| old & !bits32(Pin::NMI_EXITING.bits()) | bits32(Pin::VIRTUAL_NMIS.bits()),
    ),
    control("I/O bitmap that is not aligned", Field::IoBitmapA, |_, _| 0x1001)
        .after(&[(Field::PrimaryControls, |old, _| {
            old | bits32(Primary::IO_BITMAPS.bits())
        })]),
    control("I/O bitmap beyond physical memory", Field::IoBitmapB, |_, c| {
        beyond_physical(c)
    })
    .after(&[(Field::PrimaryControls, |old, _| {
        old | bits32(Primary::IO_BITMAPS.bits())
    })]),
    control("MSR bitmaps that are not aligned", Field::MsrBitmaps, |_, _| {
        0x1800
    })
    .after(&[(Field::PrimaryControls, |old, _| {
        old | bits32(Primary::MSR_BITMAPS.bits())
    })]),
    control("MSR bitmaps beyond physical memory", Field::MsrBitmaps, |_, c| {
        beyond_physical(c)
    })
    .after(&[(Field::PrimaryControls, |old, _| {
        old | bits32(Primary::MSR_BITMAPS.bits())
    })]),
    control(
        "virtual-APIC page that is not aligned",
        Field::VirtualApicAddress,
        |_, _| 0x10,
    )
    .after(&[TPR_SHADOW]),
    control(
        "reserved bits in the TPR threshold",
        Field::TprThreshold,
        |_, _| 0x10,
    )
    .after(&[TPR_SHADOW]),
    control(
        "x2APIC virtualization without TPR shadow",
        Field::SecondaryControls,
        |old, _| old | bits32(Secondary::VIRTUALIZE_X2APIC_MODE.bits()),
    )
    .when(|c, _| can(c, Group::Secondary, Secondary::VIRTUALIZE_X2APIC_MODE.bits())),
    control(
        "interrupt delivery without TPR shadow",
        Field::SecondaryControls,
        |old, _| old | bits32(Secondary::VIRTUAL_INTERRUPT_DELIVERY.bits()),
    )
    .when(|c, _| can(c, Group::Secondary, Secondary::VIRTUAL_INTERRUPT_DELIVERY.bits())),
    control(
        "interrupt delivery without interrupt exiting",
        Field::PinControls,
        |old, _| old & !bits32(Pin::EXTERNAL_INTERRUPT_EXITING.bits()),
    )
    .after(&[
        TPR_SHADOW,
        (Field::SecondaryControls, |old, _| {
            old | bits32(Secondary::VIRTUAL_INTERRUPT_DELIVERY.bits())
        }),
    ])
    .when(|c, _| can(c, Group::Secondary, Secondary::VIRTUAL_INTERRUPT_DELIVERY.bits())),
    control(
        "APIC-access page that is not aligned",
        Field::ApicAccessAddress,
        |_, _| 0x20,
    )
    .after(&[(Field::SecondaryControls, |old, _| {
        old | bits32(Secondary::VIRTUALIZE_APIC_ACCESSES.bits())
    })])
    .when(|c, _| can(c, Group::Secondary, Secondary::VIRTUALIZE_APIC_ACCESSES.bits())),
    control(
        "APIC accesses and x2APIC mode both virtualized",
        Field::SecondaryControls,
        |old, _| {
            let both = Secondary::VIRTUALIZE_APIC_ACCESSES.union(Secondary::VIRTUALIZE_X2APIC_MODE);
            old | bits32(both.bits())
        },
    )
    .after(&[TPR_SHADOW])
    .when(|c, _| {
        let both = Secondary::VIRTUALIZE_APIC_ACCESSES.union(Secondary::VIRTUALIZE_X2APIC_MODE);
        can(c, Group::Secondary, both.bits())
    }),
    control(
        "EPT tables of a reserved memory type",
        Field::EptPointer,
        |old, _| old & !7 | 1,
    ),
    control("EPT walk of one level", Field::EptPointer, |old, _| {
        old & !(7 << 3)
    }),
    control("reserved bit in the EPT pointer", Field::EptPointer, |old, _| {
        old | 1 << 11
    }),
    control("EPT root beyond physical memory", Field::EptPointer, |old, c| {
        old | beyond_physical(c)
    }),
    control(
        "EPT flags that the CPU does not have",
        Field::EptPointer,
        |old, _| old | 1 << 6,
    )
    .when(|c, _| !c.ept_vpid().contains(EptVpid::ACCESSED_DIRTY)),
    control(
        "shadow-stack control that the CPU does not have",
        Field::EptPointer,
        |old, _| old | 1 << 7,
    )
    .when(|c, _| !c.ept_vpid().contains(EptVpid::SUPERVISOR_SHADOW_STACK)),
    control("the host's VPID", Field::Vpid, |_, _| 0)
        .when(|_, setting| setting.secondary.contains(Secondary::VPID)),
    control(
        "unrestricted guest without EPT",
        Field::SecondaryControls,
        |old, _| old & WITHOUT_EPT | bits32(Secondary::UNRESTRICTED_GUEST.bits()),
    )
    .when(|c, _| can(c, Group::Secondary, Secondary::UNRESTRICTED_GUEST.bits())),
    control(
        "page-modification logging without EPT",
        Field::SecondaryControls,
        |old, _| old & WITHOUT_EPT | bits32(PML),
    )
    .when(|c, _| can(c, Group::Secondary, PML)),
    control(
        "page-modification log that is not aligned",
        Field::PmlAddress,
        |_, _| 0x8,
    )
    .after(&[(Field::SecondaryControls, |old, _| old | bits32(PML))])
    .when(|c, _| can(c, Group::Secondary, PML)),
    control("TSC multiplier of 0", Field::TscMultiplier, |_, _| 0)
        .after(&[
            (Field::SecondaryControls, |old, _| {
                old | bits32(Secondary::TSC_SCALING.bits())
            }),
            (Field::TscMultiplier, |_, _| 1 << 48),
        ])
        .when(|c, _| can(c, Group::Secondary, Secondary::TSC_SCALING.bits())),
    control(
        "VMREAD bitmap that is not aligned",
        Field::VmreadBitmap,
        |_, _| 0x800,
    )
    .after(&[(Field::SecondaryControls, |old, _| {
        old | bits32(Secondary::VMCS_SHADOWING.bits())
    })])
    .when(|c, _| can(c, Group::Secondary, Secondary::VMCS_SHADOWING.bits())),
    control(
        "VM function that does not exist",
        Field::VmFunctionControls,
        |_, _| 1 << 63,
    )
    .after(&[(Field::SecondaryControls, |old, _| {
        old | bits32(Secondary::VM_FUNCTIONS.bits())
    })])
    .when(|c, _| can(c, Group::Secondary, Secondary::VM_FUNCTIONS.bits())),
];
