//! What the guest threads of one process share.

use crate::pmap::{self, NestedKind};
use crate::sync::{Rank, SpinLock};
use crate::vm::Vmspace;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use dragonet_abi::Errno;
use invalidation::Space;
use page_table::FlushSet;

/// How a thread comes into guest mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is the first of its process.
    Master,
    /// It joins.
    Slave,
}

/// The guest of a process: while it has members, its address space keeps a nested page table.
#[derive(Debug)]
pub struct GuestProcess {
    /// Places that are taken, a bit each.
    members: SpinLock<u64>,
    /// The guest's linear addresses, as CPUs know them.
    linear: Space<AtomicU64>,
    /// Closed: nobody enters.
    gate: AtomicBool,
}

/// A member's place in its process's guest; given back when dropped.
#[derive(Debug)]
pub struct Membership {
    guest: Arc<GuestProcess>,
    number: u32,
}

const _: () = assert!(dragonet_abi::vmm::MAX_GUEST_THREADS == u64::BITS as usize);

static NEXT_SPACE: AtomicU64 = AtomicU64::new(1);

impl GuestProcess {
    /// A guest without members.
    pub fn new() -> Arc<Self> {
        Arc::new(GuestProcess {
            members: SpinLock::new(Rank::Guest, 0),
            linear: Space::new(NEXT_SPACE.fetch_add(1, Ordering::Relaxed)),
            gate: AtomicBool::new(false),
        })
    }

    /// The guest's linear addresses.
    pub fn linear(&self) -> &Space<AtomicU64> {
        &self.linear
    }

    /// Closed while somebody changes a page table with every CPU out of the guest. Looked at after the CPU's bit in the active set is set.
    pub(super) fn gate(&self) -> &AtomicBool {
        &self.gate
    }

    /// Drops translations of linear addresses everywhere: here by address, and on the CPUs that are in the guest now, which leave it.
    /// Touches no page table.
    pub fn invalidate(&self, set: &FlushSet) {
        let members = self.members.lock();
        pmap::invalidate_guest(members.irqs(), &self.linear, set);
    }

    /// Runs `change` while no other CPU is in the guest, and drops all translations of linear addresses before. `change` neither waits nor
    /// faults.
    pub fn alone<R>(&self, change: impl FnOnce() -> R) -> R {
        let members = self.members.lock();
        self.gate.store(true, Ordering::SeqCst);
        // Whoever is in the active set after this has looked at the closed gate.
        pmap::invalidate_guest(members.irqs(), &self.linear, &FlushSet::everything());
        let result = change();
        self.gate.store(false, Ordering::Release);
        result
    }

    /// Takes a place.
    ///
    /// # Errors
    /// EBUSY for a second master; ENOENT for a slave without one; EAGAIN at the limit; ENOMEM.
    pub(super) fn join(
        self: &Arc<Self>,
        role: Role,
        vmspace: &Vmspace,
        kind: NestedKind,
    ) -> Result<Membership, Errno> {
        if role == Role::Master {
            vmspace.make_nested(kind)?;
        }
        let mut members = self.members.lock();
        match (role, *members) {
            (Role::Master, 0) => {}
            (Role::Master, _) => return Err(Errno::EBUSY),
            (Role::Slave, 0) => return Err(Errno::ENOENT),
            (Role::Slave, u64::MAX) => return Err(Errno::EAGAIN),
            (Role::Slave, _) => {}
        }
        let number = members.trailing_ones();
        *members |= 1 << number;
        Ok(Membership {
            guest: self.clone(),
            number,
        })
    }
}

impl Membership {
    /// Its number among the members.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The guest.
    pub fn guest(&self) -> &GuestProcess {
        &self.guest
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        *self.guest.members.lock() &= !(1 << self.number);
    }
}
