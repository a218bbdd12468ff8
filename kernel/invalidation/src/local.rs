//! What one CPU knows and no other reads.

use crate::guest_tags::GuestTags;
use crate::tags::Tags;

/// The state of one CPU that is its own. Whoever has it exclusively runs on that CPU with interrupts off.
#[derive(Debug)]
pub struct Local {
    /// Spaces under CR3.
    pub(crate) tags: Tags,
    /// The space whose root is loaded: id, root, tag. Id 0 for the kernel's own table.
    pub(crate) current: Current,
    /// Nested page tables. Their tag is their own root, so only the generations count.
    pub(crate) nested: Tags,
    /// Guests' linear addresses.
    pub(crate) guests: GuestTags,
}

/// The root that is loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Current {
    pub space: u64,
    pub root: u64,
    pub tag: u16,
}

impl Local {
    /// A CPU that runs the kernel's own table and whose caches are empty.
    #[must_use]
    pub const fn new() -> Self {
        Local {
            tags: Tags::new(),
            current: Current {
                space: 0,
                root: 0,
                tag: 0,
            },
            nested: Tags::new(),
            guests: GuestTags::new(),
        }
    }

    /// Id of the space whose root is loaded, 0 for the kernel's own table.
    #[must_use]
    pub fn current(&self) -> u64 {
        self.current.space
    }
}

impl Default for Local {
    fn default() -> Self {
        Self::new()
    }
}
