//! Which spaces a CPU's caches still know, and up to which generation they are clean.

/// Tags of one kind that a CPU uses. More would help only if the caches could hold more address spaces than this. Few in tests,
/// where they are to change hands often.
pub const TAGS: usize = if cfg!(test) { 2 } else { 8 };

/// What a CPU knows about the translations under one tag.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Id of the space, 0 for none.
    space: u64,
    /// Under the tag there is nothing that an invalidation up to this one has taken away.
    clean: u64,
}

/// The result of [`Tags::assign`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// The tag, 1 to [`TAGS`].
    pub tag: u16,
    /// What the caches have under the tag may be used.
    pub keep: bool,
    /// Another space had the tag.
    pub evicted: bool,
}

/// The tags of one kind on one CPU. Only that CPU uses it.
#[derive(Debug)]
pub(crate) struct Tags {
    slots: [Slot; TAGS],
    /// The tag that is given away next.
    next: usize,
}

impl Tags {
    pub const fn new() -> Self {
        Tags {
            slots: [Slot { space: 0, clean: 0 }; TAGS],
            next: 0,
        }
    }

    /// The tag of `space`, whose generation is `generation`: the one it has, or one that another space has to give. Unless `keep`
    /// comes back, the caller drops what is under the tag before it uses it.
    pub fn assign(&mut self, space: u64, generation: u64) -> Assignment {
        if let Some(index) = self.find(space) {
            let slot = &mut self.slots[index];
            let keep = slot.clean == generation;
            slot.clean = generation;
            return Assignment {
                tag: tag_of(index),
                keep,
                evicted: false,
            };
        }
        let index = self.next;
        self.next = (index + 1) % TAGS;
        let evicted = self.slots[index].space != 0;
        self.slots[index] = Slot {
            space,
            clean: generation,
        };
        Assignment {
            tag: tag_of(index),
            keep: false,
            evicted,
        }
    }

    /// What the CPU knows of `space`: its tag, and the generation up to which that is clean.
    pub fn known(&self, space: u64) -> Option<(u16, u64)> {
        self.find(space)
            .map(|index| (tag_of(index), self.slots[index].clean))
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

fn tag_of(index: usize) -> u16 {
    index as u16 + 1
}
