//! Extended state of programs: x87, SSE, AVX, AVX-512 registers.
//!
//! The kernel is built without floating point, so a program's registers stay in the CPU while the kernel works for it and move
//! only when threads are switched.

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use dragonet_abi::Errno;
use raw_cpuid::CpuId;
use x86_64::registers::xcontrol::{XCr0, XCr0Flags};

/// Bytes of the FXSAVE area, which XSAVE's begins with (SDM 1 13.4.1).
const LEGACY_SIZE: usize = 512;
/// XSAVE areas need it (SDM 1 13.4).
const ALIGNMENT: usize = 64;
/// x87 control word at start: all exceptions masked, extended precision (SDM 1 8.1.5).
const CONTROL_WORD: u16 = 0x037f;
/// MXCSR at start: all exceptions masked, round to nearest (SDM 1 10.2.3).
const MXCSR: u32 = 0x1f80;
const CONTROL_WORD_OFFSET: usize = 0;
const MXCSR_OFFSET: usize = 24;

/// State components that are switched; 0 = FXSAVE only.
static COMPONENTS: AtomicU64 = AtomicU64::new(0);
/// Bytes of one area.
static AREA_SIZE: AtomicUsize = AtomicUsize::new(LEGACY_SIZE);

/// Enables the extended state of this CPU: everything up to AVX-512 that it has. Components that need more than registers
/// (protection keys, tiles) stay off.
pub(super) fn init() {
    let cpuid = CpuId::new();
    if !super::cpu::features().xsave {
        return;
    }
    let Some(state) = cpuid.get_extended_state_info() else {
        return;
    };
    let mut enabled = XCr0Flags::X87 | XCr0Flags::SSE;
    if state.xcr0_supports_avx_256() {
        enabled |= XCr0Flags::AVX;
        let avx512 = state.xcr0_supports_avx512_opmask()
            && state.xcr0_supports_avx512_zmm_hi256()
            && state.xcr0_supports_avx512_zmm_hi16();
        if avx512 {
            enabled |= XCr0Flags::OPMASK | XCr0Flags::ZMM_HI256 | XCr0Flags::HI16_ZMM;
        }
    }
    // SAFETY: CR4.OSXSAVE is on, and the set is one that CPUID offers (SDM 1 13.3).
    unsafe { XCr0::write(enabled) };
    // EBX of leaf 0DH gives the size for what XCR0 has now (SDM 1 13.2).
    let size = CpuId::new()
        .get_extended_state_info()
        .map_or(LEGACY_SIZE, |state| {
            state.xsave_area_size_enabled_features() as usize
        });
    COMPONENTS.store(enabled.bits(), Ordering::Relaxed);
    AREA_SIZE.fetch_max(size, Ordering::Relaxed);
}

/// State components that programs have (XCR0); 0 if the CPU has no XSAVE.
pub fn components() -> u64 {
    COMPONENTS.load(Ordering::Relaxed)
}

/// Saved extended state of one program thread. Nothing about it depends on the CPU that saved it.
#[derive(Debug)]
pub struct FpuState {
    area: NonNull<u8>,
}

// SAFETY: the area is owned memory with no ties to a CPU.
unsafe impl Send for FpuState {}
// SAFETY: a shared reference only lets registers be loaded from the area.
unsafe impl Sync for FpuState {}

impl FpuState {
    /// The state of a new program: registers as after reset, all floating-point exceptions masked.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new() -> Result<Self, Errno> {
        // SAFETY: the layout has a size.
        let area = NonNull::new(unsafe { alloc_zeroed(layout()) }).ok_or(Errno::ENOMEM)?;
        // A header of zeros makes XRSTOR load every component's initial state; MXCSR is loaded all the same
        // (SDM 1 13.8), and FXRSTOR loads everything.
        // SAFETY: both offsets are inside the area and aligned.
        unsafe {
            area.add(CONTROL_WORD_OFFSET).cast::<u16>().write(CONTROL_WORD);
            area.add(MXCSR_OFFSET).cast::<u32>().write(MXCSR);
        }
        Ok(FpuState { area })
    }

    /// Saves the registers of this CPU.
    pub fn save(&mut self) {
        let components = COMPONENTS.load(Ordering::Relaxed);
        let area = self.area.as_ptr();
        // SAFETY: the area has the size and alignment for the enabled components.
        unsafe {
            if components != 0 {
                asm!("xsave64 [{}]", in(reg) area, in("eax") components as u32, in("edx") (components >> 32) as u32,
                    options(nostack, preserves_flags));
            } else {
                asm!("fxsave64 [{}]", in(reg) area, options(nostack, preserves_flags));
            }
        }
    }

    /// Loads the registers of this CPU.
    pub fn restore(&self) {
        let components = COMPONENTS.load(Ordering::Relaxed);
        let area = self.area.as_ptr();
        // SAFETY: the area was initialised here or saved by the CPU and never written otherwise, so it cannot fault. The compiler
        // keeps nothing in these registers: the target has no floating point.
        unsafe {
            if components != 0 {
                asm!("xrstor64 [{}]", in(reg) area, in("eax") components as u32, in("edx") (components >> 32) as u32,
                    options(nostack, preserves_flags));
            } else {
                asm!("fxrstor64 [{}]", in(reg) area, options(nostack, preserves_flags));
            }
        }
    }
}

impl Drop for FpuState {
    fn drop(&mut self) {
        // SAFETY: allocated with the same layout.
        unsafe { dealloc(self.area.as_ptr(), layout()) };
    }
}

fn layout() -> Layout {
    Layout::from_size_align(AREA_SIZE.load(Ordering::Relaxed), ALIGNMENT)
        .expect("a few KiB, aligned to a power of two")
}
