//! Signatures: a word that says which page it belongs to, so that a page in the wrong place can be named.

use core::fmt;

/// Bits of the generation, the lowest.
const GENERATION_BITS: u32 = 32;
/// Bits of the page.
const PAGE_BITS: u32 = 16;
/// In the highest byte of every signature.
const MARK: u64 = 0xd5;

/// Owner, page, and a generation that grows: signatures of one page compare as their generations do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signature(pub u64);

impl Signature {
    /// A signature. An owner has 8 bits.
    pub const fn new(owner: u8, page: u16, generation: u32) -> Self {
        let place = (owner as u64) << PAGE_BITS | page as u64;
        Signature(MARK << 56 | place << GENERATION_BITS | generation as u64)
    }

    /// The same page's next one.
    pub const fn next(self) -> Self {
        Signature(self.0 + 1)
    }

    /// The same page's one before.
    pub const fn previous(self) -> Self {
        Signature(self.0 - 1)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >> 56 != MARK {
            return write!(formatter, "{:#x}", self.0);
        }
        let page = self.0 >> GENERATION_BITS & ((1 << PAGE_BITS) - 1);
        let owner = self.0 >> (GENERATION_BITS + PAGE_BITS) & 0xff;
        let generation = self.0 & ((1 << GENERATION_BITS) - 1);
        write!(
            formatter,
            "generation {generation} of page {page} of owner {owner}"
        )
    }
}
