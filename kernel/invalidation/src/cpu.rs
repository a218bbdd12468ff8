//! The protocol, from the view of the CPU that runs it.

use crate::mailbox::{Order, OrderSet};
use crate::{Event, Local, Machine, Mailbox, Space};
use page_table::FlushSet;

/// A CPU with interrupts off: the only place from which the protocol is driven.
#[derive(Debug)]
pub struct Cpu<'cpu, M: Machine> {
    machine: &'cpu M,
    mailboxes: &'cpu [Mailbox<M::Word>],
    index: usize,
    local: &'cpu mut Local,
}

/// A space with the physical address of its root, to be loaded.
#[derive(Debug)]
pub struct Loaded<'space, W> {
    /// The space.
    pub space: &'space Space<W>,
    /// Physical address of its root table.
    pub root: u64,
}

impl<'cpu, M: Machine> Cpu<'cpu, M> {
    /// CPU number `index`, whose state is `local`. There is a mailbox for every CPU.
    pub fn new(
        machine: &'cpu M,
        mailboxes: &'cpu [Mailbox<M::Word>],
        index: usize,
        local: &'cpu mut Local,
    ) -> Self {
        Cpu {
            machine,
            mailboxes,
            index,
            local,
        }
    }

    pub(crate) fn machine(&self) -> &'cpu M {
        self.machine
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn local(&mut self) -> &mut Local {
        self.local
    }

    /// Leaves `before` (`None`: the kernel's own table), which is what runs here, for `next`, or for the kernel's own table at
    /// `kernel_root`. They are not the same: then there is nothing to do, and this would take the bit out of the active set.
    ///
    /// The bit in the new active set comes before the look at the generation and before any walk under the new root; the bit in the
    /// old one goes after the load, when no walk under the old root can begin. What stays in the caches under the old tag cannot be
    /// used before the tag is loaded again, and then the generation is looked at.
    pub fn switch(
        &mut self,
        before: Option<&Space<M::Word>>,
        next: Option<&Loaded<'_, M::Word>>,
        kernel_root: u64,
    ) {
        debug_assert_eq!(before.map_or(0, Space::id), self.local.current.space);
        debug_assert_ne!(
            before.map(Space::id),
            next.map(|loaded| loaded.space.id()),
            "what runs already needs no switch"
        );
        match next {
            Some(Loaded { space, root }) => {
                space.activate(self.index);
                self.machine.barrier();
                let assignment = self.local.tags.assign(space.id(), space.generation());
                if assignment.evicted {
                    self.machine.note(Event::TagEvicted);
                }
                self.machine.note(if assignment.keep {
                    Event::RootKept
                } else {
                    Event::RootFlushed
                });
                self.local.current.space = space.id();
                self.local.current.root = *root;
                self.local.current.tag = assignment.tag;
                self.machine.load_root(*root, assignment.tag, assignment.keep);
            }
            None => {
                self.machine.note(Event::RootKept);
                self.local.current.space = 0;
                self.local.current.root = kernel_root;
                self.local.current.tag = 0;
                // Only global translations are ever made under this root and tag.
                self.machine.load_root(kernel_root, 0, true);
            }
        }
        if let Some(before) = before {
            before.deactivate(self.index);
        }
        // A request for the old space may have come in between; it needs its answer.
        self.serve();
    }

    /// Drops, on every CPU that may use them, the translations in `set`, which the caller has taken out of the table of `space`. When
    /// it returns no CPU completes an access through one of them, and detached tables are walked by none.
    ///
    /// The caller holds the lock of the table: one invalidation of a space at a time, and nothing is entered meanwhile.
    pub fn invalidate(&mut self, space: &Space<M::Word>, set: &FlushSet) {
        let generation = space.raise_generation();
        self.machine.barrier();
        let active = space.active();
        let here = 1u64 << self.index;
        let others = active & !here;
        if others == 0 {
            self.machine.note(Event::ShootdownAvoided);
        } else {
            self.machine
                .note(Event::Shootdown(u64::from(others.count_ones())));
            let order = Order {
                space: space.id(),
                generation,
                set: OrderSet::of(set),
                early: set.may_be_delayed(),
            };
            self.post(&order, others);
        }
        self.forget(space.id(), generation, set.pages());
        if others != 0 {
            self.await_answers();
        }
    }

    /// Has the CPU `target`, which may be this one, let go of the object at physical address `object`; returns when it has.
    pub fn ask_to_release(&mut self, target: usize, object: u64) {
        if target == self.index {
            self.machine.release(object);
            return;
        }
        let order = Order {
            space: object,
            generation: 0,
            set: OrderSet::Release,
            early: false,
        };
        self.post(&order, 1 << target);
        self.await_answers();
    }

    fn await_answers(&mut self) {
        while !self.mailboxes[self.index].is_answered() {
            self.serve();
            self.machine.relax();
        }
    }

    fn post(&self, order: &Order, targets: u64) {
        self.mailboxes[self.index].fill(order, targets);
        let mut rest = targets;
        while rest != 0 {
            let target = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            if self.mailboxes[target].put(self.index) {
                self.machine.interrupt(target);
            }
        }
    }

    /// Does and answers what other CPUs ask of this one. To be called on the interrupt, and wherever this CPU waits with
    /// interrupts off.
    #[inline]
    pub fn serve(&mut self) {
        if self.mailboxes[self.index].has_notes() {
            self.serve_all();
        }
    }

    /// Out of line: there is nothing to serve nearly always.
    #[cold]
    #[inline(never)]
    fn serve_all(&mut self) {
        let mut senders = self.mailboxes[self.index].take_notes();
        while senders != 0 {
            let mailbox = &self.mailboxes[senders.trailing_zeros() as usize];
            senders &= senders - 1;
            let order = mailbox.read();
            // Interrupts stay off until the flush is done, so this CPU makes no access of a program's in between; and what a walk
            // finds that it begins of its own accord does no harm, see `FlushSet`.
            if order.early {
                self.machine.note(Event::AnsweredEarly);
                mailbox.answer(self.index);
                self.carry_out(&order);
            } else {
                self.carry_out(&order);
                mailbox.answer(self.index);
            }
        }
    }

    fn carry_out(&mut self, order: &Order) {
        match &order.set {
            OrderSet::Release => self.machine.release(order.space),
            OrderSet::Everything => self.forget(order.space, order.generation, None),
            OrderSet::Pages(pages, count) => {
                self.forget(order.space, order.generation, Some(&pages[..*count]));
            }
        }
    }

    /// Drops what invalidation number `generation` of a space took away, these pages (`None`: everything), if the space is loaded
    /// here. If it is not, nothing can be used of it before its generation is looked at again; so it is for nested
    /// spaces and guests, since this code does not run in a guest.
    fn forget(&mut self, space: u64, generation: u64, pages: Option<&[u64]>) {
        let current = self.local.current;
        if current.space != space {
            return;
        }
        let Some((_, clean)) = self.local.tags.known(space) else {
            return;
        };
        if clean >= generation {
            // The root was loaded after the generation was raised.
            return;
        }
        match pages {
            Some(pages) if clean + 1 == generation => {
                self.machine.note(Event::PagesFlushed(pages.len() as u64));
                for &page in pages {
                    self.machine.flush_page(page);
                }
            }
            _ => {
                self.machine.note(Event::TagFlushed);
                self.machine.flush_tag(current.root, current.tag);
            }
        }
        self.local.tags.cleaned(space, generation);
    }
}
