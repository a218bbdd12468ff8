//! XSAVE and XRSTOR (or FXSAVE and FXRSTOR) on the calling host thread's registers, which the vkernel itself never uses, and
//! what the processor says about their image.
#![allow(unsafe_code)]

#[cfg(target_os = "none")]
use crate::sched::fpu::FpuState;
use crate::sched::fpu::{FpuLayout, LEGACY_SIZE};
use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};

/// Bits of MXCSR if the image does not say (Intel SDM volume 1, section 11.6.6).
const DEFAULT_MXCSR_MASK: u32 = 0xffbf;
/// Where FXSAVE stores the bits of MXCSR that may be set.
const MXCSR_MASK: usize = 28;

/// Components of XCR0 that programs are given: x87, SSE, AVX and AVX-512 (Intel SDM volume 1, section 13.1). Tile registers are not
/// among them: they would make every signal frame larger than the stacks that programs have for handlers.
const COMPONENTS: u64 = 0b1110_0111;
/// Bytes of the legacy region and the header, which every image has.
const SMALLEST_EXTENDED: usize = LEGACY_SIZE + 64;

static LAYOUT: spin::Once<FpuLayout> = spin::Once::new();

/// What the processor's image looks like.
pub fn fpu_layout() -> FpuLayout {
    *LAYOUT.call_once(measure)
}

#[allow(unused_unsafe, reason = "safe in newer compilers")]
fn measure() -> FpuLayout {
    #[repr(align(16))]
    struct Legacy([u8; LEGACY_SIZE]);
    let mut legacy = Legacy([0; LEGACY_SIZE]);
    // SAFETY: 512 bytes, 16-byte aligned.
    unsafe { asm!("fxsave64 [{}]", in(reg) legacy.0.as_mut_ptr(), options(nostack)) };
    let mask: [u8; 4] = core::array::from_fn(|index| legacy.0[MXCSR_MASK + index]);
    let mxcsr_mask = match u32::from_le_bytes(mask) {
        0 => DEFAULT_MXCSR_MASK,
        mask => mask,
    };
    // SAFETY: every x86-64 has CPUID. Bit 27: the host has turned XSAVE on, so XGETBV and leaf 13 are there.
    let has_xsave = unsafe { __cpuid(1) }.ecx >> 27 & 1 != 0;
    if !has_xsave {
        return FpuLayout {
            size: LEGACY_SIZE,
            components: 0,
            mxcsr_mask,
        };
    }
    let (low, high): (u32, u32);
    // SAFETY: as above; register 0 always exists.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack)) };
    let components = (u64::from(high) << 32 | u64::from(low)) & COMPONENTS;
    let end_of = |component: u32| {
        // SAFETY: as above. For a component that is turned on, EAX is its size and EBX where it begins (13.4.3).
        let leaf = unsafe { __cpuid_count(13, component) };
        leaf.eax as usize + leaf.ebx as usize
    };
    let size = (2..64)
        .filter(|component| components >> component & 1 != 0)
        .map(end_of)
        .fold(SMALLEST_EXTENDED, usize::max);
    FpuLayout {
        size,
        components,
        mxcsr_mask,
    }
}

#[cfg(target_os = "none")]
/// Makes the saved registers the calling host thread's.
pub fn load_fpu(state: &FpuState) {
    let components = fpu_layout().components;
    let image = state.address();
    // SAFETY: the image has the processor's size and alignment, and `FpuState` keeps its header and MXCSR valid.
    unsafe {
        if components == 0 {
            asm!("fxrstor64 [{}]", in(reg) image, options(nostack, readonly));
        } else {
            asm!("xrstor64 [{}]", in(reg) image, in("eax") components as u32, in("edx") (components >> 32) as u32,
                options(nostack, readonly));
        }
    }
}

#[cfg(target_os = "none")]
/// Saves the calling host thread's registers.
pub fn store_fpu(state: &mut FpuState) {
    let components = fpu_layout().components;
    let image = state.address_mut();
    // SAFETY: the image has the processor's size and alignment and is ours alone.
    unsafe {
        if components == 0 {
            asm!("fxsave64 [{}]", in(reg) image, options(nostack));
        } else {
            asm!("xsave64 [{}]", in(reg) image, in("eax") components as u32, in("edx") (components >> 32) as u32,
                options(nostack));
        }
    }
}
