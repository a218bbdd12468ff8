//! The places of one process's guest threads.

use dragonet_abi::{Errno, vmm};

/// Guest threads of one process.
pub const MAX_MEMBERS: usize = u64::BITS as usize;

const _: () = assert!(vmm::MAX_GUEST_THREADS == MAX_MEMBERS);

/// How a thread comes into guest mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is the first of its process.
    Master,
    /// It joins.
    Slave,
}

/// Which places are taken. The master's thread may leave before the others: as long as there is any member, others may join, and
/// no second master comes.
#[derive(Debug, Default)]
pub struct Members(u64);

impl Members {
    /// None are taken.
    #[must_use]
    pub const fn new() -> Self {
        Members(0)
    }

    /// Takes the lowest place that is free and returns its number.
    ///
    /// # Errors
    /// EBUSY for a master where there are members; ENOENT for a slave where there are none; EAGAIN at the limit.
    pub fn join(&mut self, role: Role) -> Result<u32, Errno> {
        match (role, self.0) {
            (Role::Master, 0) => {}
            (Role::Master, _) => return Err(Errno::EBUSY),
            (Role::Slave, 0) => return Err(Errno::ENOENT),
            (Role::Slave, u64::MAX) => return Err(Errno::EAGAIN),
            (Role::Slave, _) => {}
        }
        let number = self.0.trailing_ones();
        self.0 |= 1 << number;
        Ok(number)
    }

    /// Gives the place with this number back.
    pub fn leave(&mut self, number: u32) {
        debug_assert!(self.0 >> number & 1 != 0, "place {number} is not taken");
        self.0 &= !(1 << number);
    }

    /// True if no place is taken.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0 == 0
    }
}
