//! The registers of x87, SSE and AVX as one value. Programs are compiled without floating point, so that nothing but what is loaded
//! here is ever in them.

use crate::processor;
use alloc::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use core::arch::asm;
use core::ptr::NonNull;
use core::slice;

/// Bytes of the FXSAVE area, with which XSAVE's begins, and of the header behind it (SDM 1 13.4).
const LEGACY_SIZE: usize = 512;
const HEADER_SIZE: usize = 64;
const ALIGNMENT: usize = 64;
/// CPUID leaf 1, ECX: XSAVE is on.
const OSXSAVE: u32 = 1 << 27;
/// Components with an area of their own.
const COMPONENTS: core::ops::Range<u32> = 2..63;
/// All exceptions masked.
const CONTROL_WORD: u16 = 0x037f;
const MXCSR: u32 = 0x1f80;
/// What may also be set: status, rounding, flush to zero.
const MXCSR_FREE: u32 = 0xe03f;

/// Contents of the extended registers.
#[derive(Debug)]
pub struct ExtendedState {
    area: NonNull<u8>,
    size: usize,
    /// XCR0, or 0 without XSAVE.
    components: u64,
}

impl ExtendedState {
    /// Nothing: not to be loaded before it is filled.
    fn new() -> Self {
        let [_, _, features, _] = processor::cpuid(1, 0);
        let (components, size) = if features & OSXSAVE == 0 {
            (0, LEGACY_SIZE)
        } else {
            let [low, size, _, high] = processor::cpuid(0xd, 0);
            let enabled = u64::from(high) << 32 | u64::from(low);
            // What CPUID lists the CPU could have; XCR0 says what is on.
            (enabled & read_xcr0(), size as usize)
        };
        let layout = layout(size);
        // SAFETY: the layout has a size.
        let area =
            NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout));
        ExtendedState {
            area,
            size,
            components,
        }
    }

    /// What the registers contain now.
    #[must_use]
    pub fn now() -> Self {
        let state = Self::new();
        let (area, components) = (state.area.as_ptr(), state.components);
        // SAFETY: the area has the size and alignment.
        unsafe {
            if components == 0 {
                asm!("fxsave64 [{}]", in(reg) area, options(nostack, preserves_flags));
            } else {
                asm!("xsave64 [{}]", in(reg) area, in("eax") components as u32, in("edx") (components >> 32) as u32,
                    options(nostack, preserves_flags));
            }
        }
        state
    }

    /// Contents that `next` makes, a word at a time; no exception is unmasked.
    #[must_use]
    pub fn filled(mut next: impl FnMut() -> u64) -> Self {
        let mut state = Self::new();
        let components = state.components;
        let mxcsr = MXCSR | next() as u32 & MXCSR_FREE;
        for place in state.places() {
            for byte in &mut state.bytes_mut()[place] {
                *byte = next() as u8;
            }
        }
        let bytes = state.bytes_mut();
        bytes[..2].copy_from_slice(&CONTROL_WORD.to_le_bytes());
        bytes[2..4].fill(0);
        // All eight registers are in use.
        bytes[4] = 0xff;
        bytes[24..28].copy_from_slice(&mxcsr.to_le_bytes());
        if components != 0 {
            bytes[LEGACY_SIZE..LEGACY_SIZE + 8].copy_from_slice(&components.to_le_bytes());
        }
        state
    }

    /// Puts it into the registers.
    pub fn load(&self) {
        let (area, components) = (self.area.as_ptr(), self.components);
        // SAFETY: the area was written by the CPU or by `filled`, with nothing that faults. The compiler keeps nothing in these registers.
        unsafe {
            if components == 0 {
                asm!("fxrstor64 [{}]", in(reg) area, options(nostack, preserves_flags));
            } else {
                asm!("xrstor64 [{}]", in(reg) area, in("eax") components as u32, in("edx") (components >> 32) as u32,
                    options(nostack, preserves_flags));
            }
        }
    }

    /// The first byte of the save area in which they differ, of those that have register contents.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<usize> {
        self.places()
            .into_iter()
            .flatten()
            .find(|&byte| self.bytes()[byte] != other.bytes()[byte])
    }

    /// Where register contents are.
    fn places(&self) -> alloc::vec::Vec<core::ops::Range<usize>> {
        let mut places = alloc::vec![0..5, 24..28];
        // Ten bytes of each x87 register.
        places.extend((32..160).step_by(16).map(|start| start..start + 10));
        places.push(160..416);
        for component in COMPONENTS.filter(|component| self.components >> component & 1 != 0) {
            let [size, offset, ..] = processor::cpuid(0xd, component);
            places.push(offset as usize..(offset + size) as usize);
        }
        places
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: owned and initialised.
        unsafe { slice::from_raw_parts(self.area.as_ptr(), self.size) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: owned, initialised and borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.area.as_ptr(), self.size) }
    }
}

impl Drop for ExtendedState {
    fn drop(&mut self) {
        // SAFETY: allocated with the same layout.
        unsafe { dealloc(self.area.as_ptr(), layout(self.size)) };
    }
}

const fn layout(size: usize) -> Layout {
    let size = if size < LEGACY_SIZE + HEADER_SIZE {
        LEGACY_SIZE + HEADER_SIZE
    } else {
        size
    };
    match Layout::from_size_align(size, ALIGNMENT) {
        Ok(layout) => layout,
        Err(_) => panic!("a CPU reports a save area that cannot be"),
    }
}

fn read_xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: XSAVE is on.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}
