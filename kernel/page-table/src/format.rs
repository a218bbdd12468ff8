//! Page-table formats as data: which bit means what, in the CPU's own tables and in EPT.
//!
//! Intel SDM volume 3, section 4.5 (4-level paging) and section 29.3 (EPT).

use bitflags::bitflags;

bitflags! {
    /// What a translation allows.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Protection: u8 {
        /// Loads. Every entry that is present allows them.
        const READ = 1;
        /// Stores.
        const WRITE = 2;
        /// Instruction fetches.
        const EXECUTE = 4;
    }
}

/// How the CPU caches accesses through a translation. The number is the index in a format's cache vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum CacheMode {
    /// Ordinary memory.
    WriteBack = 0,
    /// Reads cached, writes go through.
    WriteThrough = 1,
    /// Device registers.
    Uncached = 2,
    /// Frame buffers: writes collected, reads uncached.
    WriteCombining = 3,
}

impl CacheMode {
    /// Every mode, by number.
    pub const ALL: [CacheMode; 4] = [
        CacheMode::WriteBack,
        CacheMode::WriteThrough,
        CacheMode::Uncached,
        CacheMode::WriteCombining,
    ];
}

/// Value of IA32_PAT that the cache vector of [`X86_64`] assumes: as at reset, but entry 5 is write-combining.
pub const PAT: u64 = 0x0007_0106_0007_0406;

/// What a translation is, in terms of no format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// Accesses allowed. `READ` is implied.
    pub protection: Protection,
    /// Reachable from user mode. Means nothing in EPT.
    pub user: bool,
    /// Survives address-space switches. Means nothing in EPT.
    pub global: bool,
    /// Memory type.
    pub cache: CacheMode,
    /// Three bits for the owner of the table (bits 0..=2).
    pub software: u8,
}

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
    /// Set by hardware on use.
    pub accessed: u64,
    /// Set by hardware on store, in leaves.
    pub dirty: u64,
    /// A leaf above level 1.
    pub large: u64,
    /// Survives address-space switches, or 0.
    pub global: u64,
    /// Bits that hardware ignores, for the owner.
    pub software: [u64; 3],
    /// The physical address field of a table or 4 KiB leaf.
    pub address: u64,
    /// Cache bits of a 4 KiB leaf by [`CacheMode`]. Entries that point to tables have none.
    pub cache: [u64; 4],
    /// Cache bits of a larger leaf by [`CacheMode`].
    pub cache_large: [u64; 4],
    /// All cache bits of a 4 KiB leaf.
    pub cache_mask: u64,
    /// All cache bits of a larger leaf.
    pub cache_mask_large: u64,
}

const PWT: u64 = 1 << 3;
const PCD: u64 = 1 << 4;
const PAT_SMALL: u64 = 1 << 7;
const PAT_LARGE: u64 = 1 << 12;
const EPT_IGNORE_PAT: u64 = 1 << 6;
/// Memory types of EPT leaves, the same at every level: WB, WT, UC, WC.
const EPT_TYPES: [u64; 4] = [
    EPT_IGNORE_PAT | 6 << 3,
    EPT_IGNORE_PAT | 4 << 3,
    EPT_IGNORE_PAT,
    EPT_IGNORE_PAT | 1 << 3,
];

/// The CPU's own 4-level tables. NX must be enabled in EFER, PAT set as in [`PAT`].
pub static X86_64: Format = Format {
    name: "x86-64",
    present: 1,
    read: 1,
    write: 1 << 1,
    execute: 0,
    no_execute: 1 << 63,
    user: 1 << 2,
    accessed: 1 << 5,
    dirty: 1 << 6,
    large: 1 << 7,
    global: 1 << 8,
    software: [1 << 9, 1 << 10, 1 << 11],
    address: 0x000f_ffff_ffff_f000,
    cache: [0, PWT, PWT | PCD, PAT_SMALL | PWT],
    cache_large: [0, PWT, PWT | PCD, PAT_LARGE | PWT],
    cache_mask: PWT | PCD | PAT_SMALL,
    cache_mask_large: PWT | PCD | PAT_LARGE,
};

/// Intel's extended page tables. "Present" is any of read, write, execute; fetches need the execute bit.
pub static EPT: Format = Format {
    name: "EPT",
    present: 7,
    read: 1,
    write: 1 << 1,
    execute: 1 << 2,
    no_execute: 0,
    user: 0,
    accessed: 1 << 8,
    dirty: 1 << 9,
    large: 1 << 7,
    global: 0,
    software: [1 << 10, 1 << 11, 1 << 52],
    address: 0x000f_ffff_ffff_f000,
    cache: EPT_TYPES,
    cache_large: EPT_TYPES,
    cache_mask: EPT_IGNORE_PAT | 7 << 3,
    cache_mask_large: EPT_IGNORE_PAT | 7 << 3,
};

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

    /// A leaf of `level` that translates to `physical`, which must be aligned to the level's span.
    #[must_use]
    pub fn leaf(&self, level: u8, physical: u64, attributes: Attributes) -> u64 {
        debug_assert_eq!(physical & !self.leaf_address_mask(level), 0);
        let mut entry = physical | self.read;
        if attributes.protection.contains(Protection::WRITE) {
            entry |= self.write;
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
        entry |= if level > 1 {
            self.large | self.cache_large[attributes.cache as usize]
        } else {
            self.cache[attributes.cache as usize]
        };
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
        let (vector, mask) = if level > 1 {
            (&self.cache_large, self.cache_mask_large)
        } else {
            (&self.cache, self.cache_mask)
        };
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
}
