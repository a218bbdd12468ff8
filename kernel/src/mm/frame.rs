//! A frame of memory that somebody owns, and how many there are.

use super::frame_table::FrameChain;
use super::{cpu_cache, heap, physical, stack};
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::Errno;
use x86_64::PhysAddr;

/// Bytes of a frame.
pub const SIZE: u64 = 4096;

static TOTAL: AtomicU64 = AtomicU64::new(0);

/// On whose behalf a frame is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A program's: refused when memory is low.
    Program,
    /// The kernel's own structures: may take the last frame.
    Kernel,
}

/// One frame, owned. Dropping it gives it back; its contents are then anybody's.
#[derive(Debug)]
pub struct Frame {
    address: PhysAddr,
}

impl Frame {
    /// Physical address, a multiple of [`SIZE`].
    pub fn address(&self) -> PhysAddr {
        self.address
    }

    /// Gives up the ownership, to be taken again by [`Frame::from_address`].
    pub fn into_address(self) -> PhysAddr {
        let address = self.address;
        core::mem::forget(self);
        address
    }

    /// Takes the ownership that [`Frame::into_address`] gave up.
    ///
    /// # Safety
    /// The address came from `into_address`, and this is the only call for it.
    pub unsafe fn from_address(address: PhysAddr) -> Self {
        Frame { address }
    }

    /// The contents, exclusively.
    pub fn bytes(&mut self) -> &mut [u8; SIZE as usize] {
        // SAFETY: the frame is owned by `self` and mapped in the direct map.
        unsafe { &mut *physical::to_virtual(self.address).as_mut_ptr() }
    }

    /// Makes it all zeroes.
    pub fn zero(&mut self) {
        self.bytes().fill(0);
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        cpu_cache::give_back(self.address);
    }
}

/// Frames that are owned together. Dropping it gives them all back.
#[derive(Debug, Default)]
pub struct OwnedFrames(FrameChain);

impl OwnedFrames {
    /// None yet.
    pub const fn new() -> Self {
        OwnedFrames(FrameChain::new())
    }

    /// True if there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Count of frames.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds a frame.
    pub fn push(&mut self, frame: Frame) {
        self.0.push(frame.into_address());
    }

    /// The chain, for those who take the frames over one by one.
    pub(super) const fn chain(&mut self) -> &mut FrameChain {
        &mut self.0
    }
}

impl Drop for OwnedFrames {
    fn drop(&mut self) {
        cpu_cache::give_back_all(core::mem::take(&mut self.0));
    }
}

/// A frame with arbitrary contents, for a program.
///
/// # Errors
/// ENOMEM when memory is low.
pub fn allocate() -> Result<Frame, Errno> {
    allocate_for(Need::Program)
}

/// A frame of zeroes, for a program.
///
/// # Errors
/// ENOMEM when memory is low.
pub fn allocate_zeroed() -> Result<Frame, Errno> {
    let mut frame = allocate()?;
    frame.zero();
    Ok(frame)
}

/// A frame with arbitrary contents.
///
/// # Errors
/// ENOMEM when memory is low, or exhausted.
pub fn allocate_for(need: Need) -> Result<Frame, Errno> {
    cpu_cache::take(need)
        .map(|address| Frame { address })
        .ok_or(Errno::ENOMEM)
}

/// Frames that the kernel manages, and how many of them are free, those kept at hand for a certain use included: in the
/// CPUs' caches, in the heap, as stacks of threads to come. Exact when nobody allocates.
pub fn statistics() -> (u64, u64) {
    let at_hand = cpu_cache::cached_frames() + heap::spare_frames() + stack::pooled_frames();
    (total(), (super::buddy::free_frames() + at_hand) as u64)
}

pub(super) fn total() -> u64 {
    TOTAL.load(Ordering::Relaxed)
}

pub(super) fn set_total(frames: u64) {
    TOTAL.store(frames, Ordering::Relaxed);
}
