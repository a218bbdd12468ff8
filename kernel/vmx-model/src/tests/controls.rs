//! The negotiation of controls. Tests named after bugs that DragonFly's VMX code had.

use super::recorded::{self, Record, SKYLAKE_X};
use crate::controls::{
    Allowed, ControlSet, Controls, EntryControls, ExitControls, Group, PinControls, PrimaryControls,
    SecondaryControls, guest,
};
use crate::{Field, Msr};
use proptest::prelude::*;
use x86::vmx::vmcs::control as other;

fn chosen(record: &Record) -> Controls {
    record.capabilities().support().expect("it is supported").controls
}

#[test]
fn bits_are_those_of_another_crate() {
    assert_eq!(
        PinControls::NMI_EXITING.bits(),
        other::PinbasedControls::NMI_EXITING.bits()
    );
    assert_eq!(
        PinControls::EXTERNAL_INTERRUPT_EXITING.bits(),
        other::PinbasedControls::EXTERNAL_INTERRUPT_EXITING.bits()
    );
    type Primary = other::PrimaryControls;
    for (ours, theirs) in [
        (PrimaryControls::HLT_EXITING, Primary::HLT_EXITING),
        (PrimaryControls::INVLPG_EXITING, Primary::INVLPG_EXITING),
        (PrimaryControls::CR3_LOAD_EXITING, Primary::CR3_LOAD_EXITING),
        (PrimaryControls::CR8_STORE_EXITING, Primary::CR8_STORE_EXITING),
        (PrimaryControls::MOV_DR_EXITING, Primary::MOV_DR_EXITING),
        (
            PrimaryControls::UNCONDITIONAL_IO_EXITING,
            Primary::UNCOND_IO_EXITING,
        ),
        (PrimaryControls::MSR_BITMAPS, Primary::USE_MSR_BITMAPS),
        (PrimaryControls::MONITOR_TRAP_FLAG, Primary::MONITOR_TRAP_FLAG),
        (PrimaryControls::SECONDARY_CONTROLS, Primary::SECONDARY_CONTROLS),
    ] {
        assert_eq!(ours.bits(), theirs.bits());
    }
    type Secondary = other::SecondaryControls;
    for (ours, theirs) in [
        (SecondaryControls::EPT, Secondary::ENABLE_EPT),
        (
            SecondaryControls::DESCRIPTOR_TABLE_EXITING,
            Secondary::DTABLE_EXITING,
        ),
        (SecondaryControls::RDTSCP, Secondary::ENABLE_RDTSCP),
        (SecondaryControls::VPID, Secondary::ENABLE_VPID),
        (
            SecondaryControls::UNRESTRICTED_GUEST,
            Secondary::UNRESTRICTED_GUEST,
        ),
        (
            SecondaryControls::PAGE_MODIFICATION_LOGGING,
            Secondary::ENABLE_PML,
        ),
        (SecondaryControls::XSAVES, Secondary::ENABLE_XSAVES_XRSTORS),
        (SecondaryControls::TSC_SCALING, Secondary::USE_TSC_SCALING),
    ] {
        assert_eq!(ours.bits(), theirs.bits());
    }
    assert_eq!(
        ExitControls::HOST_64_BIT.bits(),
        other::ExitControls::HOST_ADDRESS_SPACE_SIZE.bits()
    );
    assert_eq!(
        ExitControls::LOAD_EFER.bits(),
        other::ExitControls::LOAD_IA32_EFER.bits()
    );
    assert_eq!(
        ExitControls::SAVE_EFER.bits(),
        other::ExitControls::SAVE_IA32_EFER.bits()
    );
    assert_eq!(
        ExitControls::LOAD_PAT.bits(),
        other::ExitControls::LOAD_IA32_PAT.bits()
    );
    assert_eq!(
        ExitControls::ACKNOWLEDGE_INTERRUPT.bits(),
        other::ExitControls::ACK_INTERRUPT_ON_EXIT.bits()
    );
    assert_eq!(
        EntryControls::GUEST_64_BIT.bits(),
        other::EntryControls::IA32E_MODE_GUEST.bits()
    );
    assert_eq!(
        EntryControls::LOAD_EFER.bits(),
        other::EntryControls::LOAD_IA32_EFER.bits()
    );
    assert_eq!(
        EntryControls::LOAD_DEBUG_CONTROLS.bits(),
        other::EntryControls::LOAD_DEBUG_CONTROLS.bits()
    );
}

#[test]
fn a_control_may_be_zero_only_if_its_zero_setting_is_allowed() {
    // One bit of each combination of the plain and the exact register: (must be 1, may be 1), default.
    let allowed = Allowed::from_msrs(0b0100_u64 | 0b1110 << 32, Some(0b0010_u64 | 0b0110 << 32));
    assert_eq!(allowed.wrongly_clear(0), 0b0010);
    assert_eq!(allowed.wrongly_clear(0b0010), 0);
    assert_eq!(allowed.wrongly_set(0b1111), 0b1001);
    // Known and not asked: 0 unless it must be 1. Unknown: the default.
    assert_eq!(allowed.settle(0, 0b1111), 0b0010);
    assert_eq!(allowed.settle(0, 0b1011), 0b0110);
    assert_eq!(allowed.settle(0b1101, 0b1111), 0b0110);
}

proptest! {
    #[test]
    fn every_setting_that_is_chosen_is_allowed(must: u32, may: u32, default: u32, asked: u32, named: u32) {
        let allowed = Allowed { must, may: may | must, default: default | must };
        let setting = allowed.settle(asked, named);
        prop_assert_eq!(allowed.wrongly_clear(setting) | allowed.wrongly_set(setting), 0);
        // Where the CPU leaves a choice, it is ours for what we know, and the default for the rest.
        let free = allowed.may & !allowed.must;
        prop_assert_eq!(setting & free & named, asked & free & named);
        prop_assert_eq!(setting & free & !named, (asked | default) & free & !named);
    }
}

#[test]
fn settings_are_allowed_on_every_model() {
    for record in recorded::usable() {
        let (capabilities, controls) = (record.capabilities(), chosen(record));
        for group in Group::ALL {
            let (allowed, bits) = (capabilities.allowed(group), controls.bits(group));
            assert_eq!(
                allowed.wrongly_clear(bits),
                0,
                "{} {}",
                record.model,
                group.name()
            );
            assert_eq!(allowed.wrongly_set(bits), 0, "{} {}", record.model, group.name());
            assert_eq!(bits & guest::REQUIRED.bits(group), guest::REQUIRED.bits(group));
        }
    }
}

#[test]
fn exits_return_to_64_bit_mode_and_entries_go_there() {
    for record in recorded::usable() {
        let setting = *chosen(record).setting();
        assert!(setting.exit.contains(ExitControls::HOST_64_BIT));
        assert!(setting.entry.contains(EntryControls::GUEST_64_BIT));
        assert!(setting.entry.contains(EntryControls::LOAD_EFER));
        assert!(
            setting
                .exit
                .contains(ExitControls::LOAD_EFER | ExitControls::SAVE_EFER)
        );
    }
}

#[test]
fn interrupts_and_nmis_of_the_host_exit_and_stay_pending() {
    for record in recorded::usable() {
        let setting = *chosen(record).setting();
        let both = PinControls::EXTERNAL_INTERRUPT_EXITING | PinControls::NMI_EXITING;
        assert!(setting.pin.contains(both), "{}", record.model);
        assert!(!setting.exit.contains(ExitControls::ACKNOWLEDGE_INTERRUPT));
        assert!(
            !setting
                .pin
                .intersects(PinControls::VIRTUAL_NMIS | PinControls::POSTED_INTERRUPTS)
        );
    }
}

#[test]
fn a_field_is_unused_without_its_control() {
    for record in recorded::usable() {
        let controls = chosen(record);
        for unused in [
            Field::HostPat,
            Field::GuestPat,
            Field::HostPerfGlobalCtrl,
            Field::GuestBndcfgs,
            Field::MsrBitmaps,
            Field::IoBitmapA,
            Field::TprThreshold,
            Field::PreemptionTimer,
            Field::TscOffset,
            Field::PmlAddress,
            Field::VmFunctionControls,
        ] {
            assert!(!controls.uses(unused), "{}: {unused}", record.model);
        }
        for used in [
            Field::EptPointer,
            Field::Vpid,
            Field::HostEfer,
            Field::GuestEfer,
            Field::SecondaryControls,
            Field::GuestRip,
            Field::HostRip,
            Field::ExitReason,
        ] {
            assert!(controls.uses(used), "{}: {used}", record.model);
        }
    }
}

#[test]
fn a_pat_field_is_used_with_its_control() {
    let mut wanted = guest::WANTED;
    wanted.exit |= ExitControls::LOAD_PAT;
    let controls = Controls::choose(&SKYLAKE_X.capabilities(), &wanted, &guest::REQUIRED).expect("it has it");
    assert!(controls.uses(Field::HostPat) && !controls.uses(Field::GuestPat));
}

#[test]
fn guests_get_no_more_than_they_should() {
    for record in recorded::usable() {
        let setting = *chosen(record).setting();
        let never = SecondaryControls::UNRESTRICTED_GUEST
            | SecondaryControls::INVPCID
            | SecondaryControls::XSAVES
            | SecondaryControls::USER_WAIT_AND_PAUSE
            | SecondaryControls::VM_FUNCTIONS
            | SecondaryControls::PAUSE_LOOP_EXITING
            | SecondaryControls::VIRTUALIZE_APIC_ACCESSES;
        assert!(!setting.secondary.intersects(never), "{}", record.model);
        let bitmaps = PrimaryControls::MSR_BITMAPS | PrimaryControls::IO_BITMAPS;
        assert!(!setting.primary.intersects(bitmaps));
        assert!(
            setting
                .primary
                .contains(PrimaryControls::UNCONDITIONAL_IO_EXITING)
        );
        assert!(
            setting
                .secondary
                .contains(SecondaryControls::EPT | SecondaryControls::VPID)
        );
    }
}

#[test]
fn what_a_required_control_lacks_is_named() {
    let pin = SKYLAKE_X
        .capabilities()
        .get(Msr::TruePinControls)
        .expect("it exists");
    let capabilities = SKYLAKE_X.with(&[(Msr::TruePinControls, pin & !(1 << 32) & !(1 << 35))]);
    let missing =
        Controls::choose(&capabilities, &guest::WANTED, &guest::REQUIRED).expect_err("two are missing");
    assert_eq!(
        missing.to_string(),
        "pin-based controls that cannot be 1: external-interrupt exiting, NMI exiting"
    );
}

#[test]
fn a_control_that_cannot_be_cleared_is_refused_unless_it_is_harmless() {
    let exact = SKYLAKE_X
        .capabilities()
        .get(Msr::TruePrimaryControls)
        .expect("it exists");
    let forced = |bit: u32| SKYLAKE_X.with(&[(Msr::TruePrimaryControls, exact | 1 << bit)]);
    let choose = |capabilities| Controls::choose(&capabilities, &ControlSet::EMPTY, &guest::REQUIRED);
    // HLT exiting, bit 7, is harmless; "use MSR bitmaps", bit 28, would make the CPU read a bitmap at address 0.
    assert!(choose(forced(7)).is_ok());
    let missing = choose(forced(28)).expect_err("it is not harmless");
    assert_eq!(
        missing.to_string(),
        "primary controls that cannot be 0: use MSR bitmaps"
    );
}

#[test]
fn unknown_controls_are_left_at_their_defaults() {
    let plain = SKYLAKE_X.capabilities().get(Msr::PinControls).expect("it exists");
    // Bit 4 of the pin-based controls has no name; it is of the default1 class, and here it could be 0.
    let exact = SKYLAKE_X
        .capabilities()
        .get(Msr::TruePinControls)
        .expect("it exists")
        & !(1 << 4);
    assert_ne!(plain & 1 << 4, 0);
    let capabilities = SKYLAKE_X.with(&[(Msr::TruePinControls, exact)]);
    let controls = Controls::choose(&capabilities, &guest::WANTED, &guest::REQUIRED).expect("enough");
    assert_ne!(controls.bits(Group::Pin) & 1 << 4, 0);
}
