//! Fault-around: a fault that loads or fetches also maps the pages beside it that are there already.
//!
//! Programs go on to the next page, so one fault serves up to 16. Nothing is allocated for it, no page of memory and no table; no
//! translation that exists is touched; each page gets the rights that a load of its own would give it, and is refused by the
//! interlock like one. All enter under one hold of the pmap's lock.
//!
//! Not for stores: a page that is not written needs no copy. Not for virtual page tables: the walk marks what it uses as accessed, and
//! nobody has used the neighbours. Not for devices.

use super::region::Region;
use crate::pmap::Target;
use arrayvec::ArrayVec;
use core::ops::Range;
use dragonet_abi::layout::PAGE_SIZE;

/// Pages of a window. Windows are aligned, so that the pages of one share their lowest table.
const WINDOW: u64 = 16;

/// Pages beside the one that faulted, with what they lead to.
pub(super) type Neighbours = ArrayVec<(u64, Target), { WINDOW as usize - 1 }>;

/// What is there around `page` in its entry.
pub(super) fn neighbours(region: &Region, entry: &Range<u64>, page: u64) -> Neighbours {
    let mut found = Neighbours::new();
    if region.root.is_some() {
        return found;
    }
    let start = page - page % (WINDOW * PAGE_SIZE);
    for index in 0..WINDOW {
        let address = start + index * PAGE_SIZE;
        if address == page || !entry.contains(&address) {
            continue;
        }
        if let Some(target) = region.resident(address - entry.start) {
            found.push((address, target));
        }
    }
    found
}
