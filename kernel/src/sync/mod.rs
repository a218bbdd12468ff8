//! Locks of the kernel: a spin lock that keeps interrupts off while it is held, with a declared order.
//!
//! Every lock has a [`Rank`]. A CPU may take a lock only if its rank is above all ranks that it holds; debug builds
//! check this on every acquisition and panic with both names. Two locks of one rank are never held together. A lock is never held
//! across a copy to or from user memory, nor across a switch to another thread. The rule itself is in the crate `lock-order`.
//!
//! Everything above `arch` may use this module; it is the only place where the `spin` crate's mutex is used.
#![forbid(unsafe_code)]

mod rank;
pub mod record;
mod spin_lock;
pub mod tests;

pub use rank::{Rank, allow_locks, assert_locks_allowed, assert_none_held, forbid_locks};
pub use spin_lock::{SpinLock, SpinLockGuard};
