//! A page-table format as data: which bit means what, and what follows from that.

use crate::{Attributes, CacheMode, Protection, Usage};

/// One format: the meaning of the bits of an entry.
#[derive(Debug)]
pub struct Format {
    /// For messages.
    pub name: &'static str,
    /// The hardware uses an entry if any of these is set.
    pub present: u64,
    /// Set in every entry in use, tables included.
    pub read: u64,
    /// Stores allowed.
    pub write: u64,
    /// Set where fetches are allowed, or 0 if the format has no such bit.
    pub execute: u64,
    /// Set where fetches are forbidden, or 0 if the format has no such bit.
    pub no_execute: u64,
    /// Reachable from user mode, or 0.
    pub user: u64,
    /// Set by hardware on use, or 0 if the hardware has no such bit.
    pub accessed: u64,
    /// In leaves: set by hardware on a store, or without `hardware_dirty` by [`Self::leaf`] with `write`.
    pub dirty: u64,
    /// The hardware sets `dirty`. If not, whoever may store counts as having stored.
    pub hardware_dirty: bool,
    /// A leaf above level 1.
    pub large: u64,
    /// Survives address-space switches, or 0.
    pub global: u64,
    /// Bits that hardware ignores, for the owner.
    pub software: [u64; 3],
    /// The physical address field of a table or 4 KiB leaf.
    pub address: u64,
    /// Cache bits of a 4 KiB leaf by [`CacheMode`]. Entries that point to tables have none.
    pub cache: [u64; CacheMode::COUNT],
    /// Cache bits of a larger leaf by [`CacheMode`].
    pub cache_large: [u64; CacheMode::COUNT],
    /// All cache bits of a 4 KiB leaf.
    pub cache_mask: u64,
    /// All cache bits of a larger leaf.
    pub cache_mask_large: u64,
}

impl Format {
    /// True if hardware would use the entry.
    #[must_use]
    pub const fn is_present(&self, entry: u64) -> bool {
        entry & self.present != 0
    }

    /// True if a present entry of a table of `level` is a translation rather than a pointer to a table.
    #[must_use]
    pub const fn is_leaf(&self, entry: u64, level: u8) -> bool {
        level == 1 || entry & self.large != 0
    }

    /// Mask of the physical address in a leaf of `level`.
    #[must_use]
    pub const fn leaf_address_mask(&self, level: u8) -> u64 {
        self.address & !(super::span(level) - 1)
    }

    /// The cache vector of leaves of `level`, and all bits in it.
    const fn cache_bits(&self, level: u8) -> (&[u64; CacheMode::COUNT], u64) {
        if level > 1 {
            (&self.cache_large, self.cache_mask_large)
        } else {
            (&self.cache, self.cache_mask)
        }
    }

    /// All bits for the owner.
    #[must_use]
    pub const fn software_mask(&self) -> u64 {
        self.software[0] | self.software[1] | self.software[2]
    }

    /// A leaf of `level` (1..=3; 3 only on CPUs that have pages of 1 GiB) that translates to `physical`, which must be
    /// aligned to the level's span. It allows loads whatever `attributes` say, since no format can do without.
    #[must_use]
    pub fn leaf(&self, level: u8, physical: u64, attributes: Attributes) -> u64 {
        debug_assert_eq!(physical & !self.leaf_address_mask(level), 0);
        let mut entry = physical | self.read;
        if attributes.protection.contains(Protection::WRITE) {
            entry |= self.write;
            if !self.hardware_dirty {
                entry |= self.dirty;
            }
        }
        entry |= if attributes.protection.contains(Protection::EXECUTE) {
            self.execute
        } else {
            self.no_execute
        };
        if attributes.user {
            entry |= self.user;
        }
        if attributes.global {
            entry |= self.global;
        }
        if level > 1 {
            entry |= self.large;
        }
        entry |= self.cache_bits(level).0[attributes.cache as usize];
        for (bit, mask) in self.software.iter().enumerate() {
            if attributes.software >> bit & 1 != 0 {
                entry |= mask;
            }
        }
        entry
    }

    /// An entry that points to the table at `physical`. It allows everything: the leaf decides.
    #[must_use]
    pub const fn table(&self, physical: u64, user: bool) -> u64 {
        physical | self.read | self.write | self.execute | if user { self.user } else { 0 }
    }

    /// Physical address of the table that a present entry other than a leaf points to.
    #[must_use]
    pub const fn table_address(&self, entry: u64) -> u64 {
        entry & self.address
    }

    /// Start of what a leaf of `level` translates to.
    #[must_use]
    pub const fn leaf_address(&self, entry: u64, level: u8) -> u64 {
        entry & self.leaf_address_mask(level)
    }

    /// Accesses that a present leaf allows.
    #[must_use]
    pub const fn protection(&self, entry: u64) -> Protection {
        let write = entry & self.write != 0;
        let execute = entry & self.no_execute == 0 && entry & self.execute == self.execute;
        Protection::from_bits_truncate(1 | (write as u8) << 1 | (execute as u8) << 2)
    }

    /// The inverse of [`Self::leaf`], physical address aside. `None` if the cache bits are none of this vector's.
    #[must_use]
    pub fn attributes(&self, entry: u64, level: u8) -> Option<Attributes> {
        let (vector, mask) = self.cache_bits(level);
        let cache = CacheMode::ALL
            .into_iter()
            .find(|&mode| vector[mode as usize] == entry & mask)?;
        let mut software = 0;
        for (bit, mask) in self.software.iter().enumerate() {
            software |= u8::from(entry & mask != 0) << bit;
        }
        Some(Attributes {
            protection: self.protection(entry),
            user: self.user != 0 && entry & self.user != 0,
            global: self.global != 0 && entry & self.global != 0,
            cache,
            software,
        })
    }

    /// The entry with every access removed that is not in `keep`. Reading cannot be taken away this way.
    #[must_use]
    pub const fn narrowed(&self, entry: u64, keep: Protection) -> u64 {
        let mut narrowed = entry;
        if !keep.contains(Protection::WRITE) {
            narrowed &= !self.write;
        }
        if !keep.contains(Protection::EXECUTE) {
            narrowed = narrowed & !self.execute | self.no_execute;
        }
        narrowed
    }

    /// What was done through a present leaf. Where hardware has no accessed bit, every leaf may have been used.
    #[must_use]
    pub const fn usage(&self, entry: u64) -> Usage {
        let accessed = self.accessed == 0 || entry & self.accessed != 0;
        let dirty = entry & self.dirty != 0;
        Usage::from_bits_truncate(accessed as u8 | (dirty as u8) << 1)
    }

    /// The bits that record `usage`.
    #[must_use]
    pub const fn usage_bits(&self, usage: Usage) -> u64 {
        let accessed = if usage.contains(Usage::ACCESSED) {
            self.accessed
        } else {
            0
        };
        let dirty = if usage.contains(Usage::DIRTY) {
            self.dirty
        } else {
            0
        };
        accessed | dirty
    }

    /// A leaf with the record of `usage` cleared. Where hardware does not set the dirty bit, the right to store goes with it, so
    /// that the next store faults and is seen.
    #[must_use]
    pub const fn without_usage(&self, entry: u64, usage: Usage) -> u64 {
        let write = if usage.contains(Usage::DIRTY) && !self.hardware_dirty {
            self.write
        } else {
            0
        };
        entry & !self.usage_bits(usage) & !write
    }

    /// Of what a mapping allows, what to enter when it is first used. Where hardware does not set the dirty bit, `WRITE` waits for a
    /// store: a page that was only read is not dirty, and one that can be written is.
    #[must_use]
    pub const fn protection_on_fault(&self, allowed: Protection, store: bool) -> Protection {
        if store || self.hardware_dirty {
            allowed
        } else {
            allowed.difference(Protection::WRITE)
        }
    }
}
