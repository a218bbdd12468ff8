//! Large pages: where what a mapping shows lies in one piece and as the addresses do, a fault maps 2 MiB at once.
//!
//! Only for shared mappings of what stays where it is: device memory and boot modules. Nothing else knows of it: what unmaps or narrows
//! a part of a large page takes all of it, and faults bring the rest back.

use super::region::Region;
use super::vmspace::to_table;
use crate::pmap::Target;
use core::ops::Range;
use dragonet_abi::layout::{PAGE_SIZE, PLACEMENT_END, PLACEMENT_START};
use page_table::span;
use vm_map::Map;

/// Level of large pages, and their size.
const LEVEL: u8 = 2;
const SIZE: u64 = span(LEVEL);

/// The large page that `page` of the entry `entry` lies in: its start and where it leads. `None` if there is none.
pub(super) fn page(region: &Region, entry: &Range<u64>, page: u64) -> Option<(u64, Target)> {
    let start = page & !(SIZE - 1);
    let inside = entry.start <= start && entry.end - start >= SIZE;
    if !inside || region.root.is_some() || region.overlay.is_some() {
        return None;
    }
    let index = (region.offset + (start - entry.start)) / PAGE_SIZE;
    let (physical, cache) = region.object.contiguous(index, SIZE / PAGE_SIZE)?;
    let target = Target {
        physical,
        level: LEVEL,
        protection: to_table(region.protection),
        cache,
    };
    physical.is_aligned(SIZE).then_some((start, target))
}

/// A free place for a mapping of `length` bytes in which large pages fit. `None` if it has none, or there is no such place.
pub(super) fn place(map: &mut Map<Region>, region: &Region, length: u64) -> Option<u64> {
    let most = length.checked_add(SIZE).filter(|_| length >= SIZE)?;
    let (physical, _) = region
        .object
        .contiguous(region.offset / PAGE_SIZE, SIZE / PAGE_SIZE)?;
    let gap = map.find_gap(most, PLACEMENT_START..PLACEMENT_END)?;
    Some(gap + (physical.as_u64().wrapping_sub(gap) & (SIZE - 1)))
}
