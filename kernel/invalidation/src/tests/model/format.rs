//! How hardware reads an entry. Written from the manual and not with the crate under test.

use super::cache::Rights;

/// Whose entries they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 4-level paging (4.5).
    Linear,
    /// Extended page tables (29.3).
    Nested,
}

const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

impl Format {
    pub fn is_present(self, entry: u64) -> bool {
        match self {
            Format::Linear => entry & 1 != 0,
            Format::Nested => entry & 7 != 0,
        }
    }

    /// The entry ends a walk at `level`.
    pub fn is_leaf(self, entry: u64, level: u8) -> bool {
        level == 1 || level < 4 && entry & LARGE != 0
    }

    pub fn is_global(self, entry: u64) -> bool {
        self == Format::Linear && entry & GLOBAL != 0
    }

    /// Bits of accessed and dirty.
    pub fn accessed(self) -> u64 {
        match self {
            Format::Linear => 1 << 5,
            Format::Nested => 1 << 8,
        }
    }

    pub fn dirty(self) -> u64 {
        self.accessed() << 1
    }

    /// What the entry allows. `dirty` is true for a table.
    pub fn rights(self, entry: u64, leaf: bool) -> Rights {
        Rights {
            write: entry & 2 != 0,
            user: self == Format::Nested || entry & 4 != 0,
            dirty: !leaf || entry & self.dirty() != 0,
        }
    }

    pub fn table(self, entry: u64) -> u64 {
        entry & ADDRESS
    }

    /// First address of the page that a leaf of `level` names.
    pub fn page(self, entry: u64, level: u8) -> u64 {
        entry & ADDRESS & !(page_table::span(level) - 1)
    }
}
