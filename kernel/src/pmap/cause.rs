//! Why translations are removed or narrowed: what the invalidation is counted as.

use dragonet_abi::counters::Counter;

/// Why translations are removed or narrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// What was mapped is unmapped.
    Unmap,
    /// The mapping allows less.
    Protect,
    /// The owner of a virtual page table has changed it.
    Advice,
    /// A virtual page table gets another root.
    SetMap,
    /// The contents are dropped.
    DontNeed,
    /// Something else comes to the address.
    Replace,
    /// A private copy takes the page's place.
    Copy,
    /// The address space is copied, and its private pages become read-only.
    Fork,
}

impl Cause {
    /// The counter of invalidations with this cause.
    pub(super) const fn counter(self) -> Counter {
        match self {
            Cause::Unmap => Counter::InvalidateUnmap,
            Cause::Protect => Counter::InvalidateProtect,
            Cause::Advice => Counter::InvalidateAdvice,
            Cause::SetMap => Counter::InvalidateSetMap,
            Cause::DontNeed => Counter::InvalidateDontNeed,
            Cause::Replace => Counter::InvalidateReplace,
            Cause::Copy => Counter::InvalidateCopy,
            Cause::Fork => Counter::InvalidateFork,
        }
    }
}
