//! The rule of the lock order, without locks: which ranks a CPU holds, and which it may take in addition.
//!
//! A rank is a number below [`RANKS`], its position in the declared order. A CPU that waits for a lock may hold only locks of lower
//! ranks, so no two CPUs can each hold what the other waits for. The kernel's `sync` keeps a [`Held`] per CPU in debug
//! builds and stops the machine at a [`Violation`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

/// Ranks that can be told apart.
pub const RANKS: u32 = u32::BITS;

/// The ranks that one CPU holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held(u32);

/// A lock was to be taken against the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What the CPU holds.
    pub held: Held,
    /// The rank that it wanted: not above all of these.
    pub wanted: u32,
}

impl Held {
    /// No lock is held.
    pub const NONE: Held = Held(0);

    /// What [`Self::bits`] gave.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Held(bits)
    }

    /// One bit for every rank that is held.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// True if no lock is held, as it must be where a CPU copies to or from a program, or switches threads.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The ranks, ascending.
    pub fn ranks(self) -> impl Iterator<Item = u32> {
        (0..RANKS).filter(move |rank| self.0 >> rank & 1 != 0)
    }

    /// What is held once a lock of `rank` has been waited for and taken.
    ///
    /// # Errors
    /// [`Violation`] if a lock of this rank or a higher one is held: two locks of one rank have no order.
    pub const fn wait_for(self, rank: u32) -> Result<Self, Violation> {
        if self.0 >> rank == 0 {
            Ok(self.without_waiting(rank))
        } else {
            Err(Violation {
                held: self,
                wanted: rank,
            })
        }
    }

    /// What is held once a lock of `rank` has been taken because it happened to be free. Who does not wait cannot deadlock.
    #[must_use]
    pub const fn without_waiting(self, rank: u32) -> Self {
        Held(self.0 | 1 << rank)
    }

    /// What is held once a lock of `rank` has been let go.
    #[must_use]
    pub const fn release(self, rank: u32) -> Self {
        Held(self.0 & !(1 << rank))
    }
}
