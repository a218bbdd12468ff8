//! Entering and leaving a guest: the same protocol for translations that only exist while a guest runs.
//!
//! A nested page table and a guest's linear addresses are spaces too, active on a CPU from before an entry until after the
//! exit. An invalidation interrupts the CPUs that are in the guest, which is an exit; whoever enters afterwards finds
//! the raised generation and drops what he has. So no instruction is needed on the CPU that is told, and none at all
//! where the guest does not run.

use crate::{Cpu, Event, GuestMachine, Space};
use page_table::FlushSet;

/// What an entry needs.
#[derive(Debug)]
pub struct GuestEntry<'space, W> {
    /// The nested page table.
    pub nested: &'space Space<W>,
    /// The root pointer of the nested table, as INVEPT takes it.
    pub nested_root: u64,
    /// The linear addresses of this guest.
    pub linear: &'space Space<W>,
}

impl<M: GuestMachine> Cpu<'_, M> {
    /// Makes this CPU's caches fit for an entry and returns the guest's tag. Interrupts stay off until after the exit; who is
    /// told to leave the guest in between is told by an interrupt, which then is pending and ends the entry at once.
    ///
    /// Nothing is served in between either, so no lock is waited for from here to the entry: a request that is answered there is
    /// forgotten by the time of the entry, and its sender goes on while the guest runs on what was taken away.
    pub fn enter_guest(&mut self, entry: &GuestEntry<'_, M::Word>) -> u16 {
        let (machine, index) = (self.machine(), self.index());
        entry.nested.activate(index);
        entry.linear.activate(index);
        machine.barrier();
        let nested = self
            .local()
            .nested
            .assign(entry.nested.id(), entry.nested.generation());
        if !nested.keep {
            machine.note(Event::NestedFlushed);
            machine.flush_nested(entry.nested_root);
        }
        let linear = self
            .local()
            .guests
            .assign(entry.linear.id(), entry.linear.generation());
        if !linear.keep {
            machine.note(Event::GuestFlushed);
            machine.flush_guest(linear.tag);
        }
        linear.tag
    }

    /// After the exit, before interrupts are on again.
    pub fn leave_guest(&mut self, entry: &GuestEntry<'_, M::Word>) {
        entry.linear.deactivate(self.index());
        entry.nested.deactivate(self.index());
        self.serve();
    }

    /// [`Cpu::invalidate`] for a guest's linear addresses, called by a thread that has just left that guest on this CPU: here the pages
    /// are dropped by address, so that the next entry keeps the rest.
    pub fn invalidate_guest(&mut self, linear: &Space<M::Word>, set: &FlushSet) {
        let clean = linear.generation();
        self.invalidate(linear, set);
        let Some(pages) = set.pages() else { return };
        let known = self.local().guests.known(linear.id());
        if let Some((tag, _)) = known.filter(|&(_, generation)| generation == clean) {
            let machine = self.machine();
            machine.note(Event::GuestFlushed);
            for &page in pages {
                machine.flush_guest_page(tag, page);
            }
            self.local().guests.cleaned(linear.id(), clean + 1);
        }
    }
}
