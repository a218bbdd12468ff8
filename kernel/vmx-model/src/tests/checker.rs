//! The checker's manners; its rules are in `mutation`.

use super::recorded::{SKYLAKE_X, TIGERLAKE};
use crate::checker::{Failure, check};
use crate::mutation::reference_image;
use crate::{Capabilities, Field, Msr, VmcsImage};
use proptest::prelude::*;

fn reference() -> (Capabilities, VmcsImage) {
    let capabilities = SKYLAKE_X.capabilities();
    let controls = capabilities.support().expect("it is supported").controls;
    let image = reference_image(&capabilities, controls.setting());
    (capabilities, image)
}

#[test]
fn a_complaint_names_field_value_rule_and_section() {
    let (capabilities, mut image) = reference();
    image.set(Field::HostFsBase, 0x8000_0000_0000);
    image.set(Field::GuestRflags, 0);
    let complaints = check(&image, &capabilities);
    assert_eq!(
        complaints.to_string(),
        "host FS base = 0x800000000000: the address is not canonical (SDM 3C 27.2.3)\n\
         guest RFLAGS = 0x0: bit 1 is 0 (SDM 3C 27.3.1.4)\n"
    );
    // Host state is checked before guest state, so that is how the entry fails.
    assert_eq!(complaints.failure(), Some(Failure::HostState));
}

#[test]
fn fields_are_read_by_any_means() {
    let (capabilities, image) = reference();
    let read = |field: Field| {
        if field == Field::GuestCr3 {
            u64::MAX
        } else {
            image.get(field)
        }
    };
    let complaints = check(&read, &capabilities);
    assert_eq!(
        complaints
            .iter()
            .map(|complaint| complaint.field)
            .collect::<Vec<_>>(),
        [Field::GuestCr3]
    );
}

#[test]
fn what_is_no_vmcs_is_complained_about_within_bounds() {
    let (capabilities, _) = reference();
    for value in [0, u64::MAX] {
        let complaints = check(&|_: Field| value, &capabilities);
        assert_eq!(complaints.failure(), Some(Failure::ControlFields));
        assert!(complaints.iter().count() >= 10);
    }
    assert!(
        check(&|_: Field| u64::MAX, &capabilities)
            .to_string()
            .contains("more\n")
    );
}

#[test]
fn the_address_width_of_the_cpu_counts_and_not_a_constant() {
    let (_, image) = reference();
    let mut narrow = SKYLAKE_X.cpu();
    narrow.physical_bits = 36;
    let narrow = Capabilities::read(narrow, &SKYLAKE_X).expect("it has VMX");
    for (field, value) in [(Field::HostCr3, 1 << 36), (Field::GuestCr3, 1 << 39)] {
        let mut image = image.clone();
        image.set(field, value);
        assert!(check(&image, &SKYLAKE_X.capabilities()).is_empty());
        assert!(check(&image, &narrow).blame(field));
    }
}

#[test]
fn lists_below_4_gib_only_where_the_cpu_says_so() {
    let (capabilities, mut image) = reference();
    image.set(Field::EntryMsrLoadCount, 1);
    image.set(Field::EntryMsrLoadAddress, 1 << 32);
    assert!(check(&image, &capabilities).is_empty());
    let basic = capabilities.get(Msr::Basic).expect("it exists") | 1 << 48;
    let limited = SKYLAKE_X.with(&[(Msr::Basic, basic)]);
    assert!(check(&image, &limited).blame(Field::EntryMsrLoadCount));
}

#[test]
fn any_error_code_is_injected_where_the_cpu_says_so() {
    let capabilities = TIGERLAKE.capabilities();
    assert!(capabilities.basic().allows_any_error_code());
    let controls = capabilities.support().expect("it is supported").controls;
    let mut image = reference_image(&capabilities, controls.setting());
    image.set(Field::EntryInterruptionInfo, 0x8000_0306 | 1 << 11);
    assert!(check(&image, &capabilities).is_empty());
    assert!(check(&image, &SKYLAKE_X.capabilities()).blame(Field::EntryInterruptionInfo));
}

#[test]
fn a_guest_at_cpl_0_may_run_conforming_code_of_its_level_only() {
    let (capabilities, mut image) = reference();
    image.set(Field::GuestCsSelector, 0x08);
    image.set(Field::GuestCsRights, 0xa09f);
    image.set(Field::GuestSsSelector, 0x10);
    image.set(Field::GuestSsRights, 0xc093);
    assert!(check(&image, &capabilities).is_empty());
    image.set(Field::GuestCsRights, 0xa0bf);
    let complaints = check(&image, &capabilities);
    assert_eq!(
        complaints.to_string(),
        "guest CS access rights = 0xa0bf: DPL is above that of SS (SDM 3C 27.3.1.2)\n"
    );
}

proptest! {
    /// Whatever is in a VMCS, the checker comes to an end, and an image with complaints has a way of failing.
    #[test]
    fn no_contents_make_it_panic(values in proptest::collection::vec(any::<u64>(), Field::COUNT)) {
        let capabilities = SKYLAKE_X.capabilities();
        let complaints = check(&|field: Field| values[field.index()], &capabilities);
        prop_assert_eq!(complaints.is_empty(), complaints.failure().is_none());
    }

    /// One field at random: at most that field and those that are bound to it by a rule are blamed.
    #[test]
    fn one_field_at_random_is_blamed_if_any(index in 0..Field::COUNT, value: u64) {
        let (capabilities, mut image) = reference();
        let field = Field::ALL[index];
        image.set(field, value);
        let controls = matches!(field, Field::PinControls | Field::PrimaryControls | Field::SecondaryControls
            | Field::ExitControls | Field::EntryControls | Field::EntryInterruptionInfo);
        for complaint in check(&image, &capabilities).iter() {
            let bound = match field {
                Field::GuestCr0 | Field::GuestCr4 | Field::GuestRflags | Field::GuestInterruptibility => true,
                Field::GuestSsRights | Field::GuestSsSelector | Field::GuestCsSelector => true,
                Field::GuestCsLimit | Field::GuestSsLimit | Field::GuestTrLimit | Field::GuestCsRights => true,
                Field::ExitMsrLoadCount | Field::ExitMsrStoreCount | Field::EntryMsrLoadCount => true,
                Field::HostCr0 => complaint.field == Field::HostCr4,
                _ => false,
            };
            prop_assert!(controls || bound || complaint.field == field, "{field} = {value:#x}: {complaint}");
        }
    }
}
