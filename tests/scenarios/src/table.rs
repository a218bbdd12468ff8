//! The scenarios.

use crate::Boot;
#[cfg(test)]
use crate::Kernel;
use crate::scenario::{Scenario, bochs, qemu};

/// A Linux program in a vkernel with two CPUs.
const HELLO: &str = "vkernel -n 2 -m 64M -c '/bin/hello from a vkernel'";
/// What it must print.
const GREETING: &[&str] = &["hello", "from a vkernel", "dragonet: exit status 0"];

/// All scenarios.
pub const ALL: &[Scenario] = &[
    // The long ones first, so that the short ones fill the gaps.
    bochs("kernel-tests-bochs")
        .append("test=all")
        .prints(&[" passed, 0 failed"]),
    bochs("hello-bochs").exec(HELLO).prints(GREETING),
    qemu("hello-usb-uefi")
        .boot(Boot::UefiUsb)
        .exec(HELLO)
        .prints(GREETING),
    qemu("hello-cd-uefi")
        .boot(Boot::UefiCd)
        .exec(HELLO)
        .prints(GREETING),
    qemu("kernel-tests")
        .smp(4)
        .append("test=all")
        .prints(&[" passed, 0 failed"]),
    // The boot protocol's promises, by every way of booting.
    bochs("boot-protocol-bochs").conformance(false),
    qemu("boot-protocol-direct").smp(4).conformance(true),
    qemu("boot-protocol-cd").boot(Boot::Cd).conformance(true),
    qemu("boot-protocol-usb").boot(Boot::Usb).smp(1).conformance(true),
    qemu("boot-protocol-uefi")
        .boot(Boot::UefiCd)
        .smp(3)
        .conformance(true),
    // The same hello on machines of all sizes and by all ways of booting.
    qemu("hello").smp(4).exec(HELLO).prints(GREETING),
    qemu("hello-1-cpu").smp(1).exec(HELLO).prints(GREETING),
    qemu("hello-8-cpus").smp(8).exec(HELLO).prints(GREETING),
    qemu("hello-64-mib").mem(64).exec(HELLO).prints(GREETING),
    qemu("hello-4096-mib").mem(4096).exec(HELLO).prints(GREETING),
    qemu("hello-cd").boot(Boot::Cd).exec(HELLO).prints(GREETING),
    qemu("hello-usb").boot(Boot::Usb).exec(HELLO).prints(GREETING),
    // The shell passes statuses on.
    qemu("status-of-last-command")
        .exec("false; true; exit 7")
        .status(7),
    qemu("unknown-command")
        .exec("no-such-program")
        .status(127)
        .prints(&["no-such-program"]),
    // Virtual page tables, and what a dead vkernel leaves behind.
    qemu("vpagetable-basic")
        .exec("vpagetable-basic")
        .prints(&["23", "23", "fault"]),
    qemu("two-vkernels-kill-one")
        .smp(4)
        .exec("two-vkernels")
        .prints(&["everything came back ... ok", " passed, 0 failed"]),
    // System calls with all kinds of wrong arguments; programs that misbehave die alone, with a reason.
    qemu("syscall-errors")
        .exec("syscall-errors")
        .prints(&[" ... ok", " passed, 0 failed"]),
    qemu("misbehaving-programs")
        .smp(4)
        .exec("crash all")
        .prints(&[" ... ok", " passed, 0 failed"]),
    bochs("misbehaving-programs-bochs")
        .exec("crash all; syscall-errors")
        .prints(&[" passed, 0 failed", " passed, 0 failed"]),
    // Threads, waits, channels and processes in a hurry.
    qemu("torture-basics")
        .smp(4)
        .exec("torture-basics --seed 20061")
        .prints(&[" passed, 0 failed"]),
    bochs("torture-basics-bochs")
        .exec("torture-basics --seed 20062")
        .prints(&[" passed, 0 failed"]),
    // Boots that cannot work say why.
    qemu("no-init")
        .without(&["init"])
        .status(101)
        .prints(&["dragonet: panic", "init"]),
    qemu("no-root")
        .without(&["root.tar"])
        .status(1)
        .prints(&["no boot module named root.tar"]),
    qemu("no-kernel")
        .without(&["kernel"])
        .status(102)
        .prints(&["cannot boot", "kernel"]),
    qemu("too-little-memory")
        .mem(12)
        .status(101)
        .prints(&["too little memory"]),
    qemu("no-acpi")
        .no_acpi()
        .status(102)
        .prints(&["cannot boot", "ACPI"]),
    qemu("no-long-mode")
        .cpu("qemu32")
        .status(102)
        .prints(&["cannot boot"]),
    qemu("no-execute-disable")
        .cpu("max,-nx")
        .status(102)
        .prints(&["cannot boot"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_fit_a_file_name() {
        for (index, scenario) in ALL.iter().enumerate() {
            assert!(
                scenario
                    .name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
                "{}",
                scenario.name
            );
            assert!(
                ALL.iter()
                    .skip(index + 1)
                    .all(|other| other.name != scenario.name),
                "{} twice",
                scenario.name
            );
        }
    }

    #[test]
    fn every_scenario_asks_for_something() {
        for scenario in ALL.iter().filter(|scenario| scenario.kernel == Kernel::Dragonet) {
            assert!(
                scenario.status != 0 || !scenario.contains.is_empty(),
                "{} cannot fail",
                scenario.name
            );
            assert!(
                scenario.exec.is_some() || !scenario.append.is_empty() || scenario.status != 0,
                "{} never ends",
                scenario.name
            );
        }
    }
}
