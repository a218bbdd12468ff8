//! Pipes. The bytes lie in frames of RAM that come when they are first needed, so programs cannot fill the vkernel's heap with pipes.

use crate::linux::Errno;
use crate::memory::ram::FRAME_SIZE;
use crate::memory::{Page, PhysicalMemory};
use crate::sched::wait::WaitQueue;
use crate::sync::Lock;

/// Bytes that a pipe holds.
pub const CAPACITY: usize = 16 * FRAME_SIZE;
/// Writes of up to this many bytes are never split.
pub const ATOMIC_WRITE: usize = 4096;

/// A pipe with its two ends.
pub struct Pipe {
    memory: &'static PhysicalMemory,
    state: Lock<State>,
    changed: WaitQueue,
}

struct State {
    pages: [Option<Page>; CAPACITY / FRAME_SIZE],
    start: usize,
    length: usize,
    readers: usize,
    writers: usize,
}

impl Pipe {
    /// An empty pipe with one reader and one writer.
    pub fn new(memory: &'static PhysicalMemory) -> Self {
        let state = State {
            pages: [const { None }; 16],
            start: 0,
            length: 0,
            readers: 1,
            writers: 1,
        };
        Pipe {
            memory,
            state: Lock::new(state),
            changed: WaitQueue::new(),
        }
    }

    /// Told when bytes or room appear, and when an end is closed.
    pub fn changed(&self) -> &WaitQueue {
        &self.changed
    }

    /// Takes bytes out. `None` if there are none yet; 0 if there will never be any.
    pub fn read(&self, buffer: &mut [u8]) -> Option<usize> {
        let mut state = self.state.lock();
        let length = buffer.len().min(state.length);
        if length == 0 {
            return (buffer.is_empty() || state.writers == 0).then_some(0);
        }
        let mut done = 0;
        while done < length {
            let position = (state.start + done) % CAPACITY;
            let chunk = (length - done).min(FRAME_SIZE - position % FRAME_SIZE);
            if let Some(page) = &state.pages[position / FRAME_SIZE] {
                let target = &mut buffer[done..done + chunk];
                self.memory
                    .ram()
                    .read(page.frame(), position % FRAME_SIZE, target);
            }
            done += chunk;
        }
        state.start = (state.start + length) % CAPACITY;
        state.length -= length;
        if state.length == 0 {
            state.start = 0;
            state.pages[1..].fill(None);
        }
        drop(state);
        self.changed.notify();
        Some(length)
    }

    /// Puts bytes in. `None` if there is no room yet (for all of them, up to [`ATOMIC_WRITE`]).
    ///
    /// # Errors
    /// `EPIPE` if nobody will read them; `ENOMEM`.
    pub fn write(&self, bytes: &[u8]) -> Result<Option<usize>, Errno> {
        let mut state = self.state.lock();
        if state.readers == 0 {
            return Err(Errno::EPIPE);
        }
        let room = CAPACITY - state.length;
        if room == 0 || bytes.len() <= ATOMIC_WRITE && room < bytes.len() {
            return Ok(None);
        }
        let length = bytes.len().min(room);
        let mut done = 0;
        while done < length {
            let position = (state.start + state.length) % CAPACITY;
            let chunk = (length - done).min(FRAME_SIZE - position % FRAME_SIZE);
            let slot = &mut state.pages[position / FRAME_SIZE];
            if slot.is_none() {
                match self.memory.allocate_for_overwrite() {
                    Ok(page) => *slot = Some(page),
                    Err(_) if done > 0 => break,
                    Err(error) => return Err(error),
                }
            }
            if let Some(page) = slot {
                let source = &bytes[done..done + chunk];
                self.memory
                    .ram()
                    .write(page.frame(), position % FRAME_SIZE, source);
            }
            state.length += chunk;
            done += chunk;
        }
        drop(state);
        self.changed.notify();
        Ok(Some(done))
    }

    /// Bytes to read, room to write, readers, writers.
    pub fn status(&self) -> (usize, usize, usize, usize) {
        let state = self.state.lock();
        (
            state.length,
            CAPACITY - state.length,
            state.readers,
            state.writers,
        )
    }

    /// An open file description of the reading (or writing) end is gone.
    pub fn close(&self, reader: bool) {
        let mut state = self.state.lock();
        let count = if reader {
            &mut state.readers
        } else {
            &mut state.writers
        };
        *count = count.saturating_sub(1);
        drop(state);
        self.changed.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::frames::tests::memory;
    use alloc::vec;

    #[test]
    fn bytes_come_out_in_order_across_the_end_of_the_ring() {
        let memory = memory(20);
        let pipe = Pipe::new(memory);
        let mut next_in = 0_u32;
        let mut next_out = 0_u32;
        for round in 0..200 {
            let bytes: alloc::vec::Vec<u8> = (0..1000).map(|step| (next_in + step) as u8).collect();
            if let Some(written) = pipe.write(&bytes).unwrap() {
                next_in += written as u32;
            }
            let mut buffer = vec![0; if round % 3 == 0 { 1500 } else { 700 }];
            if let Some(read) = pipe.read(&mut buffer) {
                for byte in &buffer[..read] {
                    assert_eq!(*byte, next_out as u8);
                    next_out += 1;
                }
            }
        }
        assert!(next_out > 100_000);
        drop(pipe);
        assert_eq!(memory.statistics().1, 20);
    }

    #[test]
    fn small_writes_are_whole_or_wait() {
        let pipe = Pipe::new(memory(20));
        assert_eq!(pipe.write(&vec![1; CAPACITY - 10]).unwrap(), Some(CAPACITY - 10));
        assert_eq!(pipe.write(&[2; 11]).unwrap(), None);
        assert_eq!(pipe.write(&[2; 5000]).unwrap(), Some(10));
        assert_eq!(pipe.write(&[2; 1]).unwrap(), None);
    }

    #[test]
    fn closed_ends_are_seen() {
        let pipe = Pipe::new(memory(2));
        assert_eq!(pipe.read(&mut [0; 4]), None);
        pipe.write(b"last").unwrap();
        pipe.close(false);
        assert_eq!(pipe.read(&mut [0; 9]), Some(4));
        assert_eq!(pipe.read(&mut [0; 9]), Some(0));
        pipe.close(true);
        assert_eq!(pipe.write(b"x"), Err(Errno::EPIPE));
    }
}
