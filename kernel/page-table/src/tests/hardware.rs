//! How hardware reads an entry, by the bit numbers of the manuals: written without a look at the formats, to be compared with them.

use crate::{EPT, EPT_WITHOUT_ACCESSED_DIRTY, Format, X86_64};

/// Whose tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mmu {
    /// 4-level paging (SDM volume 3, 4.5).
    Paging,
    /// EPT with or without accessed and dirty bits (29.3).
    Extended { accessed_dirty: bool },
}

/// Every format and who walks its tables.
pub const FORMATS: [(&Format, Mmu); 3] = [
    (&X86_64, Mmu::Paging),
    (&EPT, Mmu::Extended { accessed_dirty: true }),
    (
        &EPT_WITHOUT_ACCESSED_DIRTY,
        Mmu::Extended {
            accessed_dirty: false,
        },
    ),
];

/// A translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    pub physical: u64,
    pub write: bool,
    pub execute: bool,
    pub user: bool,
    pub global: bool,
    /// As in IA32_PAT and in EPT: UC 0, WC 1, WT 4, WP 5, WB 6.
    pub memory_type: u8,
    pub accessed: bool,
    pub dirty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    NotPresent,
    /// Reserved bits, misconfigurations, and what only some CPUs or some guests give a meaning.
    Invalid(&'static str),
    Table {
        address: u64,
        write: bool,
        execute: bool,
        user: bool,
    },
    Leaf(Meaning),
}

/// IA32_PAT as the kernel sets it, entry by entry; 7 is "UC-".
pub const PAT_ENTRIES: [u8; 8] = [6, 4, 7, 0, 6, 1, 5, 0];

impl Mmu {
    pub fn decode(self, entry: u64, level: u8) -> Decoded {
        let bit = |number: u32| entry >> number & 1 != 0;
        let field = |high: u32, low: u32| entry >> low & ((1 << (high - low + 1)) - 1);
        let address = field(51, 12) << 12;
        // Where the address of a leaf begins, and the lowest bit below it that is reserved.
        let (low, reserved_from) = match (level, self) {
            (1, _) => (12, 12),
            (2, Mmu::Paging) => (21, 13),
            (2, Mmu::Extended { .. }) => (21, 12),
            (3, Mmu::Paging) => (30, 13),
            (3, Mmu::Extended { .. }) => (30, 12),
            _ => (0, 0),
        };
        let is_leaf = level == 1 || level < 4 && bit(7);
        if is_leaf && level > 1 && field(low - 1, reserved_from) != 0 {
            return Decoded::Invalid("address bits below the page size");
        }
        let physical = if is_leaf { field(51, low) << low } else { 0 };
        match self {
            Mmu::Paging if !bit(0) => Decoded::NotPresent,
            Mmu::Paging if level == 4 && bit(7) => Decoded::Invalid("a page of 512 GiB"),
            Mmu::Paging if !is_leaf && (bit(3) || bit(4)) => Decoded::Invalid("cache bits of a table"),
            Mmu::Paging if !is_leaf => Decoded::Table {
                address,
                write: bit(1),
                execute: !bit(63),
                user: bit(2),
            },
            Mmu::Paging => {
                let pat = bit(if level == 1 { 7 } else { 12 });
                Decoded::Leaf(Meaning {
                    physical,
                    write: bit(1),
                    execute: !bit(63),
                    user: bit(2),
                    global: bit(8),
                    memory_type: PAT_ENTRIES
                        [usize::from(bit(3)) + 2 * usize::from(bit(4)) + 4 * usize::from(pat)],
                    accessed: bit(5),
                    dirty: bit(6),
                })
            }
            Mmu::Extended { .. } if field(2, 0) == 0 => Decoded::NotPresent,
            Mmu::Extended { .. } if !bit(0) && bit(1) => Decoded::Invalid("stores without loads"),
            Mmu::Extended { .. } if !bit(0) => Decoded::Invalid("only some CPUs have execute-only"),
            Mmu::Extended { .. } if !is_leaf && field(6, 3) != 0 => Decoded::Invalid("cache bits of a table"),
            Mmu::Extended { .. } if level == 4 && bit(7) => Decoded::Invalid("a page of 512 GiB"),
            Mmu::Extended { .. } if bit(63) => Decoded::Invalid("suppressed #VE"),
            Mmu::Extended { .. } if !is_leaf => Decoded::Table {
                address,
                write: bit(1),
                execute: bit(2),
                user: false,
            },
            Mmu::Extended { .. } if matches!(field(5, 3), 2 | 3 | 7) => Decoded::Invalid("memory type"),
            Mmu::Extended { .. } if !bit(6) => Decoded::Invalid("the guest's PAT decides"),
            Mmu::Extended { accessed_dirty } => Decoded::Leaf(Meaning {
                physical,
                write: bit(1),
                execute: bit(2),
                user: false,
                global: false,
                memory_type: field(5, 3) as u8,
                accessed: accessed_dirty && bit(8),
                dirty: accessed_dirty && bit(9),
            }),
        }
    }

    /// True if it sets accessed and dirty bits.
    pub fn records(self) -> bool {
        self != Mmu::Extended {
            accessed_dirty: false,
        }
    }

    /// The entry after a use, a store if `dirty`. Entries that point to tables have an accessed bit only.
    pub fn used(self, entry: u64, dirty: bool) -> u64 {
        match self {
            Mmu::Paging => entry | 1 << 5 | u64::from(dirty) << 6,
            Mmu::Extended { accessed_dirty: true } => entry | 1 << 8 | u64::from(dirty) << 9,
            Mmu::Extended { .. } => entry,
        }
    }
}
