//! Which guests a CPU's caches know, and under which of their page tables.
//!
//! A guest has one tag (VPID). What it has under the tag may come from several page tables, told apart by a second number (the
//! guest's process-context identifier) where the CPU has such; else only from one at a time. An entry with a tag drops nothing
//! by itself (Intel SDM volume 3C, 29.4.3.2), so a table that is new under its number needs a number under which there is nothing.

/// Guests that a CPU remembers. Few in tests, where tags are to change hands often.
pub(crate) const GUESTS: usize = if cfg!(test) { 2 } else { 8 };
/// Page tables of one guest that a CPU remembers. Few in tests too.
const TABLES: usize = if cfg!(test) { 2 } else { 8 };

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Id of the guest's space, 0 for none.
    space: u64,
    /// There is nothing left that an invalidation up to this one has taken away.
    clean: u64,
    /// Roots of the page tables, by identifier - 1; 0 where nothing is.
    roots: [u64; TABLES],
}

const EMPTY: Slot = Slot {
    space: 0,
    clean: 0,
    roots: [0; TABLES],
};

/// The result of [`GuestTags::assign`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuestAssignment {
    /// The guest's tag, from 1.
    pub tag: u16,
    /// The page table's identifier: from 1, or 0 without identifiers.
    pub identifier: u16,
    /// Everything under the tag must be dropped before it is used.
    pub flush: bool,
}

/// The guests' tags on one CPU. Only that CPU uses it.
#[derive(Debug)]
pub(crate) struct GuestTags {
    slots: [Slot; GUESTS],
    next: usize,
}

impl GuestTags {
    pub const fn new() -> Self {
        GuestTags {
            slots: [EMPTY; GUESTS],
            next: 0,
        }
    }

    /// Tag and identifier for the guest `space`, whose generation is `generation`, under the page table at `root`, which is not 0.
    #[inline]
    pub fn assign(&mut self, space: u64, generation: u64, root: u64, identifiers: bool) -> GuestAssignment {
        let index = self.find(space).unwrap_or_else(|| {
            let index = self.next;
            self.next = (index + 1) % GUESTS;
            self.slots[index] = Slot { space, ..EMPTY };
            index
        });
        let slot = &mut self.slots[index];
        let usable = if identifiers { TABLES } else { 1 };
        let roots = &mut slot.roots[..usable];
        let known = roots.iter().position(|&known| known == root);
        let place = known.or_else(|| roots.iter().position(|&known| known == 0));
        let flush = slot.clean != generation || place.is_none();
        if flush {
            roots.fill(0);
            slot.clean = generation;
        }
        let place = if flush { 0 } else { place.unwrap_or(0) };
        roots[place] = root;
        GuestAssignment {
            tag: index as u16 + 1,
            identifier: if identifiers { place as u16 + 1 } else { 0 },
            flush,
        }
    }

    /// What the CPU knows of `space`: its tag, and the generation up to which that is clean.
    pub fn known(&self, space: u64) -> Option<(u16, u64)> {
        self.find(space)
            .map(|index| (index as u16 + 1, self.slots[index].clean))
    }

    /// Notes that under the tag of `space`, if it has one, nothing is left that invalidations up to `generation` took away.
    pub fn cleaned(&mut self, space: u64, generation: u64) {
        if let Some(index) = self.find(space) {
            self.slots[index].clean = generation;
        }
    }

    fn find(&self, space: u64) -> Option<usize> {
        self.slots.iter().position(|slot| slot.space == space)
    }
}
