//! The CPU's own 4-level tables (Intel SDM volume 3, section 4.5).

use crate::{CacheMode, Format};

/// Value of IA32_PAT that the cache vectors of [`X86_64`] assume: as at reset, but entry 5 is write-combining and entry 6
/// write-protected.
pub const PAT: u64 = 0x0005_0106_0007_0406;

const PWT: u64 = 1 << 3;
const PCD: u64 = 1 << 4;

/// Bits that select the entry of [`PAT`] for each cache mode, where bit 2 of the entry's number is `pat`.
const fn cache(pat: u64) -> [u64; CacheMode::COUNT] {
    [0, PWT, PWT | PCD, pat | PWT, pat | PCD]
}

/// The selecting bit of a 4 KiB leaf and that of a larger one.
const PAT_SMALL: u64 = 1 << 7;
const PAT_LARGE: u64 = 1 << 12;

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
    hardware_dirty: true,
    large: 1 << 7,
    global: 1 << 8,
    software: [1 << 9, 1 << 10, 1 << 11],
    address: 0x000f_ffff_ffff_f000,
    cache: cache(PAT_SMALL),
    cache_large: cache(PAT_LARGE),
    cache_mask: PWT | PCD | PAT_SMALL,
    cache_mask_large: PWT | PCD | PAT_LARGE,
};
