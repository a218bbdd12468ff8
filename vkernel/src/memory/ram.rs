//! The vkernel's RAM: one host object, mapped linearly, shared with every guest address space.
//!
//! Guest programs on other CPUs read and write these bytes at any moment, so no Rust reference to plain memory is ever made
//! here: bytes are copied through raw pointers, words that somebody else may change are atomics.
#![allow(unsafe_code)]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64};
use dragonet_abi::layout::PAGE_SIZE;

/// Bytes of a frame.
pub const FRAME_SIZE: usize = PAGE_SIZE as usize;
/// Entries of a page-table page.
pub const TABLE_ENTRIES: usize = FRAME_SIZE / 8;

/// A page of RAM by number, counted from 0: byte `number * FRAME_SIZE` of the RAM object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frame(pub u32);

impl Frame {
    /// Byte offset in the RAM object.
    pub const fn offset(self) -> u64 {
        self.0 as u64 * PAGE_SIZE
    }
}

/// The linear mapping of the RAM object.
pub struct Ram {
    base: NonNull<u8>,
    frames: u32,
    physical_base: u64,
}

// SAFETY: the mapping lives as long as the process and is only reached by raw copies and atomics.
unsafe impl Send for Ram {}
// SAFETY: as for Send.
unsafe impl Sync for Ram {}

impl Ram {
    /// Takes over the mapping at `base`. In page-table entries, the address of its first byte is `physical_base`, whole pages.
    ///
    /// # Safety
    /// 1. `base` is page-aligned and `frames * FRAME_SIZE` bytes from there stay readable and writable for ever.
    /// 2. Nobody makes references into that memory.
    pub unsafe fn new(base: NonNull<u8>, frames: u32, physical_base: u64) -> Self {
        Ram {
            base,
            frames,
            physical_base,
        }
    }

    /// The frame as page-table entries name it.
    pub fn physical(&self, frame: Frame) -> u64 {
        self.physical_base + frame.offset()
    }

    /// The frame that a page-table entry names by `physical`, an address that came from [`Self::physical`].
    pub fn frame_at(&self, physical: u64) -> Frame {
        Frame(((physical - self.physical_base) / PAGE_SIZE) as u32)
    }

    /// Count of frames.
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Copies bytes out of a frame. The range must lie inside the frame.
    pub fn read(&self, frame: Frame, offset: usize, buffer: &mut [u8]) {
        let source = self.pointer(frame, offset, buffer.len());
        // SAFETY: `pointer` checked the range; `buffer` is the vkernel's own memory and never part of RAM.
        unsafe { core::ptr::copy_nonoverlapping(source, buffer.as_mut_ptr(), buffer.len()) }
    }

    /// Copies bytes into a frame. The range must lie inside the frame.
    pub fn write(&self, frame: Frame, offset: usize, bytes: &[u8]) {
        let target = self.pointer(frame, offset, bytes.len());
        // SAFETY: `pointer` checked the range; `bytes` is the vkernel's own memory and never part of RAM.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) }
    }

    /// Fills part of a frame with zeroes.
    pub fn zero(&self, frame: Frame, offset: usize, length: usize) {
        let target = self.pointer(frame, offset, length);
        // SAFETY: `pointer` checked the range.
        unsafe { core::ptr::write_bytes(target, 0, length) }
    }

    /// Copies a whole frame.
    pub fn copy(&self, from: Frame, to: Frame) {
        let source = self.pointer(from, 0, FRAME_SIZE);
        let target = self.pointer(to, 0, FRAME_SIZE);
        if from != to {
            // SAFETY: both are whole frames of RAM and different ones.
            unsafe { core::ptr::copy_nonoverlapping(source, target, FRAME_SIZE) }
        }
    }

    /// An entry of the page-table page in `frame`. The host's walker changes it at any time.
    pub fn entry(&self, frame: Frame, index: usize) -> &AtomicU64 {
        assert!(index < TABLE_ENTRIES);
        let pointer = self.pointer(frame, index * 8, 8);
        // SAFETY: in range and 8-byte aligned by construction; only ever accessed atomically, lives as long as RAM.
        unsafe { AtomicU64::from_ptr(pointer.cast()) }
    }

    /// The aligned 32-bit word at `offset` of `frame`, as a futex sees it.
    pub fn word(&self, frame: Frame, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4));
        let pointer = self.pointer(frame, offset, 4);
        // SAFETY: in range and aligned; programs access it too, which is what atomics are for; lives as long as RAM.
        unsafe { AtomicU32::from_ptr(pointer.cast()) }
    }

    fn pointer(&self, frame: Frame, offset: usize, length: usize) -> *mut u8 {
        assert!(frame.0 < self.frames, "frame number beyond RAM");
        assert!(
            offset <= FRAME_SIZE && length <= FRAME_SIZE - offset,
            "range beyond a frame"
        );
        // SAFETY: inside the mapping by the two checks above and the contract of `new`.
        unsafe { self.base.as_ptr().add(frame.0 as usize * FRAME_SIZE + offset) }
    }
}
