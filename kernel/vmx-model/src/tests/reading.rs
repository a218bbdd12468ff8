//! Which registers are read: a record panics, as RDMSR faults, on a register that is not in it.

use super::recorded::{HASWELL_4770, PENRYN_T9600, SANDY_BRIDGE_2600K, SKYLAKE_X};
use crate::Msr;
use crate::capability::{Capabilities, Cpu, Refusal};
use crate::controls::Group;

fn skylake(msr: Msr) -> u64 {
    SKYLAKE_X.capabilities().get(msr).expect("it exists there")
}

#[test]
fn registers_are_read_only_if_they_exist() {
    let oldest = PENRYN_T9600.capabilities();
    assert_eq!(oldest.get(Msr::EptVpid), None);
    assert_eq!(oldest.get(Msr::VmFunctions), None);
    assert!(oldest.get(Msr::SecondaryControls).is_some());
    assert_eq!(SANDY_BRIDGE_2600K.capabilities().get(Msr::VmFunctions), None);
    assert_eq!(HASWELL_4770.capabilities().get(Msr::VmFunctions), Some(1));
}

#[test]
fn secondary_controls_are_read_only_where_primary_controls_announce_them() {
    let plain = skylake(Msr::PrimaryControls) & !(1 << 63);
    let exact = skylake(Msr::TruePrimaryControls) & !(1 << 63);
    let read = |msr: Msr| match msr {
        Msr::SecondaryControls | Msr::EptVpid | Msr::VmFunctions => panic!("{} does not exist", msr.name()),
        Msr::PrimaryControls => plain,
        Msr::TruePrimaryControls => exact,
        other => skylake(other),
    };
    let capabilities = Capabilities::read(SKYLAKE_X.cpu(), &read).expect("it has VMX");
    assert_eq!(capabilities.get(Msr::SecondaryControls), None);
    let refused = capabilities.support().expect_err("it has no EPT");
    assert_eq!(
        refused.iter().collect::<Vec<_>>(),
        [&Refusal::NoSecondaryControls]
    );
}

#[test]
fn exact_controls_are_read_only_where_basic_announces_them() {
    let read = |msr: Msr| match msr {
        Msr::Basic => skylake(Msr::Basic) & !(1 << 55),
        Msr::TruePinControls | Msr::TruePrimaryControls | Msr::TrueExitControls | Msr::TrueEntryControls => {
            panic!("{} does not exist", msr.name())
        }
        other => skylake(other),
    };
    let capabilities = Capabilities::read(SKYLAKE_X.cpu(), &read).expect("it has VMX");
    assert_eq!(capabilities.get(Msr::TrueExitControls), None);
    let support = capabilities
        .support()
        .expect("default settings are enough for guests");
    // CR3-load and CR3-store exiting are of the default1 class, and "load debug controls" too.
    assert_eq!(support.controls.bits(Group::Primary) & 0x1_8000, 0x1_8000);
}

#[test]
fn nothing_is_read_without_vmx() {
    let cpu = Cpu {
        vmx: false,
        ..SKYLAKE_X.cpu()
    };
    let read = |msr: Msr| -> u64 { panic!("{} does not exist", msr.name()) };
    assert_eq!(Capabilities::read(cpu, &read), Err(Refusal::NoVmx));
}

#[test]
fn facts_come_from_cpuid() {
    let cpu = SKYLAKE_X.cpu();
    assert!(cpu.vmx && cpu.no_execute);
    assert_eq!((cpu.physical_bits, cpu.linear_bits), (40, 48));
    assert!(cpu.is_canonical(0xffff_8000_0000_0000) && cpu.is_canonical(0x7fff_ffff_ffff));
    assert!(!cpu.is_canonical(0x8000_0000_0000) && !cpu.is_canonical(0xffff_7fff_ffff_ffff));
    assert!(cpu.is_physical((1 << 40) - 1) && !cpu.is_physical(1 << 40));
    let small = Cpu::read(&|_: u32, _: u32| crate::cpuid::Leaf::ZERO);
    assert_eq!(
        (small.physical_bits, small.linear_bits, small.vmx),
        (36, 48, false)
    );
}
