//! The scenarios.

use crate::Boot;
#[cfg(test)]
use crate::Kernel;
use crate::scenario::{Scenario, bochs, qemu};

/// A Linux program in a vkernel with two CPUs.
const HELLO: &str = "vkernel -n 2 -m 64M -c '/bin/hello from a vkernel'";
/// What it must print.
const GREETING: &[&str] = &[
    "hello: from a vkernel",
    "the first thread is on cpu",
    "ran on cpu",
    "dragonet: exit status 0",
];
/// What programs and the kernel print at the end of tests of their own.
const PASSED: &str = " passed, 0 failed";

/// A vkernel that goes on while others beside it are killed in the middle of their work, and what there is before and
/// after three such deaths. The one before the first count lets shell and console grow to their size.
const KILLING: &str = "\
    vkernel -n 2 -m 32M -c '/bin/spin 20' & sleep 1; \
    vkernel -n 2 -m 32M -c '/bin/work 9999 2' & sleep 1; kill %2; wait %2; echo killed $?; jobs; vmstat; \
    vkernel -n 2 -m 32M -c '/bin/work 9999 2' & sleep 1; kill %2; wait %2; echo killed $?; jobs; \
    vkernel -n 2 -m 32M -c '/bin/work 9999 2' & sleep 1; kill %2; wait %2; echo killed $?; jobs; \
    vkernel -n 2 -m 32M -c '/bin/work 9999 2' & sleep 1; kill %2; wait %2; echo killed $?; jobs; vmstat; \
    wait %1; echo survivor $?";

/// Threads in guest mode.
const GUESTS: &str = "vmm; vmm-hello; vmm-smp -n 6";
const GUESTS_PASS: &[&str] = &[
    "guest mode: VMX with EPT",
    "hello from VMX non-root mode",
    PASSED,
    PASSED,
];
/// Hello, saying how it runs.
const EXIT_HELLO: &str = "vkernel -v -n 2 -m 64M -c '/bin/hello from a vkernel'";
/// What it must print where the machine has guest mode.
const EXIT_GREETING: &[&str] = &[
    "vkernel: exit mode, 2 CPUs",
    "hello: from a vkernel",
    "ran on cpu",
    "dragonet: exit status 0",
];
/// Most Linux programs, each in a vkernel of its own.
const PROGRAMS: &str = "\
    vkernel -n 4 -v -c '/bin/threads 4 20' && vkernel -n 2 -c '/bin/fork-exec 3' && vkernel -n 2 -c /bin/signals && \
    vkernel -n 2 -c '/bin/memory 8' && vkernel -n 2 -c '/bin/crash all' && vkernel -n 2 -c /bin/syscalls-bad && \
    vkernel -n 2 -c '/bin/fuzz 7 5 3'";
/// What they must print in exit mode.
const PROGRAMS_PASSED: &[&str] = &[
    "vkernel: exit mode, 4 CPUs",
    "threads: time-out of a wait: ok",
    "fork-exec: status of a program: ok",
    "signals: children: ok",
    "memory: holes: ok",
    "kinds, 0 failed",
    "calls, 0 failed",
    "fuzz: ",
    "dragonet: exit status 0",
];
/// As [`KILLING`], with less work.
const EXIT_KILLING: &str = "\
    vkernel -v -n 2 -m 32M -c '/bin/spin 4' & sleep 1; \
    vkernel -n 2 -m 32M -c '/bin/work 9999 2' & sleep 1; kill %2; wait %2; echo killed $?; jobs; vmstat; \
    vkernel -n 2 -m 32M -c '/bin/work 9999 2' & sleep 1; kill %2; wait %2; echo killed $?; jobs; vmstat; \
    wait %1; echo survivor $?";

/// All scenarios, a line or two for each.
#[rustfmt::skip]
pub const ALL: &[Scenario] = &[
    // The long ones first, so that the short ones fill the gaps.
    bochs("hello-bochs").exec(HELLO).prints(GREETING),
    bochs("kernel-tests-bochs").append("test=all").prints(&[PASSED]),
    bochs("hello-bochs-oldest-cpu").cpu("core2_penryn_t9600").exec(HELLO).prints(GREETING),
    bochs("misbehaving-programs-bochs").cpu("corei7_icelake_u").exec("crash all && syscall-errors").prints(&[PASSED, PASSED]),
    bochs("torture-basics-bochs").exec("torture-basics --seed 20062").prints(&[PASSED]),
    bochs("vm-torture-bochs").quantum(1).exec("vm-torture -t 2 --seed 20060912").prints(&["everything came back ... ok", PASSED]),
    bochs("vm-torture-bochs-3-cpus").smp(3).quantum(16).exec("vm-torture -t 2 --seed 20130810").prints(&["everything came back ... ok", PASSED]),
    bochs("vm-torture-bochs-4-cpus").smp(4).quantum(1).exec("vm-torture -t 1 --seed 20131124").prints(&["everything came back ... ok", PASSED]),
    // Guest mode under torture, with accessed and dirty bits in nested tables and without.
    bochs("vmm-torture").quantum(1).exec("vmm-torture -t 1 -n 8 --seed 2013").prints(&["everything came back ... ok", PASSED]),
    bochs("vmm-torture-4-cpus").smp(4).quantum(16).exec("vmm-torture -t 2 -n 8 --seed 2014").prints(&["everything came back ... ok", PASSED]),
    bochs("vmm-torture-no-accessed-dirty").cpu("corei5_lynnfield_750").exec("vmm-torture -t 2 -n 8 --seed 2015")
        .prints(&["everything came back ... ok", PASSED]),
    bochs("vmm-torture-oracles").exec("vmm-torture --self-test --seed 2016").prints(&["test tables ... ok", PASSED]),
    bochs("vmm-torture-refused").cpu("core2_penryn_t9600").exec("vmm-torture").status(69).prints(&["no guest mode"]),
    bochs("vpagetable-bochs").exec("vpagetable-basic && vpagetable-nested").prints(&[PASSED, PASSED]),
    bochs("boot-protocol-bochs").conformance(false),
    qemu("hello-usb-uefi").boot(Boot::UefiUsb).exec(HELLO).prints(GREETING),
    qemu("hello-cd-uefi").boot(Boot::UefiCd).exec(HELLO).prints(GREETING),
    qemu("kernel-tests").smp(4).append("test=all").prints(&[PASSED]),

    // Guest mode: on every kind of CPU that has it, and why not on those that have not.
    bochs("guests-skylake").exec(GUESTS).prints(GUESTS_PASS),
    bochs("guests-icelake").cpu("corei7_icelake_u").exec(GUESTS).prints(GUESTS_PASS),
    bochs("guests-haswell").cpu("corei7_haswell_4770").exec(GUESTS).prints(GUESTS_PASS),
    bochs("guests-sandy-bridge").cpu("corei7_sandy_bridge_2600k").exec(GUESTS).prints(GUESTS_PASS),
    bochs("guests-lynnfield").cpu("corei5_lynnfield_750").smp(4).exec(GUESTS).prints(GUESTS_PASS),
    bochs("guests-none-without-ept").cpu("core2_penryn_t9600").exec(GUESTS).status(69)
        .prints(&["no guest mode: the CPU has no extended page tables (EPT)", "vmm-hello: this machine has no guest mode"]),
    qemu("guests-none-without-vmx").exec(GUESTS).status(69)
        .prints(&["no guest mode: the CPU has no VMX", "vmm-hello: this machine has no guest mode"]),
    bochs("vmx-checker").smp(1).append("test=vmm::checker_and_cpu_agree").failing_entries()
        .prints(&["ways to break a VMCS", "came back: Ok"]),
    bochs("vmx-checker-lynnfield").cpu("corei5_lynnfield_750").smp(1).append("test=vmm::checker_and_cpu_agree").failing_entries()
        .prints(&["ways to break a VMCS", "came back: Ok"]),

    bochs("nested-table-misconfigured").smp(1).append("test=vmm::a_misconfigured_nested_table_ends_the_guest_alone").failing_entries()
        .prints(&["EPT misconfiguration", "nested table, level 1", "came back: Ok"]),

    // Broken rules on locks are caught where they are broken.
    qemu("lock-order-broken").append("test=crash::lock_order").status(101)
        .prints(&["dragonet: panic", "lock order: taking Umtx while holding WaitQueue"]),
    qemu("copy-under-a-lock").append("test=crash::copy_under_a_lock").status(101)
        .prints(&["dragonet: panic", "user copy while holding Umtx"]),
    qemu("lock-before-an-entry").append("test=crash::lock_where_none_is_allowed").status(101)
        .prints(&["dragonet: panic", "lock order: taking WaitQueue while holding GuestEntry"]),

    // The boot protocol's promises, by every way of booting.
    qemu("boot-protocol-direct").smp(4).conformance(true),
    qemu("boot-protocol-cd").boot(Boot::Cd).conformance(true),
    qemu("boot-protocol-usb").boot(Boot::Usb).smp(1).conformance(true),
    qemu("boot-protocol-uefi").boot(Boot::UefiCd).smp(3).conformance(true),

    // The same hello on machines of all sizes and by all ways of booting.
    qemu("hello").smp(4).exec(HELLO).prints(GREETING),
    qemu("hello-1-cpu").smp(1).exec(HELLO).prints(GREETING),
    qemu("hello-8-cpus").smp(8).exec(HELLO).prints(GREETING),
    qemu("hello-64-mib").mem(64).exec(HELLO).prints(GREETING),
    qemu("hello-4096-mib").mem(4096).exec(HELLO).prints(GREETING),
    qemu("hello-cd").boot(Boot::Cd).exec(HELLO).prints(GREETING),
    qemu("hello-usb").boot(Boot::Usb).exec(HELLO).prints(GREETING),
    qemu("hello-core2duo").cpu("core2duo").exec(HELLO).prints(GREETING),
    qemu("hello-epyc").cpu("EPYC").exec(HELLO).prints(GREETING),

    // Linux programs in a vkernel.
    qemu("linux-threads").smp(4).exec("vkernel -n 4 -m 64M -c /bin/threads").prints(&["threads: sleeps: ok"]),
    qemu("linux-fork-exec").exec("vkernel -n 2 -m 64M -c '/bin/fork-exec 5'").prints(&["fork-exec: "]),
    qemu("linux-syscalls-bad").exec("vkernel -n 2 -m 64M -c /bin/syscalls-bad").prints(&["calls, 0 failed"]),
    qemu("linux-crashes").exec("vkernel -n 2 -m 64M -c '/bin/crash all'").prints(&["kinds, 0 failed"]),

    // The same binary as guest, on CPUs with and without accessed and dirty flags in nested tables; and where it cannot or must not be.
    bochs("exit-hello").exec(EXIT_HELLO).prints(EXIT_GREETING),
    bochs("exit-hello-no-flags").cpu("corei5_lynnfield_750").exec(EXIT_HELLO).prints(EXIT_GREETING),
    bochs("exit-programs").exec(PROGRAMS).prints(PROGRAMS_PASSED),
    bochs("exit-programs-1-cpu").cpu("corei5_lynnfield_750").smp(1).exec(PROGRAMS).prints(PROGRAMS_PASSED),
    bochs("exit-programs-4-cpus").cpu("corei7_icelake_u").smp(4).exec(PROGRAMS).prints(PROGRAMS_PASSED),
    bochs("exit-64-cpus").exec("vkernel -v -n 64 -c '/bin/threads 4 5' && vkernel -n 65").status(2)
        .prints(&["exit mode, 64 CPUs", "cpu63 is up (slave)", "threads: time-out of a wait: ok", "must be from 1 to 64"]),
    bochs("exit-kill-one").exec(EXIT_KILLING)
        .prints(&["exit mode", "spin: begins", "work: thread", "killed 137", "killed 137", "spin: ends", "survivor 0"])
        .keeps(&[("objects:", 4), ("frames", 32)]),
    bochs("exit-not-wanted").exec("vkernel -d -v -c '/bin/threads 4 5'").prints(&["soft mode, 2 CPUs", "(-d)", "threads: time-out of a wait: ok"]),
    bochs("exit-not-there").cpu("core2_penryn_t9600").exec(EXIT_HELLO).prints(&["soft mode, 2 CPUs", "(the host has no guest mode)", "hello: from a vkernel"]),
    qemu("exit-not-there-qemu").exec(EXIT_HELLO).prints(&["soft mode, 2 CPUs", "(the host has no guest mode)", "hello: from a vkernel"]),

    // Several vkernels at once, one of which is killed in the middle of its work.
    qemu("two-vkernels-kill-one").smp(4).exec(KILLING)
        .prints(&["spin: begins", "work: thread", "killed 137", "killed 137", "spin: ends", "survivor 0"])
        // Each call on its way to the console holds a reply token: two or three at the moment of a count. A death leaves many more.
        .keeps(&[("objects:", 4), ("frames", 32)]),
    qemu("two-vkernels").smp(4).exec("two-vkernels").prints(&["everything came back ... ok", PASSED]),

    // The shell passes statuses on.
    qemu("status-of-last-command").exec("no-such-program; exit 7").status(7),
    qemu("unknown-command").exec("no-such-program").status(127).prints(&["no-such-program"]),
    qemu("status-of-a-vkernel").exec("vkernel -m 16M -c /bin/no-such-program").status(1).prints(&["no-such-program"]),

    // Virtual page tables.
    qemu("vpagetable-basic").smp(4).exec("vpagetable-basic")
        .prints(&["23", "23", "caught exception 14", "everything came back ... ok", PASSED]),
    qemu("vpagetable-nested").exec("vpagetable-nested")
        .prints(&["level 2: test regression: W without V", "level 2: test alias 23", "everything came back ... ok", PASSED]),

    // The torture of the virtual memory system, and whether its oracles can find anything.
    qemu("vm-torture").smp(4).exec("vm-torture -t 30 --seed 2006").prints(&["seed 2006", "killed after", "everything came back ... ok", PASSED]),
    qemu("vm-torture-oracles").smp(4).exec("vm-torture --self-test --seed 2006").prints(&["seed", "a user", PASSED]),

    // Copies of a program's memory, and limits of it.
    qemu("fork-basic").smp(4).exec("fork-basic").prints(&["both sides begin alike and diverge ... ok", PASSED]),
    qemu("fork-basic-1-cpu").smp(1).exec("fork-basic").prints(&["threads go on while copies are made ... ok", PASSED]),

    // System calls with all kinds of wrong arguments; programs that misbehave die alone, with a reason; threads, waits,
    // channels and processes in a hurry.
    qemu("syscall-errors").smp(4).exec("syscall-errors").prints(&[" ... ok", PASSED]),
    qemu("misbehaving-programs").smp(4).exec("crash all").prints(&["page fault", "in a guard page", PASSED]),
    qemu("torture-basics").smp(4).exec("torture-basics").prints(&["seed", PASSED]),

    // What operations cause: exactly the flushes and interrupts that they must. (What they cost is `cargo xtask bench`.)
    qemu("costs-counted").icount().exec("vmbench").prints(&["null-syscall", "inval-1 ", PASSED]),
    qemu("costs-on-4-cpus").smp(4).exec("vmbench").prints(&["inval-64-on-4", PASSED]),
    bochs("costs-of-guests").smp(1).exec("vmbench -g").prints(&["guest-timer-interrupt", PASSED]),
    bochs("costs-of-guests-on-4-cpus").smp(4).exec("vmbench -g").prints(&["guest-inval-64-on-4", PASSED]),
    bochs("costs-on-2-cpus-bochs").quantum(1).exec("vmbench").prints(&["inval-64-on-2", PASSED]),

    // What a process has mapped.
    qemu("vmmap").exec("vmmap 1 && vmmap 999999").status(3).prints(&[
        "process 1, init", "private", "module", "mappings, ", "page table: ", "there is no process 999999",
    ]),
    // The shell's first child is process 4.
    qemu("vmmap-of-a-vkernel").exec("vkernel -n 2 -m 32M -c '/bin/spin 20' & sleep 2; vmmap 4; kill %1; wait %1; echo killed $?")
        .prints(&["process 4, vkernel", "page table: ", "USERS' VMSPACE  THREADS", "killed 137"]),

    // Boots that cannot work say why.
    qemu("no-init").without(&["init"]).status(101).prints(&["dragonet: panic", "init"]),
    qemu("no-root").without(&["root.tar"]).status(1).prints(&["no boot module named root.tar"]),
    qemu("no-kernel").without(&["kernel"]).status(102).prints(&["cannot boot", "kernel"]),
    qemu("too-little-memory").mem(12).status(102).prints(&["cannot boot: too little memory"]),
    // Without the large module the boot stage gets further than the kernel does.
    qemu("too-little-memory-for-the-kernel").mem(14).without(&["root.tar"]).status(101)
        .prints(&["dragonet: panic", "too little memory"]),
    qemu("no-acpi").no_acpi().status(101).prints(&["dragonet: panic", "cannot boot", "ACPI"]),
    qemu("no-long-mode").cpu("qemu32").status(102).prints(&["cannot boot"]),
    qemu("no-execute-disable").cpu("max,-nx").status(101).prints(&["dragonet: panic", "cannot boot", "no-execute"]),
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
