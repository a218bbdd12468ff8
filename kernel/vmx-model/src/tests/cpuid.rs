//! The CPUID policy over recorded leaves.

use super::recorded::{self, ICELAKE_U, LYNNFIELD_750, PENRYN_T9600, Record, SKYLAKE_X, TIGERLAKE};
use crate::cpuid::{Cpuid, Guest, Leaf, SIGNATURE, SIGNATURE_LEAF, answer};
use proptest::prelude::*;

const OSXSAVE: u64 = 1 << 18;
const UMIP: u64 = 1 << 11;

/// A guest with all the extended state of this kernel: up to AVX-512.
pub(super) fn guest(record: &Record) -> Guest {
    Guest {
        cpu: 2,
        cpus: 6,
        cr4: OSXSAVE,
        xcr0: u64::from(record.leaf(0xd, 0).eax) & 0xe7,
        rdtscp: true,
    }
}

pub(super) fn ask(record: &Record, leaf: u32, subleaf: u32) -> Leaf {
    answer(record, &guest(record), leaf, subleaf)
}

#[test]
fn the_signature_is_there_and_the_hypervisor_bit_says_so() {
    for record in recorded::ALL {
        assert_ne!(ask(record, 1, 0).ecx & 1 << 31, 0);
        let leaf = ask(record, SIGNATURE_LEAF, 0);
        let mut name = Vec::new();
        for register in [leaf.ebx, leaf.ecx, leaf.edx] {
            name.extend(register.to_le_bytes());
        }
        assert_eq!(name, SIGNATURE);
        assert_eq!(leaf.eax, 0x4000_0001);
        assert_eq!(ask(record, 0x4000_0001, 0).eax, 1);
        assert_eq!(ask(record, 0x4000_0002, 0), Leaf::ZERO);
    }
}

#[test]
fn what_guests_cannot_use_is_hidden() {
    for record in recorded::ALL {
        let (basic, structured, extended) =
            (ask(record, 1, 0), ask(record, 7, 0), ask(record, 0x8000_0001, 0));
        // DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, CNXT-ID, SDBG, xTPR, PDCM, PCID, DCA, x2APIC, TSC deadline.
        for bit in [2, 3, 4, 5, 6, 7, 8, 10, 11, 14, 15, 17, 18, 21, 24] {
            assert_eq!(basic.ecx >> bit & 1, 0, "{}: 1.ECX[{bit}]", record.model);
        }
        // VME, DE, MSR, MCE, APIC, SEP, MTRR, MCA, PSE-36, PSN, DS, ACPI, SS, TM, PBE.
        for bit in [1, 2, 5, 7, 9, 11, 12, 14, 17, 18, 21, 22, 27, 29, 31] {
            assert_eq!(basic.edx >> bit & 1, 0, "{}: 1.EDX[{bit}]", record.model);
        }
        // FSGSBASE, TSC_ADJUST, SGX, HLE, SMEP, INVPCID, RTM, PQM, MPX, PQE, SMAP, PT.
        for bit in [0, 1, 2, 4, 7, 10, 11, 12, 14, 15, 20, 25] {
            assert_eq!(structured.ebx >> bit & 1, 0, "{}: 7.EBX[{bit}]", record.model);
        }
        // UMIP, PKU, OSPKE, WAITPKG, CET_SS, LA57, KL, bus lock, ENQCMD, SGX_LC, PKS.
        for bit in [2, 3, 4, 5, 7, 16, 23, 24, 29, 30, 31] {
            assert_eq!(structured.ecx >> bit & 1, 0, "{}: 7.ECX[{bit}]", record.model);
        }
        // UINTR, HYBRID, LBR, CET_IBT, AMX, speculation controls.
        for bit in [5, 15, 19, 20, 22, 24, 25, 26, 27, 28, 29, 30, 31] {
            assert_eq!(structured.edx >> bit & 1, 0, "{}: 7.EDX[{bit}]", record.model);
        }
        // SVM, LWP, MONITORX.
        for bit in [2, 15, 29] {
            assert_eq!(
                extended.ecx >> bit & 1,
                0,
                "{}: 8000_0001.ECX[{bit}]",
                record.model
            );
        }
        for leaf in [3, 5, 6, 8, 9, 0xa, 0xc, 0xe, 0xf, 0x10, 0x11, 0x12, 0x13, 0x14] {
            for subleaf in 0..3 {
                assert_eq!(
                    ask(record, leaf, subleaf),
                    Leaf::ZERO,
                    "{}: leaf {leaf:#x}",
                    record.model
                );
            }
        }
    }
}

#[test]
fn what_guests_can_use_is_passed_on() {
    let basic = ask(&SKYLAKE_X, 1, 0);
    // SSE3, SSSE3, FMA, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT, AES, XSAVE, OSXSAVE, AVX.
    for bit in [0, 9, 12, 13, 19, 20, 23, 25, 26, 27, 28] {
        assert_eq!(basic.ecx >> bit & 1, 1, "1.ECX[{bit}]");
    }
    let structured = ask(&SKYLAKE_X, 7, 0);
    // BMI1, AVX2, BMI2, ERMS, AVX-512 F.
    for bit in [3, 5, 8, 9, 16] {
        assert_eq!(structured.ebx >> bit & 1, 1, "7.EBX[{bit}]");
    }
    let extended = ask(&SKYLAKE_X, 0x8000_0001, 0);
    for bit in [11, 20, 27, 29] {
        assert_eq!(extended.edx >> bit & 1, 1, "8000_0001.EDX[{bit}]");
    }
    assert_eq!(ask(&SKYLAKE_X, 0x8000_0007, 0).edx, 1 << 8);
    assert_eq!(
        ask(&SKYLAKE_X, 0x8000_0008, 0).eax,
        SKYLAKE_X.leaf(0x8000_0008, 0).eax
    );
    for leaf in 0x8000_0002..=0x8000_0004 {
        assert_eq!(ask(&SKYLAKE_X, leaf, 0), SKYLAKE_X.leaf(leaf, 0));
    }
    // Family, model and stepping.
    assert_eq!(basic.eax, SKYLAKE_X.leaf(1, 0).eax);
}

#[test]
fn nothing_is_announced_that_the_host_lacks() {
    for record in recorded::ALL {
        let host = |leaf, subleaf| record.leaf(leaf, subleaf);
        assert_eq!(ask(record, 1, 0).ecx & !(1 << 31 | 1 << 27) & !host(1, 0).ecx, 0);
        assert_eq!(ask(record, 7, 0).ebx & !host(7, 0).ebx, 0);
        assert_eq!(ask(record, 7, 0).ecx & !host(7, 0).ecx, 0);
        assert_eq!(ask(record, 0x8000_0001, 0).edx & !host(0x8000_0001, 0).edx, 0);
    }
    assert_eq!(
        ask(&LYNNFIELD_750, 1, 0).ecx & 3 << 26,
        0,
        "no XSAVE there, so no OSXSAVE"
    );
    assert_eq!(ask(&PENRYN_T9600, 7, 0), Leaf::ZERO);
}

#[test]
fn osxsave_and_umip_mirror_the_guest_s_cr4() {
    let mut guest = guest(&ICELAKE_U);
    for cr4 in [0, OSXSAVE, UMIP, OSXSAVE | UMIP] {
        guest.cr4 = cr4;
        let osxsave = answer(&ICELAKE_U, &guest, 1, 0).ecx >> 27 & 1;
        let umip = answer(&ICELAKE_U, &guest, 7, 0).ecx >> 2 & 1;
        assert_eq!((osxsave == 1, umip == 1), (cr4 & OSXSAVE != 0, cr4 & UMIP != 0));
    }
    guest.cr4 = UMIP;
    assert_eq!(answer(&SKYLAKE_X, &guest, 7, 0).ecx >> 2 & 1, 0, "no UMIP there");
}

#[test]
fn vector_extensions_follow_the_state_that_is_switched() {
    let mut guest = guest(&SKYLAKE_X);
    guest.xcr0 = 7;
    assert_eq!(
        answer(&SKYLAKE_X, &guest, 7, 0).ebx & (1 << 16 | 1 << 30 | 1 << 31),
        0,
        "no AVX-512"
    );
    assert_ne!(answer(&SKYLAKE_X, &guest, 7, 0).ebx & 1 << 5, 0, "AVX2");
    guest.xcr0 = 3;
    assert_eq!(
        answer(&SKYLAKE_X, &guest, 1, 0).ecx & (1 << 12 | 1 << 28 | 1 << 29),
        0
    );
    assert_eq!(answer(&SKYLAKE_X, &guest, 7, 0).ebx & 1 << 5, 0);
    guest.xcr0 = 0;
    assert_eq!(
        answer(&SKYLAKE_X, &guest, 1, 0).ecx & 3 << 26,
        0,
        "no XSAVE without XCR0"
    );
    assert_eq!(answer(&SKYLAKE_X, &guest, 0xd, 0), Leaf::ZERO);
}

#[test]
fn rdtscp_and_rdpid_follow_the_control() {
    let mut guest = guest(&ICELAKE_U);
    for rdtscp in [false, true] {
        guest.rdtscp = rdtscp;
        let tscp = answer(&ICELAKE_U, &guest, 0x8000_0001, 0).edx >> 27 & 1;
        let pid = answer(&ICELAKE_U, &guest, 7, 0).ecx >> 22 & 1;
        assert_eq!((tscp == 1, pid == 1), (rdtscp, rdtscp));
    }
}

#[test]
fn leaves_end_where_there_is_nothing_for_guests() {
    for record in recorded::ALL {
        assert_eq!(ask(record, 0, 0).eax, record.leaf(0, 0).eax.min(0x16));
        assert_eq!(ask(record, 0, 0).ebx, record.leaf(0, 0).ebx, "the vendor");
        assert_eq!(ask(record, 0x8000_0000, 0).eax, 0x8000_0008);
        for leaf in [
            0x17,
            0x1f,
            0x100,
            0x3fff_ffff,
            0x7fff_ffff,
            0x8000_0009,
            0xc000_0000,
            u32::MAX,
        ] {
            assert_eq!(ask(record, leaf, 0), Leaf::ZERO);
        }
    }
    assert_eq!(ask(&PENRYN_T9600, 0xe, 0), Leaf::ZERO);
    assert_eq!(ask(&TIGERLAKE, 7, 2), Leaf::ZERO);
}

proptest! {
    /// A guest may ask anything, on any host.
    #[test]
    fn no_question_makes_it_panic(
        leaf in prop_oneof![0u32..0x30, 0x4000_0000u32..0x4000_0010, 0x8000_0000u32..0x8000_0020, any::<u32>()],
        subleaf in prop_oneof![0u32..70, any::<u32>()],
        cpu: u32, cpus: u32, cr4: u64, xcr0: u64, rdtscp: bool,
        registers: [u32; 4],
    ) {
        let guest = Guest { cpu, cpus, cr4, xcr0, rdtscp };
        for record in recorded::ALL {
            let first = answer(*record, &guest, leaf, subleaf);
            prop_assert_eq!(first, answer(*record, &guest, leaf, subleaf));
        }
        let [eax, ebx, ecx, edx] = registers;
        let wild = |_: u32, _: u32| Leaf { eax, ebx, ecx, edx };
        let _ = answer(&wild, &guest, leaf, subleaf);
        prop_assert_eq!(answer(&wild, &guest, 1, subleaf).ecx & 1 << 5, 0, "VMX is hidden whatever the host says");
    }
}
