//! Comparison of CPUs.

use super::recorded::{self, ICELAKE_U, LYNNFIELD_750, SANDY_BRIDGE_2600K, SKYLAKE_X};
use crate::Msr;
use crate::capability::{Capabilities, check_alike};

fn texts(first: &Capabilities, second: &Capabilities) -> Vec<String> {
    first
        .differences(second)
        .map(|difference| difference.to_string())
        .collect()
}

#[test]
fn equal_cpus_do_not_differ() {
    for record in recorded::ALL {
        assert_eq!(texts(&record.capabilities(), &record.capabilities()), [""; 0]);
    }
}

#[test]
fn a_difference_is_named_with_its_controls() {
    let found = texts(&LYNNFIELD_750.capabilities(), &SANDY_BRIDGE_2600K.capabilities());
    let expected = "IA32_VMX_PROCBASED_CTLS2: 0x7f00000000 and 0xff00000000 (unrestricted guest)";
    assert!(found.iter().any(|text| text == expected), "{found:#?}");
}

#[test]
fn a_register_that_only_one_cpu_has_is_a_difference() {
    let found = texts(&SKYLAKE_X.capabilities(), &LYNNFIELD_750.capabilities());
    assert!(
        found.contains(&"IA32_VMX_VMFUNC: 0x1 and none".to_owned()),
        "{found:#?}"
    );
}

#[test]
fn facts_of_cpuid_are_compared() {
    let mut cpu = ICELAKE_U.cpu();
    cpu.physical_bits = 39;
    let other = Capabilities::read(cpu, &ICELAKE_U).expect("it has VMX");
    assert_eq!(
        texts(&ICELAKE_U.capabilities(), &other),
        ["physical-address width: 0x28 and 0x27"]
    );
}

#[test]
fn a_lock_that_can_still_be_set_is_no_difference() {
    let locked = SKYLAKE_X.capabilities();
    assert_eq!(
        texts(&locked, &SKYLAKE_X.with(&[(Msr::FeatureControl, 0)])),
        [""; 0]
    );
    assert_eq!(
        texts(&locked, &SKYLAKE_X.with(&[(Msr::FeatureControl, 1)])),
        ["IA32_FEATURE_CONTROL: 0x5 and 0x1"]
    );
}

#[test]
fn a_cpu_that_differs_from_the_others_is_refused_with_the_difference() {
    let (first, other) = (SKYLAKE_X.capabilities(), ICELAKE_U.capabilities());
    assert_eq!(check_alike(&first, []), Ok(()));
    assert_eq!(
        check_alike(&first, [(1, Some(&first)), (2, Some(&first))]),
        Ok(())
    );
    let refused = check_alike(&first, [(1, Some(&first)), (2, Some(&other)), (3, None)]).expect_err("CPU 2");
    assert_eq!(
        refused.to_string(),
        "CPU 2 differs from the first one in IA32_VMX_BASIC: 0xd810000000002b and 0xd8100000000004"
    );
    let refused = check_alike(&first, [(3, None)]).expect_err("CPU 3");
    assert_eq!(refused.to_string(), "CPU 3 has no VMX, and the first one has");
}
