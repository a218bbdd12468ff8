//! What the guest threads of one process share: the crate `guest-mode` with this kernel's lock and invalidation.

use crate::pmap;
use crate::sync::{Rank, SpinLock, SpinLockGuard};
use alloc::sync::Arc;
use core::sync::atomic::AtomicU64;
use guest_mode::{Lock, Members};
use invalidation::Space;
use page_table::FlushSet;

/// The lock of a process's guest.
#[derive(Debug)]
pub struct GuestLock(SpinLock<Members>);

impl Lock for GuestLock {
    type Word = AtomicU64;
    type Held<'lock> = SpinLockGuard<'lock, Members>;

    #[inline]
    fn lock(&self) -> SpinLockGuard<'_, Members> {
        self.0.lock()
    }

    #[inline]
    fn invalidate(held: &SpinLockGuard<'_, Members>, linear: &Space<AtomicU64>, set: &FlushSet) {
        pmap::invalidate_guest(held.irqs(), linear, set);
    }
}

/// The guest of a process.
pub type GuestProcess = guest_mode::GuestProcess<GuestLock>;

/// A thread's place in it.
pub type Membership = guest_mode::Membership<GuestLock>;

/// A guest without members.
pub fn new_guest_process() -> Arc<GuestProcess> {
    let members = GuestLock(SpinLock::new(Rank::Guest, Members::new()));
    Arc::new(GuestProcess::new(members, pmap::new_space_id()))
}
