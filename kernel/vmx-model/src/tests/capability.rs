//! Capabilities: what is read, what is enough, what is refused and why.

use super::recorded::{self, ICELAKE_U, LYNNFIELD_750, PENRYN_T9600, SANDY_BRIDGE_2600K, SKYLAKE_X};
use crate::capability::{Basic, FeatureControl, FixedBits, Invept, Invvpid, Refusal, RegionError, Report};
use crate::controls::SecondaryControls;
use crate::{EptPointer, Msr, instruction_error};

/// The refusals of a Skylake with registers changed.
fn refusals(changes: &[(Msr, u64)]) -> Vec<Refusal> {
    match SKYLAKE_X.with(changes).support() {
        Ok(_) => Vec::new(),
        Err(refusals) => refusals.iter().copied().collect(),
    }
}

fn skylake(msr: Msr) -> u64 {
    SKYLAKE_X.capabilities().get(msr).expect("it exists there")
}

#[test]
fn models_are_supported_with_what_they_have() {
    for record in recorded::usable() {
        let support = record.capabilities().support();
        let support = support.unwrap_or_else(|why| panic!("{}: {why}", record.model));
        assert_eq!(support.feature_control, FeatureControl::LockedWithVmx);
        assert!(
            support.invvpid.is_some() && support.pages_2m && support.execute_only,
            "{}",
            record.model
        );
        assert_eq!(support.preemption_timer_shift, Some(0), "{}", record.model);
        assert!(!support.regions_below_4g);
    }
    let support = |record: &recorded::Record| record.capabilities().support().expect("it is supported");
    let (lynnfield, sandy_bridge) = (support(&LYNNFIELD_750), support(&SANDY_BRIDGE_2600K));
    assert!(!lynnfield.accessed_dirty && !lynnfield.pages_1g && !lynnfield.unrestricted_guest);
    assert!(!sandy_bridge.accessed_dirty && sandy_bridge.unrestricted_guest);
    let icelake = support(&ICELAKE_U);
    assert!(icelake.accessed_dirty && icelake.pages_1g);
    assert_eq!((icelake.revision, support(&SKYLAKE_X).revision), (4, 0x2b));
}

#[test]
fn a_cpu_without_ept_is_refused_for_that_alone() {
    let refused = PENRYN_T9600.capabilities().support().expect_err("it has no EPT");
    let text = refused.to_string();
    assert!(text.contains("no extended page tables (EPT)"), "{text}");
    assert!(refused.iter().any(|refusal| *refusal == Refusal::NoEpt));
    // It has no "save IA32_EFER" either.
    assert!(
        text.contains("exit controls that cannot be 1: save IA32_EFER"),
        "{text}"
    );
    assert_eq!(refused.iter().count(), 2, "{text}");
}

#[test]
fn the_lock_of_the_firmware_decides() {
    assert_eq!(refusals(&[(Msr::FeatureControl, 1)]), [Refusal::LockedOff(1)]);
    // VMX in SMX operation only is of no use.
    assert_eq!(refusals(&[(Msr::FeatureControl, 3)]), [Refusal::LockedOff(3)]);
    assert_eq!(refusals(&[(Msr::FeatureControl, 5)]), []);
    for unlocked in [0, 4, 0xff00] {
        assert_eq!(refusals(&[(Msr::FeatureControl, unlocked)]), []);
        let state = FeatureControl::from_register(unlocked);
        assert_eq!(state.to_write(), Some(unlocked | 5));
        assert_eq!(
            FeatureControl::from_register(unlocked | 5),
            FeatureControl::LockedWithVmx
        );
    }
    assert_eq!(FeatureControl::LockedWithVmx.to_write(), None);
    assert_eq!(FeatureControl::LockedWithoutVmx(1).to_write(), None);
}

#[test]
fn each_lack_has_its_refusal() {
    let basic = skylake(Msr::Basic);
    let ept = skylake(Msr::EptVpid);
    let exit = skylake(Msr::TrueExitControls);
    let entry = skylake(Msr::TrueEntryControls);
    let pin = skylake(Msr::TruePinControls);
    let cases: [(&[(Msr, u64)], &str); 9] = [
        (&[(Msr::Basic, basic + (1 << 32))], "needs 4097 bytes"),
        (&[(Msr::Basic, basic & !(0xf << 50))], "memory type 0"),
        (&[(Msr::EptVpid, ept & !(1 << 6))], "four levels"),
        (&[(Msr::EptVpid, ept & !(1 << 14))], "write-back"),
        (&[(Msr::EptVpid, ept & !(1 << 20))], "no INVEPT"),
        (&[(Msr::EptVpid, ept & !(3 << 25))], "neither one table nor all"),
        (
            &[(Msr::TrueExitControls, exit & !(1 << 41))],
            "exits cannot return to 64-bit mode",
        ),
        (
            &[(Msr::TrueEntryControls, entry & !(1 << 41))],
            "guests cannot be in 64-bit mode",
        ),
        (
            &[(Msr::TruePinControls, pin & !(1 << 35))],
            "cannot be 1: NMI exiting",
        ),
    ];
    for (changes, expected) in cases {
        let found = refusals(changes);
        assert_eq!(found.len(), 1, "{expected}: {found:?}");
        let text = found[0].to_string();
        assert!(text.contains(expected), "{text}");
    }
    let both = refusals(&[(Msr::FeatureControl, 1), (Msr::EptVpid, 0)]);
    assert_eq!(
        both,
        [
            Refusal::LockedOff(1),
            Refusal::NoFourLevelWalk,
            Refusal::NoWriteBackTables,
            Refusal::NoInvept
        ]
    );
}

#[test]
fn types_of_invalidation_are_used_only_if_they_exist() {
    let ept = skylake(Msr::EptVpid);
    let with = |value| {
        SKYLAKE_X
            .with(&[(Msr::EptVpid, value)])
            .support()
            .expect("enough")
    };
    let all = with(ept);
    assert_eq!(all.invept.for_table(), Invept::SingleContext);
    let tags = all.invvpid.expect("it has them");
    assert_eq!(
        (tags.for_address(), tags.for_tag()),
        (Invvpid::Address, Invvpid::SingleContext)
    );

    let no_single = with(ept & !(1 << 25) & !(1 << 41) & !(1 << 40));
    assert_eq!(no_single.invept.for_table(), Invept::AllContexts);
    let tags = no_single.invvpid.expect("all contexts are enough");
    assert_eq!(
        (tags.for_address(), tags.for_tag()),
        (Invvpid::AllContexts, Invvpid::AllContexts)
    );

    // Dropping all but global translations is not dropping a tag; without INVVPID no tag is used at all.
    for value in [ept & !(7 << 40), ept & !(1 << 32)] {
        let support = with(value);
        assert_eq!(support.invvpid, None);
        assert!(
            !support
                .controls
                .setting()
                .secondary
                .contains(SecondaryControls::VPID)
        );
    }
}

#[test]
fn regions_above_4_gib_are_taken_whole_and_unaligned_ones_refused() {
    let cpu = SKYLAKE_X.cpu();
    let basic = SKYLAKE_X.capabilities().basic();
    // A mask of 32 bits would have made 0 of the upper half, or of the lower.
    for address in [0x1000, 0xffff_f000, 0x1_0000_0000, 0xff_ffff_f000] {
        assert_eq!(basic.check_region(address, &cpu), Ok(()), "{address:#x}");
        let pointer = EptPointer::new(address, true, &cpu).expect("a page");
        assert_eq!((pointer.root(), pointer.value()), (address, address | 0x5e));
    }
    for address in [1, 0x1800, 0x1_0000_0800, 0xfff] {
        assert_eq!(basic.check_region(address, &cpu), Err(RegionError::Misaligned));
        assert_eq!(EptPointer::new(address, true, &cpu), None);
    }
    assert_eq!(basic.check_region(1 << 40, &cpu), Err(RegionError::TooHigh(40)));
    assert_eq!(EptPointer::new(1 << 40, false, &cpu), None);
    let old = Basic(basic.0 | 1 << 48);
    assert_eq!(old.check_region(0xffff_f000, &cpu), Ok(()));
    assert_eq!(
        old.check_region(0x1_0000_0000, &cpu),
        Err(RegionError::TooHigh(32))
    );
    assert!(
        SKYLAKE_X
            .with(&[(Msr::Basic, old.0)])
            .support()
            .expect("fine")
            .regions_below_4g
    );
}

#[test]
fn vmxe_is_bit_13_of_cr4_and_must_be_set() {
    assert_eq!(FixedBits::CR4_VMXE, 0x2000);
    for record in recorded::ALL {
        let cr4 = record.capabilities().cr4();
        assert_eq!(
            cr4.wrongly_clear(0x1000) & FixedBits::CR4_VMXE,
            FixedBits::CR4_VMXE
        );
        assert!(cr4.supports(cr4.adjusted(0x20)) && !cr4.supports(0x20));
    }
}

#[test]
fn miscellany_is_decoded() {
    let misc = SKYLAKE_X.capabilities().misc();
    assert_eq!(
        (
            misc.preemption_timer_shift(),
            misc.cr3_targets(),
            misc.msr_list_limit()
        ),
        (0, 4, 512)
    );
    assert!((0..4).all(|state| misc.supports_activity(state)) && !misc.supports_activity(4));
    assert!(misc.writes_any_field() && misc.injects_length_zero());
    assert!(!LYNNFIELD_750.capabilities().misc().injects_length_zero());
    assert_eq!(instruction_error(7), "VM entry with invalid control fields");
    assert!(instruction_error(99).contains("does not list"));
}

#[test]
fn the_report_says_what_is_there_and_why_not() {
    let text = Report(&LYNNFIELD_750.capabilities()).to_string();
    for expected in [
        "guest mode: yes",
        "flags: emulated, the CPU has none",
        "(VPID): in use",
        "firmware: VMX on, locked",
        "regions: revision 0x2b, 4096 bytes, memory type 6, addresses of 40 bits",
        "EPT:\n    4 levels, write-back tables, 2 MiB pages, execute-only pages\n",
        "INVEPT:\n    single-context, all-contexts\n",
        "secondary controls that are absent:\n    unrestricted guest, APIC-register virtualization,\n    virtual-interrupt delivery, ",
        "IA32_VMX_VMFUNC              none",
        "IA32_FEATURE_CONTROL         0x0000000000000005",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    let text = Report(&PENRYN_T9600.capabilities()).to_string();
    assert!(
        text.starts_with("guest mode: no\n  because the CPU has no extended page tables (EPT)\n"),
        "{text}"
    );
    assert!(
        text.contains("EPT: none\nINVEPT: none\nINVVPID: none\n"),
        "{text}"
    );
}
