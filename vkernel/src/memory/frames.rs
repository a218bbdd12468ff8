//! The frame allocator: which frames of RAM are free, and how many owners each other frame has.
//!
//! RAM is not touched before it is needed: frames are handed out from a rising border, and the host is asked to back them
//! in small batches, so that a host without memory says so with an error instead of ending the vkernel. Freed frames are
//! reused before the border rises.

use crate::linux::Errno;
use crate::memory::ram::{FRAME_SIZE, Frame, Ram};
use crate::sync::Lock;
use alloc::vec;
use alloc::vec::Vec;

/// Frames that the host is asked to back at once.
const BATCH: u32 = 16;
/// Marks a free frame in the table; the other bits are the next free frame.
const FREE: u32 = 1 << 31;
/// End of the free list.
const END: u32 = FREE - 1;
/// A frame whose count came this far is never freed again: better a lost frame than one with two owners.
const STICKY: u32 = FREE - 1;

/// Asks the host for the memory behind `length` bytes from `offset` of RAM.
pub type BackRam = fn(offset: u64, length: u64) -> Result<(), Errno>;

/// RAM and the state of its frames.
pub struct PhysicalMemory {
    ram: Ram,
    back: BackRam,
    state: Lock<State>,
}

struct State {
    /// By frame: count of owners, or `FREE` and the next free frame.
    table: Vec<u32>,
    free_head: u32,
    free_count: u32,
    /// Frames from here on were never used and are zero.
    border: u32,
    /// Frames below are backed by the host.
    backed: u32,
}

impl PhysicalMemory {
    /// All of `ram` free and untouched.
    pub fn new(ram: Ram, back: BackRam) -> Self {
        let frames = ram.frames();
        let state = State {
            table: vec![0; frames as usize],
            free_head: END,
            free_count: 0,
            border: 0,
            backed: 0,
        };
        PhysicalMemory {
            ram,
            back,
            state: Lock::new(state),
        }
    }

    /// The bytes themselves.
    pub fn ram(&self) -> &Ram {
        &self.ram
    }

    /// Frames in all, and frames free now.
    pub fn statistics(&self) -> (u32, u32) {
        let state = self.state.lock();
        (
            self.ram.frames(),
            state.free_count + (self.ram.frames() - state.border),
        )
    }

    /// A frame with one owner. Its contents are zero.
    ///
    /// # Errors
    /// `ENOMEM`: every frame is in use, or the host has no memory.
    pub fn allocate_zeroed(&'static self) -> Result<Page, Errno> {
        let (page, fresh) = self.allocate()?;
        if !fresh {
            self.ram.zero(page.frame, 0, FRAME_SIZE);
        }
        Ok(page)
    }

    /// A frame with one owner that is about to be overwritten completely: its contents are arbitrary.
    ///
    /// # Errors
    /// As [`Self::allocate_zeroed`].
    pub fn allocate_for_overwrite(&'static self) -> Result<Page, Errno> {
        self.allocate().map(|(page, _)| page)
    }

    fn allocate(&'static self) -> Result<(Page, bool), Errno> {
        let mut state = self.state.lock();
        if state.free_head != END {
            let frame = state.free_head;
            let next = state.table[frame as usize];
            state.free_head = next & !FREE;
            state.free_count -= 1;
            state.table[frame as usize] = 1;
            return Ok((
                Page {
                    memory: self,
                    frame: Frame(frame),
                },
                false,
            ));
        }
        if state.border == self.ram.frames() {
            return Err(Errno::ENOMEM);
        }
        if state.border == state.backed {
            let count = BATCH.min(self.ram.frames() - state.backed);
            (self.back)(Frame(state.backed).offset(), Frame(count).offset())?;
            state.backed += count;
        }
        let frame = state.border;
        state.border += 1;
        state.table[frame as usize] = 1;
        Ok((
            Page {
                memory: self,
                frame: Frame(frame),
            },
            true,
        ))
    }

    /// Takes back ownership that [`Page::into_frame`] gave to a page table.
    pub fn adopt(&'static self, frame: Frame) -> Page {
        Page { memory: self, frame }
    }

    /// Makes the owner of `frame` in a page table share it with a new owner.
    pub fn share(&'static self, frame: Frame) -> Page {
        let mut state = self.state.lock();
        let count = &mut state.table[frame.0 as usize];
        debug_assert!(*count != 0 && *count & FREE == 0, "sharing a free frame");
        if *count < STICKY {
            *count += 1;
        }
        Page { memory: self, frame }
    }

    /// Count of owners of a frame that the caller owns.
    pub fn owners(&self, frame: Frame) -> u32 {
        self.state.lock().table[frame.0 as usize]
    }

    fn release(&self, frame: Frame) {
        let mut state = self.state.lock();
        let count = state.table[frame.0 as usize];
        assert!(count != 0 && count & FREE == 0, "frame freed twice");
        if count == STICKY {
            return;
        }
        if count > 1 {
            state.table[frame.0 as usize] = count - 1;
            return;
        }
        state.table[frame.0 as usize] = FREE | state.free_head;
        state.free_head = frame.0;
        state.free_count += 1;
    }
}

/// One share in the ownership of a frame; the last share's end frees the frame.
pub struct Page {
    memory: &'static PhysicalMemory,
    frame: Frame,
}

impl Page {
    /// Which frame.
    pub fn frame(&self) -> Frame {
        self.frame
    }

    /// Hands the share to a page-table entry; [`PhysicalMemory::adopt`] takes it back.
    pub fn into_frame(self) -> Frame {
        let frame = self.frame;
        core::mem::forget(self);
        frame
    }
}

impl Clone for Page {
    fn clone(&self) -> Self {
        self.memory.share(self.frame)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.memory.release(self.frame);
    }
}

#[cfg(test)]
#[allow(unsafe_code)]
pub mod tests {
    use super::*;
    use alloc::boxed::Box;
    use core::ptr::NonNull;

    /// Where entries count from in tests: not 0, so that an address that is taken for an offset does not go unnoticed.
    const TEST_BASE: u64 = 0x1_2345_6000;

    #[repr(align(4096))]
    struct Aligned {
        _bytes: [u8; FRAME_SIZE],
    }

    /// RAM of `frames` frames for a test.
    pub fn memory(frames: u32) -> &'static PhysicalMemory {
        let block: Vec<Aligned> = (0..frames)
            .map(|_| Aligned {
                _bytes: [0; FRAME_SIZE],
            })
            .collect();
        let base = NonNull::from(Box::leak(block.into_boxed_slice())).cast();
        // SAFETY: leaked, so valid for ever; the only reference was turned into the pointer.
        let ram = unsafe { Ram::new(base, frames, TEST_BASE) };
        Box::leak(Box::new(PhysicalMemory::new(ram, |_, _| Ok(()))))
    }

    #[test]
    fn frames_come_back_zeroed_and_are_counted() {
        let memory = memory(3);
        let first = memory.allocate_zeroed().unwrap();
        memory.ram().write(first.frame(), 7, b"left over");
        let number = first.frame();
        let second = memory.allocate_zeroed().unwrap();
        let _third = memory.allocate_zeroed().unwrap();
        assert_eq!(memory.allocate_zeroed().err(), Some(Errno::ENOMEM));
        assert_eq!(memory.statistics(), (3, 0));
        drop(first);
        assert_eq!(memory.statistics(), (3, 1));
        let again = memory.allocate_zeroed().unwrap();
        assert_eq!(again.frame(), number);
        let mut bytes = [1; 16];
        memory.ram().read(number, 0, &mut bytes);
        assert_eq!(bytes, [0; 16]);
        assert_ne!(second.frame(), again.frame());
    }

    #[test]
    fn a_shared_frame_is_freed_by_its_last_owner() {
        let memory = memory(2);
        let page = memory.allocate_zeroed().unwrap();
        let shared = page.clone();
        assert_eq!(memory.owners(page.frame()), 2);
        drop(page);
        assert_eq!(memory.statistics(), (2, 1));
        let frame = shared.into_frame();
        assert_eq!(memory.statistics(), (2, 1));
        drop(memory.adopt(frame));
        assert_eq!(memory.statistics(), (2, 2));
    }

    #[test]
    fn a_host_without_memory_is_an_error() {
        let block: Vec<Aligned> = (0..32)
            .map(|_| Aligned {
                _bytes: [0; FRAME_SIZE],
            })
            .collect();
        let base = NonNull::from(Box::leak(block.into_boxed_slice())).cast();
        // SAFETY: as in `memory`.
        let ram = unsafe { Ram::new(base, 32, TEST_BASE) };
        let refuse_second_batch: BackRam = |offset, _| if offset == 0 { Ok(()) } else { Err(Errno::ENOMEM) };
        let memory: &'static _ = Box::leak(Box::new(PhysicalMemory::new(ram, refuse_second_batch)));
        let pages: Vec<Page> = core::iter::from_fn(|| memory.allocate_zeroed().ok()).collect();
        assert_eq!(pages.len(), BATCH as usize);
    }
}
