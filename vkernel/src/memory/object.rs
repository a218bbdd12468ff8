//! Memory objects: pages by index, behind shared mappings and files.
//!
//! A file of the root archive starts as bytes of the image; a page of it gets a frame when it is first mapped or written, and
//! that frame then serves every mapping (the page cache). Private mappings share the frame until they write.

use crate::linux::Errno;
use crate::memory::frames::{Page, PhysicalMemory};
use crate::memory::ram::FRAME_SIZE;
use crate::sync::Lock;
use alloc::collections::BTreeMap;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::layout::PAGE_SIZE;

/// Bytes of one object at most.
pub const MAX_SIZE: u64 = 1 << 40;

/// Pages by index, over bytes of the root image where a page has not been touched.
pub struct MemoryObject {
    id: u64,
    memory: &'static PhysicalMemory,
    state: Lock<State>,
}

struct State {
    size: u64,
    pages: BTreeMap<u64, Page>,
    image: &'static [u8],
    /// The pages, where there are some, still say what the image says.
    pristine: bool,
}

impl MemoryObject {
    /// `size` zero bytes.
    pub fn new(memory: &'static PhysicalMemory, size: u64) -> Self {
        Self::with_image(memory, &[], size)
    }

    /// The bytes of `image`.
    pub fn from_image(memory: &'static PhysicalMemory, image: &'static [u8]) -> Self {
        Self::with_image(memory, image, image.len() as u64)
    }

    fn with_image(memory: &'static PhysicalMemory, image: &'static [u8], size: u64) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let pristine = size == image.len() as u64;
        let state = State {
            size,
            pages: BTreeMap::new(),
            image,
            pristine,
        };
        MemoryObject {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            memory,
            state: Lock::new(state),
        }
    }

    /// Unique for the life of the vkernel.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.state.lock().size
    }

    /// Makes the object longer with zeroes, or shorter.
    ///
    /// # Errors
    /// `EFBIG` above [`MAX_SIZE`].
    pub fn resize(&self, size: u64) -> Result<(), Errno> {
        if size > MAX_SIZE {
            return Err(Errno::EFBIG);
        }
        let mut state = self.state.lock();
        state.pristine = false;
        if size < state.size {
            let first_gone = size.div_ceil(PAGE_SIZE);
            drop(state.pages.split_off(&first_gone));
            state.image = &state.image[..state.image.len().min(usize::try_from(size).unwrap_or(usize::MAX))];
            let tail = (size % PAGE_SIZE) as usize;
            if tail != 0
                && let Some(page) = state.pages.get(&(size / PAGE_SIZE))
            {
                self.memory.ram().zero(page.frame(), tail, FRAME_SIZE - tail);
            }
        }
        state.size = size;
        Ok(())
    }

    /// Copies bytes from `offset` until the object or the buffer ends. Returns how many.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let state = self.state.lock();
        let available = usize::try_from(state.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = buffer.len().min(available);
        let mut done = 0;
        while done < length {
            let position = offset + done as u64;
            let within = (position % PAGE_SIZE) as usize;
            let chunk = (length - done).min(FRAME_SIZE - within);
            let target = &mut buffer[done..done + chunk];
            match state.pages.get(&(position / PAGE_SIZE)) {
                Some(page) => self.memory.ram().read(page.frame(), within, target),
                None => {
                    let bytes = image_bytes(state.image, position, chunk);
                    let (head, tail) = target.split_at_mut(bytes.len());
                    head.copy_from_slice(bytes);
                    tail.fill(0);
                }
            }
            done += chunk;
        }
        length
    }

    /// Copies `bytes` to `offset`, making the object longer as needed. Returns how many were written, which is fewer if frames ran
    /// out on the way.
    ///
    /// # Errors
    /// `EFBIG`; `ENOSPC` if not one byte could be written.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<usize, Errno> {
        self.write_locked(&mut self.state.lock(), offset, bytes)
    }

    /// As [`Self::write`], at the end of the object whatever that is by now. Returns how many bytes were written and the
    /// new end.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn append(&self, bytes: &[u8]) -> Result<(usize, u64), Errno> {
        let mut state = self.state.lock();
        let end = state.size;
        let written = self.write_locked(&mut state, end, bytes)?;
        Ok((written, end + written as u64))
    }

    fn write_locked(&self, state: &mut State, offset: u64, bytes: &[u8]) -> Result<usize, Errno> {
        let end = offset.checked_add(bytes.len() as u64).ok_or(Errno::EFBIG)?;
        if end > MAX_SIZE {
            return Err(Errno::EFBIG);
        }
        state.pristine = false;
        let mut done = 0;
        while done < bytes.len() {
            let position = offset + done as u64;
            let within = (position % PAGE_SIZE) as usize;
            let chunk = (bytes.len() - done).min(FRAME_SIZE - within);
            match self.page_in(state, position / PAGE_SIZE) {
                Ok(page) => self
                    .memory
                    .ram()
                    .write(page.frame(), within, &bytes[done..done + chunk]),
                Err(_) if done > 0 => break,
                Err(_) => return Err(Errno::ENOSPC),
            }
            done += chunk;
            state.size = state.size.max(offset + done as u64);
        }
        Ok(done)
    }

    /// The bytes of the image that the object was made from, unless someone has changed the object since, or could through a
    /// shared mapping.
    pub fn image(&self) -> Option<&'static [u8]> {
        let state = self.state.lock();
        state.pristine.then_some(state.image)
    }

    /// Frees pages that nobody maps and that the image can give again. Returns how many.
    pub fn drop_clean_pages(&self) -> usize {
        let mut state = self.state.lock();
        if !state.pristine {
            return 0;
        }
        let before = state.pages.len();
        state.pages.retain(|_, page| self.memory.owners(page.frame()) > 1);
        before - state.pages.len()
    }

    /// Says that programs may write to the object's pages from now on.
    pub fn expose_to_writers(&self) {
        self.state.lock().pristine = false;
    }

    /// The page with this index, for a mapping. `None` at or beyond the end.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn page(&self, index: u64) -> Result<Option<Page>, Errno> {
        let mut state = self.state.lock();
        if index >= state.size.div_ceil(PAGE_SIZE) {
            return Ok(None);
        }
        self.page_in(&mut state, index).map(Some)
    }

    /// A page of its own for a private mapping: the contents of page `index`, with zeroes from byte `limit` of the object on.
    /// `None` at or beyond the end of the object.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn private_page(&self, index: u64, limit: u64) -> Result<Option<Page>, Errno> {
        let state = self.state.lock();
        if index >= state.size.div_ceil(PAGE_SIZE) {
            return Ok(None);
        }
        let page = match state.pages.get(&index) {
            Some(cached) => {
                let page = self.memory.allocate_for_overwrite()?;
                self.memory.ram().copy(cached.frame(), page.frame());
                page
            }
            None => {
                let page = self.memory.allocate_zeroed()?;
                let bytes = image_bytes(state.image, index * PAGE_SIZE, FRAME_SIZE);
                self.memory.ram().write(page.frame(), 0, bytes);
                page
            }
        };
        let valid = limit.saturating_sub(index * PAGE_SIZE).min(PAGE_SIZE) as usize;
        self.memory.ram().zero(page.frame(), valid, FRAME_SIZE - valid);
        Ok(Some(page))
    }

    fn page_in(&self, state: &mut State, index: u64) -> Result<Page, Errno> {
        if let Some(page) = state.pages.get(&index) {
            return Ok(page.clone());
        }
        let page = self.memory.allocate_zeroed()?;
        let bytes = image_bytes(state.image, index * PAGE_SIZE, FRAME_SIZE);
        self.memory.ram().write(page.frame(), 0, bytes);
        state.pages.insert(index, page.clone());
        Ok(page)
    }
}

/// The bytes of `image` from `offset`, `length` of them or as many as there are.
fn image_bytes(image: &'static [u8], offset: u64, length: usize) -> &'static [u8] {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(image.len());
    let end = start.saturating_add(length).min(image.len());
    &image[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::frames::tests::memory;
    use alloc::vec;

    static IMAGE: [u8; 5000] = [b'i'; 5000];

    #[test]
    fn an_image_is_read_in_place_and_copied_when_written() {
        let memory = memory(8);
        let object = MemoryObject::from_image(memory, &IMAGE);
        let mut buffer = vec![0; 6000];
        assert_eq!(object.read(0, &mut buffer), 5000);
        assert!(buffer[..5000].iter().all(|&byte| byte == b'i'));
        assert_eq!(memory.statistics().1, 8, "reading takes no frame");
        assert_eq!(object.write(4095, b"xy").unwrap(), 2);
        assert_eq!(memory.statistics().1, 6);
        assert_eq!(object.read(4094, &mut buffer[..4]), 4);
        assert_eq!(&buffer[..4], b"ixyi");
        drop(object);
        assert_eq!(memory.statistics().1, 8);
    }

    #[test]
    fn shortening_forgets_the_bytes_behind() {
        let object = MemoryObject::from_image(memory(8), &IMAGE);
        object.write(4998, b"tail").unwrap();
        assert_eq!(object.size(), 5002);
        object.resize(4999).unwrap();
        object.resize(5002).unwrap();
        let mut buffer = [1; 4];
        assert_eq!(object.read(4998, &mut buffer), 4);
        assert_eq!(&buffer, b"t\0\0\0");
        object.resize(10).unwrap();
        object.resize(20).unwrap();
        let mut buffer = [1; 20];
        object.read(0, &mut buffer);
        assert_eq!(&buffer, b"iiiiiiiiii\0\0\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn pages_end_with_the_object() {
        let object = MemoryObject::new(memory(8), 4097);
        assert!(object.page(1).unwrap().is_some());
        assert!(object.page(2).unwrap().is_none());
        assert_eq!(object.write(MAX_SIZE, b"x"), Err(Errno::EFBIG));
        assert_eq!(object.write(u64::MAX, b"x"), Err(Errno::EFBIG));
    }

    #[test]
    fn running_out_of_frames_is_a_short_write_then_an_error() {
        let object = MemoryObject::new(memory(2), 0);
        assert_eq!(object.write(0, &[7; 3 * FRAME_SIZE]).unwrap(), 2 * FRAME_SIZE);
        assert_eq!(object.size(), 2 * PAGE_SIZE);
        assert_eq!(object.write(2 * PAGE_SIZE, b"x"), Err(Errno::ENOSPC));
    }
}
