//! Copies between the vkernel and its programs. An address from a program is looked up in the program's own areas and
//! table, page by page, with the same rights and the same lazy filling as an access by the program itself.

use crate::linux::Errno;
use crate::memory::area::Source;
use crate::memory::fault::{Access, Fault};
use crate::memory::ram::FRAME_SIZE;
use crate::memory::space::AddressSpace;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU32;
use dragonet_abi::layout::PAGE_SIZE;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What names a word that threads wait on: the same for every mapping of a shared page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WordKey {
    /// An address in one space.
    Private {
        /// Of the space.
        space: u64,
        /// Of the word.
        address: u64,
    },
    /// A byte of an object.
    Shared {
        /// Of the object.
        object: u64,
        /// Byte in it.
        offset: u64,
    },
}

impl AddressSpace {
    /// Copies bytes out of the program's memory. Returns how many came before the first bad page, if at least one.
    ///
    /// # Errors
    /// `EFAULT` if the first byte is bad; `ENOMEM`.
    pub fn read_some(&self, address: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.chunks(
            address,
            buffer.len(),
            Access::Read,
            |ram_frame, within, done, length| {
                self.memory
                    .ram()
                    .read(ram_frame, within, &mut buffer[done..done + length]);
            },
        )
    }

    /// As [`Self::read_some`], of memory that the program may execute.
    ///
    /// # Errors
    /// `EFAULT` if the first byte is bad; `ENOMEM`.
    pub fn fetch(&self, address: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let ram = self.memory.ram();
        self.chunks(
            address,
            buffer.len(),
            Access::Execute,
            |frame, within, done, length| ram.read(frame, within, &mut buffer[done..done + length]),
        )
    }

    /// Copies bytes into the program's memory. Returns how many went before the first bad page, if at least one.
    ///
    /// # Errors
    /// `EFAULT` if the first byte is bad; `ENOMEM`.
    pub fn write_some(&self, address: u64, bytes: &[u8]) -> Result<usize, Errno> {
        self.chunks(
            address,
            bytes.len(),
            Access::Write,
            |frame, within, done, length| {
                self.memory
                    .ram()
                    .write(frame, within, &bytes[done..done + length]);
            },
        )
    }

    /// How many of `length` bytes can be accessed before the first bad page, at least one unless `length` is 0.
    ///
    /// # Errors
    /// `EFAULT` if the first byte is bad; `ENOMEM`.
    pub fn accessible(&self, address: u64, length: usize, access: Access) -> Result<usize, Errno> {
        self.chunks(address, length, access, |_, _, _, _| ())
    }

    /// Copies exactly `buffer.len()` bytes out.
    ///
    /// # Errors
    /// `EFAULT`, `ENOMEM`.
    pub fn read_bytes(&self, address: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        if self.read_some(address, buffer)? == buffer.len() {
            Ok(())
        } else {
            Err(Errno::EFAULT)
        }
    }

    /// Copies exactly `bytes.len()` bytes in.
    ///
    /// # Errors
    /// `EFAULT`, `ENOMEM`; some bytes may have been written.
    pub fn write_bytes(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        if self.write_some(address, bytes)? == bytes.len() {
            Ok(())
        } else {
            Err(Errno::EFAULT)
        }
    }

    /// Reads a structure.
    ///
    /// # Errors
    /// `EFAULT`, `ENOMEM`.
    pub fn read<T: FromBytes + IntoBytes>(&self, address: u64) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        self.read_bytes(address, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes a structure.
    ///
    /// # Errors
    /// `EFAULT`, `ENOMEM`.
    pub fn write<T: IntoBytes + Immutable>(&self, address: u64, value: &T) -> Result<(), Errno> {
        self.write_bytes(address, value.as_bytes())
    }

    /// Reads a string that ends with a zero byte, which is not returned.
    ///
    /// # Errors
    /// `EFAULT`, `ENOMEM`; `too_long` if there is no zero within `limit` bytes.
    pub fn read_string(&self, address: u64, limit: usize, too_long: Errno) -> Result<Vec<u8>, Errno> {
        let mut string = Vec::new();
        let mut chunk = [0; 256];
        while string.len() < limit {
            let position = address.checked_add(string.len() as u64).ok_or(Errno::EFAULT)?;
            let to_page_end = (PAGE_SIZE - position % PAGE_SIZE) as usize;
            let length = chunk.len().min(to_page_end).min(limit - string.len());
            let chunk = &mut chunk[..length];
            self.read_bytes(position, chunk)?;
            if let Some(end) = chunk.iter().position(|&byte| byte == 0) {
                string.extend_from_slice(&chunk[..end]);
                return Ok(string);
            }
            string.extend_from_slice(chunk);
        }
        Err(too_long)
    }

    /// Calls `use_word` with the aligned 32-bit word at `address` and its name, while no page of the space can be replaced.
    /// So a value that is compared there is the value that a later store of any thread changes.
    ///
    /// # Errors
    /// `EINVAL` for an unaligned address, `EFAULT`, `ENOMEM`.
    pub fn with_word<R>(
        &self,
        address: u64,
        access: Access,
        use_word: impl FnOnce(&AtomicU32, WordKey) -> R,
    ) -> Result<R, Errno> {
        let mut inner = self.inner.lock();
        if !address.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let (frame, _) = self.resolve(&mut inner, address, access).map_err(Errno::from)?;
        let key = match inner.areas.find(address) {
            Some(area) if area.shared => match &area.source {
                Source::Object { object, offset, .. } => WordKey::Shared {
                    object: object.id(),
                    offset: offset + (address - area.start),
                },
                Source::Anonymous => self.private_key(address),
            },
            _ => self.private_key(address),
        };
        Ok(use_word(
            self.memory.ram().word(frame, (address % PAGE_SIZE) as usize),
            key,
        ))
    }

    fn private_key(&self, address: u64) -> WordKey {
        WordKey::Private {
            space: self.id,
            address,
        }
    }

    /// Calls `copy` with frame, offset in it, bytes done and length, for each piece that lies in one page.
    fn chunks(
        &self,
        address: u64,
        length: usize,
        access: Access,
        mut copy: impl FnMut(crate::memory::ram::Frame, usize, usize, usize),
    ) -> Result<usize, Errno> {
        let mut done = 0;
        let mut inner = self.inner.lock();
        while done < length {
            let Some(position) = address.checked_add(done as u64) else {
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
            };
            let within = (position % PAGE_SIZE) as usize;
            let chunk = (length - done).min(FRAME_SIZE - within);
            match self.resolve(&mut inner, position, access) {
                Ok((frame, _)) => copy(frame, within, done, chunk),
                Err(_) if done > 0 => return Ok(done),
                Err(fault) => return Err(fault.into()),
            }
            done += chunk;
        }
        Ok(done)
    }
}

impl From<Fault> for Errno {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NotMapped | Fault::Forbidden | Fault::BehindEnd => Errno::EFAULT,
            Fault::OutOfMemory => Errno::ENOMEM,
        }
    }
}
