//! What is noted for every frame of the machine, beside it, so that what is in the frame is not touched (a detached page
//! table may still be walked by hardware) and no memory is allocated.
//!
//! A frame is either in a chain, by its *link*, or in use; in use as a page of private memory it may have several owners, which its
//! *share count* counts. The two lie in one cache line: who frees a page needs both.

use super::{address_of, frame, number_of};
use core::sync::atomic::{AtomicU32, Ordering};
use frame_share::ShareCount;
use spin::Once;
use x86_64::PhysAddr;

/// Note about one frame. All zeroes are a valid one.
struct Note {
    link: AtomicU32,
    shares: ShareCount,
}

static NOTES: Once<&'static [Note]> = Once::new();

/// Frames that the table for frame numbers below `end` takes.
pub(super) fn frames_needed(end: u32) -> u32 {
    (u64::from(end) * size_of::<Note>() as u64).div_ceil(frame::SIZE) as u32
}

/// Puts the table for frame numbers below `end` at `table`.
///
/// # Safety
/// 1. `frames_needed(end)` frames from `table` on are usable memory that nobody else uses, ever.
/// 2. Called once.
pub(super) unsafe fn init(table: PhysAddr, end: u32) {
    let first: *mut Note = super::physical::to_virtual(table).as_mut_ptr();
    // SAFETY: the caller gives the memory for good; zeroes are valid notes.
    let notes = unsafe {
        core::ptr::write_bytes(first, 0, end as usize);
        core::slice::from_raw_parts(first, end as usize)
    };
    NOTES.call_once(|| notes);
}

fn note(frame: u32) -> &'static Note {
    &NOTES.get().expect("mm::init ran")[frame as usize]
}

/// The link of a frame. Whoever owns the frame owns its link.
fn link(frame: u32) -> &'static AtomicU32 {
    &note(frame).link
}

/// The share count of a frame.
pub(super) fn shares(page: PhysAddr) -> &'static ShareCount {
    &note(number_of(page)).shares
}

/// A stack of frames, chained by their links. It owns nothing by itself: who pushes gives up the frame, who pops has it.
#[derive(Debug, Default)]
pub struct FrameChain {
    /// Frame number of the first, and of the last. They mean nothing without frames.
    head: u32,
    tail: u32,
    count: usize,
}

impl FrameChain {
    /// No frames.
    pub const fn new() -> Self {
        FrameChain {
            head: 0,
            tail: 0,
            count: 0,
        }
    }

    /// Count of frames.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// True if there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a frame, which the caller owns.
    pub fn push(&mut self, address: PhysAddr) {
        let frame = number_of(address);
        link(frame).store(self.head, Ordering::Relaxed);
        if self.count == 0 {
            self.tail = frame;
        }
        self.head = frame;
        self.count += 1;
    }

    /// Takes a frame out.
    pub fn pop(&mut self) -> Option<PhysAddr> {
        if self.count == 0 {
            return None;
        }
        let frame = self.head;
        self.head = link(frame).load(Ordering::Relaxed);
        self.count -= 1;
        Some(address_of(frame))
    }

    /// Moves up to `most` frames from `other` here; if that is all, by one link.
    pub fn take_from(&mut self, other: &mut FrameChain, most: usize) {
        if most < other.count {
            for _ in 0..most {
                let Some(frame) = other.pop() else { break };
                self.push(frame);
            }
        } else if other.count > 0 {
            link(other.tail).store(self.head, Ordering::Relaxed);
            if self.count == 0 {
                self.tail = other.tail;
            }
            self.head = other.head;
            self.count += other.count;
            *other = FrameChain::new();
        }
    }
}
