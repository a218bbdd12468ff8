//! The floating-point and vector registers of a guest thread.
//!
//! The vkernel uses none itself, so between two runs they stay in the host thread's registers. They are stored when the thread
//! stops being its CPU's current one and loaded when it runs somewhere else or after another.
//!
//! The image is the processor's XSAVE area in standard form (Intel SDM volume 1, chapter 13), or the 512 bytes of FXSAVE where there is no XSAVE.
//! It is also what a signal frame holds, so a program may hand back any bytes: [`FpuState::set_from_program`] repairs them.

use crate::host;
use alloc::boxed::Box;
use alloc::vec;

/// Bytes of the legacy region, which is the whole FXSAVE image.
pub const LEGACY_SIZE: usize = 512;
/// Bytes of the XSAVE header behind it.
const HEADER_SIZE: usize = 64;
/// Where the x87 control word lies.
const CONTROL_WORD: usize = 0;
/// Where MXCSR lies.
const MXCSR: usize = 24;
/// Where the XSAVE header's bitmap of components lies.
const COMPONENTS: usize = LEGACY_SIZE;
/// x87 with all exceptions masked, extended precision.
const DEFAULT_CONTROL_WORD: u16 = 0x37f;
/// SSE with all exceptions masked.
const DEFAULT_MXCSR: u32 = 0x1f80;

/// A block with the alignment that XSAVE wants.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Block([u8; 64]);

/// Saved registers.
pub struct FpuState {
    blocks: Box<[Block]>,
}

impl FpuState {
    /// The registers that a new program starts with.
    pub fn new() -> Self {
        let size = host::fpu_layout().size;
        let mut state = FpuState {
            blocks: vec![Block([0; 64]); size.div_ceil(64)].into_boxed_slice(),
        };
        state.put(CONTROL_WORD, &DEFAULT_CONTROL_WORD.to_le_bytes());
        state.put(MXCSR, &DEFAULT_MXCSR.to_le_bytes());
        state
    }

    /// A copy for a new thread.
    pub fn duplicate(&self) -> Self {
        FpuState {
            blocks: self.blocks.clone(),
        }
    }

    /// Bytes of an image.
    pub fn size() -> usize {
        host::fpu_layout().size
    }

    /// The byte at `offset`, 0 behind the end.
    fn byte(&self, offset: usize) -> u8 {
        self.blocks
            .get(offset / 64)
            .map_or(0, |block| block.0[offset % 64])
    }

    fn word(&self, offset: usize) -> u32 {
        u32::from_le_bytes(core::array::from_fn(|index| self.byte(offset + index)))
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        for (position, &byte) in (offset..).zip(bytes) {
            if let Some(block) = self.blocks.get_mut(position / 64) {
                block.0[position % 64] = byte;
            }
        }
    }

    /// Address of the image, 64-byte aligned, for the instructions.
    #[cfg(target_os = "none")]
    pub fn address(&self) -> *const u8 {
        self.blocks.as_ptr().cast()
    }

    /// Address of the image, 64-byte aligned, for the instructions.
    #[cfg(target_os = "none")]
    pub fn address_mut(&mut self) -> *mut u8 {
        self.blocks.as_mut_ptr().cast()
    }

    /// Copies the image out.
    pub fn copy_to(&self, image: &mut [u8]) {
        for (offset, byte) in image.iter_mut().enumerate() {
            *byte = self.byte(offset);
        }
    }

    /// Takes an image that a program supplies. A shorter one (the legacy region) leaves the other components in their initial state.
    /// Whatever the bytes are, loading them cannot fault: reserved bits are cleared and the header is made anew.
    pub fn set_from_program(&mut self, image: &[u8]) {
        let layout = host::fpu_layout();
        let supplied = image.len().min(layout.size);
        for block in &mut self.blocks {
            block.0.fill(0);
        }
        self.put(0, &image[..supplied]);
        let mxcsr = self.word(MXCSR) & layout.mxcsr_mask;
        self.put(MXCSR, &mxcsr.to_le_bytes());
        if layout.components == 0 {
            return;
        }
        let whole = supplied >= LEGACY_SIZE + HEADER_SIZE;
        let claimed = if whole {
            u64::from(self.word(COMPONENTS)) | u64::from(self.word(COMPONENTS + 4)) << 32
        } else {
            0b11
        };
        self.put(COMPONENTS, &[0; HEADER_SIZE]);
        self.put(COMPONENTS, &(claimed & layout.components).to_le_bytes());
    }
}

impl Default for FpuState {
    fn default() -> Self {
        Self::new()
    }
}

/// What the processor says about its image.
#[derive(Clone, Copy, Debug)]
pub struct FpuLayout {
    /// Bytes.
    pub size: usize,
    /// Components that XSAVE saves (XCR0); 0 where there is only FXSAVE.
    pub components: u64,
    /// Bits of MXCSR that may be set.
    pub mxcsr_mask: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_image_is_repaired() {
        let mut state = FpuState::new();
        state.set_from_program(&vec![0xff; FpuState::size()]);
        let mut image = vec![0; FpuState::size()];
        state.copy_to(&mut image);
        let layout = host::fpu_layout();
        let mxcsr = u32::from_le_bytes(image[MXCSR..MXCSR + 4].try_into().unwrap());
        assert_eq!(mxcsr & !layout.mxcsr_mask, 0);
        if layout.components != 0 {
            let claimed = u64::from_le_bytes(image[COMPONENTS..COMPONENTS + 8].try_into().unwrap());
            assert_eq!(claimed & !layout.components, 0);
            assert!(
                image[COMPONENTS + 8..COMPONENTS + HEADER_SIZE]
                    .iter()
                    .all(|&byte| byte == 0)
            );
        }
    }

    #[test]
    fn a_short_image_keeps_the_legacy_registers() {
        let mut state = FpuState::new();
        let mut legacy = [0_u8; LEGACY_SIZE];
        legacy[160] = 0xab; // first byte of xmm0
        state.set_from_program(&legacy);
        let mut image = vec![0; FpuState::size()];
        state.copy_to(&mut image);
        assert_eq!(image[160], 0xab);
        if host::fpu_layout().components != 0 {
            assert_eq!(image[COMPONENTS], 0b11);
        }
        state.set_from_program(&[]);
        state.copy_to(&mut image);
        assert_eq!(image[160], 0);
    }
}
