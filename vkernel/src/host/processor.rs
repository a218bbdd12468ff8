//! What the processor says and gives by unprivileged instructions.
#![allow(unsafe_code)]

use crate::clock;
use core::arch::x86_64::{__cpuid, _rdrand64_step, _rdtsc};

/// `AT_HWCAP`: the feature bits of CPUID leaf 1, EDX.
pub fn hardware_capabilities() -> u64 {
    u64::from(cpuid(1).edx)
}

/// Key material: the CPU's random numbers where it has them, mixed with clocks.
pub fn random_seed() -> [u32; 8] {
    let has_rdrand = cpuid(1).ecx >> 30 & 1 != 0;
    let mut mixed = 0x9e37_79b9_7f4a_7c15_u64;
    core::array::from_fn(|_| {
        // SAFETY: every x86-64 has a time-stamp counter; the host lets programs read it.
        let ticks = unsafe { _rdtsc() };
        let mut random = 0;
        if has_rdrand {
            // SAFETY: CPUID says that the instruction is there.
            unsafe { rdrand(&mut random) };
        }
        mixed = (mixed ^ ticks ^ clock::realtime())
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
            .rotate_left(31);
        ((mixed ^ random) >> 16) as u32
    })
}

/// # Safety
/// 1. The processor has RDRAND.
#[target_feature(enable = "rdrand")]
unsafe fn rdrand(value: &mut u64) {
    let _ = _rdrand64_step(value);
}

#[allow(unused_unsafe, reason = "safe in newer compilers")]
fn cpuid(leaf: u32) -> core::arch::x86_64::CpuidResult {
    // SAFETY: every x86-64 has CPUID.
    unsafe { __cpuid(leaf) }
}
