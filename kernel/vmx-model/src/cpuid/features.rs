//! Feature bits that guests see: lists of what is allowed, so that what a future CPU adds stays hidden.

use super::{Cpuid, Guest, Leaf};

/// A feature word: one register of one leaf.
struct Word {
    /// Allowed always.
    plain: &'static [u32],
    /// Allowed if the guest's XCR0 has AVX state.
    avx: &'static [u32],
    /// Allowed if it has AVX-512 state.
    avx512: &'static [u32],
}

const BASIC_ECX: Word = Word {
    // SSE3, PCLMULQDQ, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, MOVBE, POPCNT, AESNI, RDRAND. Not: DTES64, MONITOR, DS-CPL, VMX, SMX, EIST,
    // TM2, CNXT-ID, SDBG, xTPR, PDCM, PCID, DCA, x2APIC, TSC-deadline: all the kernel's.
    plain: &[0, 1, 9, 13, 19, 20, 22, 23, 25, 30],
    // FMA, AVX, F16C.
    avx: &[12, 28, 29],
    avx512: &[],
};
const XSAVE: u32 = 1 << 26;
const OSXSAVE: u32 = 1 << 27;
const HYPERVISOR: u32 = 1 << 31;

const BASIC_EDX: Word = Word {
    // FPU, PSE, TSC, PAE, CMPXCHG8B, PGE, CMOV, PAT, CLFLUSH, MMX, FXSR, SSE, SSE2: instructions, and what a guest may use in its own page
    // tables. Not: VME, DE, MSR, MCE, APIC, SEP (SYSENTER faults), MTRR, MCA, PSE-36, PSN, DS, ACPI, SS, TM, PBE.
    plain: &[0, 3, 4, 6, 8, 13, 15, 16, 19, 23, 24, 25, 26],
    avx: &[],
    avx512: &[],
};

const STRUCTURED_EBX: Word = Word {
    // BMI1, FDP_EXCPTN_ONLY, BMI2, ERMS, FCS-FDS deprecation, RDSEED, ADX, CLFLUSHOPT, CLWB, SHA. Not: FSGSBASE, TSC_ADJUST, SGX, HLE, SMEP,
    // INVPCID, RTM, PQM, MPX, PQE, SMAP, PT.
    plain: &[3, 6, 8, 9, 13, 18, 19, 23, 24, 29],
    // AVX2.
    avx: &[5],
    // F, DQ, IFMA, PF, ER, CD, BW, VL.
    avx512: &[16, 17, 21, 26, 27, 28, 30, 31],
};

const STRUCTURED_ECX: Word = Word {
    // PREFETCHWT1, GFNI, CLDEMOTE, MOVDIRI, MOVDIR64B. Not: PKU, OSPKE, WAITPKG, CET_SS, TME, LA57, MAWAU, KL, BUS_LOCK_DETECT, ENQCMD,
    // SGX_LC, PKS.
    plain: &[0, 8, 25, 27, 28],
    // VAES, VPCLMULQDQ.
    avx: &[9, 10],
    // VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ.
    avx512: &[1, 6, 11, 12, 14],
};
const UMIP: u32 = 1 << 2;
const RDPID: u32 = 1 << 22;
const CR4_UMIP: u64 = 1 << 11;
const CR4_OSXSAVE: u64 = 1 << 18;

const STRUCTURED_EDX: Word = Word {
    // FSRM, MD_CLEAR (VERW), SERIALIZE. Not: UINTR, SRBDS_CTRL, RTM and TSX bits, HYBRID (threads move), PCONFIG, LBR, CET_IBT, AMX, and the
    // speculation controls, which are MSRs.
    plain: &[4, 10, 14],
    avx: &[],
    // 4VNNIW, 4FMAPS, VP2INTERSECT, FP16.
    avx512: &[2, 3, 8, 23],
};

const STRUCTURED_1_EAX: Word = Word {
    // CMPCCXADD, FZLRM, FSRS, FSRC.
    plain: &[7, 10, 11, 12],
    // SHA512, SM3, SM4, AVX-VNNI, AVX-IFMA.
    avx: &[0, 1, 2, 4, 23],
    // BF16.
    avx512: &[5],
};

const STRUCTURED_1_EDX: Word = Word {
    plain: &[],
    // AVX-VNNI-INT8, AVX-NE-CONVERT, AVX-VNNI-INT16.
    avx: &[4, 5, 10],
    avx512: &[],
};

const EXTENDED_ECX: Word = Word {
    // LAHF in 64-bit mode, LZCNT, PREFETCHW. Not: SVM, LWP, MONITORX, performance counters.
    plain: &[0, 5, 8],
    avx: &[],
    avx512: &[],
};

const EXTENDED_EDX: Word = Word {
    // SYSCALL (the vkernel gets it as an undefined opcode and knows it), NX, 1 GiB pages, 64-bit mode.
    plain: &[11, 20, 26, 29],
    avx: &[],
    avx512: &[],
};
const RDTSCP: u32 = 1 << 27;

/// State components (SDM 1 13.1).
const SSE_AVX: u64 = 1 << 1 | 1 << 2;
const AVX512: u64 = SSE_AVX | 7 << 5;

impl Word {
    fn of(&self, host: u32, guest: &Guest) -> u32 {
        let mut allowed = mask(self.plain);
        if guest.xcr0 & SSE_AVX == SSE_AVX {
            allowed |= mask(self.avx);
        }
        if guest.xcr0 & AVX512 == AVX512 {
            allowed |= mask(self.avx512);
        }
        host & allowed
    }
}

fn mask(bits: &[u32]) -> u32 {
    bits.iter().fold(0, |mask, bit| mask | 1 << bit)
}

/// Leaf 1. Family, model and stepping are the host's; EBX is left to `topology`.
pub(super) fn basic(host: Leaf, guest: &Guest) -> Leaf {
    let mut ecx = BASIC_ECX.of(host.ecx, guest) | HYPERVISOR;
    if guest.xcr0 != 0 {
        ecx |= host.ecx & XSAVE;
        // Says whether CR4.OSXSAVE is on, not what the CPU has.
        if ecx & XSAVE != 0 && guest.cr4 & CR4_OSXSAVE != 0 {
            ecx |= OSXSAVE;
        }
    }
    Leaf {
        ecx,
        edx: BASIC_EDX.of(host.edx, guest),
        ..host
    }
}

/// Leaf 7, all sub-leaves.
pub(super) fn structured(host: &impl Cpuid, guest: &Guest, subleaf: u32) -> Leaf {
    let limit = host.leaf(7, 0).eax.min(1);
    if subleaf > limit {
        return Leaf::ZERO;
    }
    let leaf = host.leaf(7, subleaf);
    if subleaf == 1 {
        return Leaf {
            eax: STRUCTURED_1_EAX.of(leaf.eax, guest),
            edx: STRUCTURED_1_EDX.of(leaf.edx, guest),
            ..Leaf::ZERO
        };
    }
    let mut ecx = STRUCTURED_ECX.of(leaf.ecx, guest);
    if guest.cr4 & CR4_UMIP != 0 {
        ecx |= leaf.ecx & UMIP;
    }
    if guest.rdtscp {
        ecx |= leaf.ecx & RDPID;
    }
    Leaf {
        eax: limit,
        ebx: STRUCTURED_EBX.of(leaf.ebx, guest),
        ecx,
        edx: STRUCTURED_EDX.of(leaf.edx, guest),
    }
}

/// Leaf 8000_0001H.
pub(super) fn extended(host: Leaf, guest: &Guest) -> Leaf {
    let mut edx = EXTENDED_EDX.of(host.edx, guest);
    if guest.rdtscp {
        edx |= host.edx & RDTSCP;
    }
    Leaf {
        eax: 0,
        ebx: 0,
        ecx: EXTENDED_ECX.of(host.ecx, guest),
        edx,
    }
}

/// Leaf 8000_0007H: whether the TSC's rate is constant.
pub(super) fn power(host: Leaf) -> Leaf {
    const INVARIANT_TSC: u32 = 1 << 8;
    Leaf {
        edx: host.edx & INVARIANT_TSC,
        ..Leaf::ZERO
    }
}
