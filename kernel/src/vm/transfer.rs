//! Reading and writing any vmspace, running or not: through its own faults, so that private copies, virtual page tables and
//! dirty bits are treated as if the program itself had made the access.

use super::fault::Access;
use super::vmspace::Vmspace;
use crate::debug::counters;
use crate::pmap::View;
use dragonet_abi::Errno;
use dragonet_abi::layout::{PAGE_SIZE, USER_END, USER_START};

impl Vmspace {
    /// Reads from `address` on and returns how much, short at the first page that cannot be read.
    ///
    /// # Errors
    /// EFAULT if the first page cannot be read; ENOMEM.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let mut done = 0;
        while done < buffer.len() {
            let rest = &mut buffer[done..];
            match self.transfer(address, done, Access::READ, |at| self.pmap().read_bytes(at, rest)) {
                Ok(count) => done += count,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Writes from `address` on and returns how much, short at the first page that cannot be written.
    ///
    /// # Errors
    /// EFAULT if the first page cannot be written; ENOMEM.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<usize, Errno> {
        let mut done = 0;
        while done < bytes.len() {
            let rest = &bytes[done..];
            match self.transfer(address, done, Access::WRITE, |at| {
                self.pmap().write_bytes(at, rest)
            }) {
                Ok(count) => done += count,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Exchanges the word at `address`, aligned to its size, with `new` and returns what was there. The exchange itself is made inside of
    /// `during`, in which nothing faults.
    ///
    /// # Errors
    /// EINVAL if it is misaligned; EFAULT if it cannot be written; ENOMEM.
    pub fn exchange_word(
        &self,
        address: u64,
        new: u64,
        during: impl Fn(&mut dyn FnMut() -> Option<u64>) -> Option<u64>,
    ) -> Result<u64, Errno> {
        if !address.is_multiple_of(size_of::<u64>() as u64) {
            return Err(Errno::EINVAL);
        }
        for _ in 0..ATTEMPTS {
            if let Some(old) = during(&mut || self.pmap().exchange_word(address, new)) {
                return Ok(old);
            }
            self.handle_fault(address, Access::WRITE)?;
        }
        counters::count(Access::WRITE.counter());
        let page = address & !(PAGE_SIZE - 1);
        let exchange = || during(&mut || self.pmap().exchange_word(address, new));
        self.resolve_alone(page, Access::WRITE, View::Regular, exchange)?
            .ok_or(Errno::EFAULT)
    }

    /// One page's part of a transfer. The page may go away between the fault and the copy, so both are repeated.
    fn transfer(
        &self,
        start: u64,
        done: usize,
        access: Access,
        mut copy: impl FnMut(u64) -> Option<usize>,
    ) -> Result<usize, Errno> {
        let address = start
            .checked_add(done as u64)
            .filter(|at| (USER_START..USER_END).contains(at));
        let address = address.ok_or(Errno::EFAULT)?;
        for _ in 0..ATTEMPTS {
            if let Some(count) = copy(address) {
                return Ok(count);
            }
            self.handle_fault(address, access)?;
        }
        counters::count(access.counter());
        // Device memory is mapped but never copied.
        self.resolve_alone(address & !(PAGE_SIZE - 1), access, View::Regular, || {
            copy(address)
        })?
        .ok_or(Errno::EFAULT)
    }
}

/// Faults that a copy of one page makes before it keeps others from invalidating anything.
const ATTEMPTS: u32 = 16;
