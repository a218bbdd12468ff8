//! Which physical memory the higher-half direct map covers, by base revision of the protocol.
#![forbid(unsafe_code)]

use arrayvec::ArrayVec;

use crate::PAGE_SIZE;
use crate::memory_map::{Kind, MOST_REGIONS, Region, page_ceiling, page_floor};

/// A range of whole pages in the direct map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First physical address.
    pub start: u64,
    /// One past the last physical address.
    pub end: u64,
    /// Pixels: to be mapped write-combining.
    pub write_combining: bool,
}

/// The ranges, disjoint and by ascending address.
pub type Ranges = ArrayVec<Range, { 2 * MOST_REGIONS + 1 }>;

const FOUR_GIB: u64 = 1 << 32;

/// The ranges that the direct map covers for a base revision, given the sorted, disjoint regions of the memory map.
///
/// Revisions 0 to 2: the first 4 GiB whatever they hold, and above that every region (revision 0) or those that are
/// neither reserved nor bad (1 and 2). Revision 3: usable and reclaimable memory, the executable and modules, and
/// framebuffers, and nothing else.
pub fn ranges(regions: &[Region], revision: u64) -> Ranges {
    let mut ranges = Ranges::new();
    let wanted = |kind: Kind| match revision {
        0 => true,
        1 | 2 => !matches!(kind, Kind::Reserved | Kind::Bad),
        _ => matches!(
            kind,
            Kind::Usable | Kind::BootloaderReclaimable | Kind::ExecutableAndModules | Kind::Framebuffer
        ),
    };
    let mut covered = 0;
    for region in regions.iter().filter(|region| wanted(region.kind)) {
        let start = page_floor(region.start).max(covered);
        let end = page_ceiling(region.end);
        let write_combining = region.kind == Kind::Framebuffer;
        if revision < 3 {
            if write_combining {
                push(&mut ranges, covered, start.min(FOUR_GIB), false);
                push(&mut ranges, start, end, true);
                covered = covered.max(end);
            } else if end > FOUR_GIB {
                push(&mut ranges, covered, FOUR_GIB, false);
                covered = covered.max(FOUR_GIB);
                push(&mut ranges, start.max(covered), end, false);
                covered = covered.max(end);
            }
        } else {
            push(&mut ranges, start, end, write_combining);
            covered = covered.max(end);
        }
    }
    if revision < 3 {
        push(&mut ranges, covered, FOUR_GIB, false);
    }
    ranges
}

/// The identity map of base revision 0: the same without the first page. Other revisions have none.
pub fn identity_ranges(regions: &[Region], revision: u64) -> Ranges {
    if revision != 0 {
        return Ranges::new();
    }
    let mut identity = ranges(regions, 0);
    if let Some(first) = identity.first_mut() {
        first.start = first.start.max(PAGE_SIZE);
    }
    identity
}

/// Appends a range unless it is empty, joining it to the last one where they touch and are alike.
fn push(ranges: &mut Ranges, start: u64, end: u64, write_combining: bool) {
    if start >= end {
        return;
    }
    match ranges.last_mut() {
        Some(last) if last.end == start && last.write_combining == write_combining => last.end = end,
        // At most two ranges come of a region, and one after the last, so there is room.
        _ => ranges.push(Range {
            start,
            end,
            write_combining,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn region(start: u64, end: u64, kind: Kind) -> Region {
        Region { start, end, kind }
    }

    const fn range(start: u64, end: u64, write_combining: bool) -> Range {
        Range {
            start,
            end,
            write_combining,
        }
    }

    const REGIONS: [Region; 8] = [
        region(0x1000, 0x9f000, Kind::Usable),
        region(0x9fc00, 0xa0000, Kind::Reserved),
        region(0x10_0000, 0x400_0000, Kind::BootloaderReclaimable),
        region(0xe000_0000, 0xe030_0000, Kind::Framebuffer),
        region(0xfffc_0000, 0x1_0000_0000, Kind::Reserved),
        region(0x1_0000_0000, 0x1_4000_0000, Kind::Usable),
        region(0x1_4000_0000, 0x1_4000_1000, Kind::Bad),
        region(0x1_8000_0800, 0x1_8000_1800, Kind::AcpiNvs),
    ];

    #[test]
    fn revision_2_covers_4_gib_and_memory_above() {
        let expected = [
            range(0, 0xe000_0000, false),
            range(0xe000_0000, 0xe030_0000, true),
            range(0xe030_0000, 0x1_4000_0000, false),
            range(0x1_8000_0000, 0x1_8000_2000, false),
        ];
        assert_eq!(ranges(&REGIONS, 2)[..], expected);
        assert_eq!(ranges(&REGIONS, 1)[..], expected);
        assert!(identity_ranges(&REGIONS, 2).is_empty());
    }

    #[test]
    fn revision_0_covers_everything_twice() {
        let expected = [
            range(0, 0xe000_0000, false),
            range(0xe000_0000, 0xe030_0000, true),
            range(0xe030_0000, 0x1_4000_1000, false),
            range(0x1_8000_0000, 0x1_8000_2000, false),
        ];
        assert_eq!(ranges(&REGIONS, 0)[..], expected);
        assert_eq!(identity_ranges(&REGIONS, 0)[0], range(0x1000, 0xe000_0000, false));
    }

    #[test]
    fn revision_3_covers_the_promised_kinds_only() {
        let expected = [
            range(0x1000, 0x9f000, false),
            range(0x10_0000, 0x400_0000, false),
            range(0xe000_0000, 0xe030_0000, true),
            range(0x1_0000_0000, 0x1_4000_0000, false),
        ];
        assert_eq!(ranges(&REGIONS, 3)[..], expected);
    }

    #[test]
    fn framebuffers_may_be_anywhere() {
        let high = [
            region(0x10_0000, 0x20_0000, Kind::Usable),
            region(0x80_0000_0000, 0x80_0010_0000, Kind::Framebuffer),
        ];
        let expected = [
            range(0, 0x1_0000_0000, false),
            range(0x80_0000_0000, 0x80_0010_0000, true),
        ];
        assert_eq!(ranges(&high, 2)[..], expected);
        let across = [region(0xffff_0000, 0x1_0001_0000, Kind::Framebuffer)];
        let expected = [
            range(0, 0xffff_0000, false),
            range(0xffff_0000, 0x1_0001_0000, true),
        ];
        assert_eq!(ranges(&across, 2)[..], expected);
    }
}
