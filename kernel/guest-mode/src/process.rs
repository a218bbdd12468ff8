//! What the guest threads of one process share.

use crate::{Gate, Members, Role};
use alloc::sync::Arc;
use core::ops::DerefMut;
use dragonet_abi::Errno;
use invalidation::{Space, Word};
use page_table::FlushSet;

/// The lock of a process's guest.
pub trait Lock {
    /// Words that CPUs share.
    type Word: Word;
    /// Proof that it is held. Interrupts are off meanwhile.
    type Held<'lock>: DerefMut<Target = Members>
    where
        Self: 'lock;

    /// Takes it. Who waits for it serves what other CPUs ask, since its holder may wait for just that.
    fn lock(&self) -> Self::Held<'_>;

    /// `invalidation::Cpu::invalidate_guest`: raises the generation of `linear`, drives the CPUs that run the guest out of it, and drops the
    /// translations in `set` here. When it returns no CPU uses one of them.
    fn invalidate(held: &Self::Held<'_>, linear: &Space<Self::Word>, set: &FlushSet);
}

/// The guest of a process.
#[derive(Debug)]
pub struct GuestProcess<L: Lock> {
    members: L,
    linear: Space<L::Word>,
    gate: Gate<L::Word>,
}

/// A member's place in its process's guest; given back when dropped.
pub struct Membership<L: Lock> {
    guest: Arc<GuestProcess<L>>,
    number: u32,
}

impl<L: Lock> GuestProcess<L> {
    /// A guest with the lock `members`. `id` is that of no space so far, see [`Space::new`].
    pub fn new(members: L, id: u64) -> Self {
        GuestProcess {
            members,
            linear: Space::new(id),
            gate: Gate::new(),
        }
    }

    /// The guest's linear addresses, as CPUs know them.
    pub fn linear(&self) -> &Space<L::Word> {
        &self.linear
    }

    /// What an entry looks at, in [`crate::cross`].
    pub fn gate(&self) -> &Gate<L::Word> {
        &self.gate
    }

    /// Drops translations of linear addresses everywhere: here by address, and on the CPUs that are in the guest now, which leave it.
    /// Touches no page table. Called outside of the guest.
    pub fn invalidate(&self, set: &FlushSet) {
        let members = self.members.lock();
        L::invalidate(&members, &self.linear, set);
    }

    /// Runs `change` while no CPU is in the guest, and drops all translations of linear addresses before. `change` neither waits for
    /// the guest nor faults. Called outside of the guest.
    pub fn alone<R>(&self, change: impl FnOnce() -> R) -> R {
        let members = self.members.lock();
        self.gate.close();
        // Whoever is in the active set after this has looked at the closed gate.
        L::invalidate(&members, &self.linear, &FlushSet::everything());
        let result = change();
        self.gate.open();
        result
    }

    /// Takes a place. What CPUs remember of the guest's page tables is forgotten: while nobody was in the guest, the program could change them
    /// and tell nobody, and an entry drops nothing by itself (SDM 3C 29.4.3.2).
    ///
    /// # Errors
    /// Those of [`Members::join`].
    pub fn join(self: &Arc<Self>, role: Role) -> Result<Membership<L>, Errno> {
        let mut members = self.members.lock();
        let number = members.join(role)?;
        L::invalidate(&members, &self.linear, &FlushSet::everything());
        drop(members);
        Ok(Membership {
            guest: self.clone(),
            number,
        })
    }
}

impl<L: Lock> Membership<L> {
    /// Its number among the members, from 0.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The guest.
    pub fn guest(&self) -> &GuestProcess<L> {
        &self.guest
    }
}

impl<L: Lock> Drop for Membership<L> {
    fn drop(&mut self) {
        self.guest.members.lock().leave(self.number);
    }
}
