//! Intel's extended page tables, for CPUs with and without accessed and dirty bits in them, and the pointer to their root
//! (Intel SDM volume 3, sections 29.3.2, 29.3.5 and 25.6.11).

use crate::{CacheMode, Format};

const IGNORE_PAT: u64 = 1 << 6;
/// Bits of the memory type. Every leaf sets `IGNORE_PAT` too: the type here is final, whatever the guest's tables say.
const TYPE: u64 = 7 << 3;
/// Memory types of leaves, the same at every level: WB, WT, UC, WC, WP. Entries that point to tables have none.
const TYPES: [u64; CacheMode::COUNT] = [
    IGNORE_PAT | 6 << 3,
    IGNORE_PAT | 4 << 3,
    IGNORE_PAT,
    IGNORE_PAT | 1 << 3,
    IGNORE_PAT | 5 << 3,
];

/// Extended page tables whose pointer enables accessed and dirty bits. "Present" is any of read, write, execute; fetches need the
/// execute bit; a store without the right to load would be a misconfiguration, so there is no such leaf.
pub static EPT: Format = Format {
    name: "EPT",
    accessed: 1 << 8,
    dirty: 1 << 9,
    hardware_dirty: true,
    ..WITHOUT_ACCESSED_DIRTY
};

/// Extended page tables of a CPU without accessed and dirty bits: bits 8 and 9 stay clear. The dirty bit is one that hardware
/// ignores, set with the right to store; see [`Format::protection_on_fault`].
pub static EPT_WITHOUT_ACCESSED_DIRTY: Format = WITHOUT_ACCESSED_DIRTY;

const WITHOUT_ACCESSED_DIRTY: Format = Format {
    name: "EPT without A/D",
    present: 7,
    read: 1,
    write: 1 << 1,
    execute: 1 << 2,
    no_execute: 0,
    user: 0,
    accessed: 0,
    dirty: 1 << 53,
    hardware_dirty: false,
    large: 1 << 7,
    global: 0,
    software: [1 << 10, 1 << 11, 1 << 52],
    address: 0x000f_ffff_ffff_f000,
    cache: TYPES,
    cache_large: TYPES,
    cache_mask: IGNORE_PAT | TYPE,
    cache_mask_large: IGNORE_PAT | TYPE,
};

/// How the CPU's page walks access extended page tables. A CPU says in IA32_VMX_EPT_VPID_CAP which it can (bits 8 and 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkMemory {
    /// Uncached.
    Uncached = 0,
    /// Write-back.
    WriteBack = 6,
}

/// Format of tables that are used with or without accessed and dirty bits.
#[must_use]
pub const fn ept_format(accessed_dirty: bool) -> &'static Format {
    if accessed_dirty {
        &EPT
    } else {
        &EPT_WITHOUT_ACCESSED_DIRTY
    }
}

/// The EPT pointer of the VMCS for four levels of tables in the format of [`ept_format`], root at physical address `root`.
///
/// With accessed and dirty bits (only where IA32_VMX_EPT_VPID_CAP has bit 21) the CPU treats its accesses to the guest's own
/// page tables as stores (SDM volume 3, 29.3.3.2).
#[must_use]
pub const fn ept_pointer(root: u64, memory: WalkMemory, accessed_dirty: bool) -> u64 {
    const WALK_LENGTH: u64 = crate::ROOT_LEVEL as u64;
    root & WITHOUT_ACCESSED_DIRTY.address
        | memory as u64
        | (WALK_LENGTH - 1) << 3
        | (accessed_dirty as u64) << 6
}
