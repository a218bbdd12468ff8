//! The map of physical memory: sorted, disjoint regions, and the only allocator of the stage.
//!
//! The firmware's entries may overlap and need not be aligned. [`MemoryMap::from_firmware`] settles each byte for the
//! most restrictive claim on it; afterwards usable regions have whole pages only. [`MemoryMap::claim`] and
//! [`MemoryMap::allocate`] turn usable memory into memory with an owner.
#![forbid(unsafe_code)]

use arrayvec::ArrayVec;

use crate::PAGE_SIZE;

/// The most regions a map can hold.
pub const MOST_REGIONS: usize = 512;

/// What a region of physical memory is. The numbers are the Limine boot protocol's; the order of severity is
/// [`Kind::severity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Kind {
    /// Free for use.
    Usable = 0,
    /// Not to be touched.
    Reserved = 1,
    /// Tables of ACPI, free once they have been read.
    AcpiReclaimable = 2,
    /// Memory that ACPI keeps.
    AcpiNvs = 3,
    /// Defective.
    Bad = 4,
    /// Used by the stage or the firmware, free once the kernel no longer needs what is in it.
    BootloaderReclaimable = 5,
    /// The kernel's image, its file, and the modules.
    ExecutableAndModules = 6,
    /// Pixels.
    Framebuffer = 7,
}

impl Kind {
    /// Of two claims on the same byte of the firmware's map, the higher one wins.
    fn severity(self) -> u8 {
        match self {
            Kind::Usable => 0,
            Kind::BootloaderReclaimable => 1,
            Kind::ExecutableAndModules => 2,
            Kind::AcpiReclaimable => 3,
            Kind::AcpiNvs => 4,
            Kind::Reserved => 5,
            Kind::Bad => 6,
            Kind::Framebuffer => 7,
        }
    }

    /// Whether the protocol promises that regions of this kind consist of whole pages.
    fn has_whole_pages(self) -> bool {
        matches!(self, Kind::Usable | Kind::BootloaderReclaimable)
    }
}

/// The bytes from `start` up to but not including `end`, all of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// What it is.
    pub kind: Kind,
}

impl Region {
    /// The bytes in it.
    pub fn length(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// Why the map could not be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// More than [`MOST_REGIONS`] regions.
    TooManyRegions,
    /// No usable region is large enough.
    OutOfMemory {
        /// The bytes asked for.
        size: u64,
    },
}

impl core::fmt::Display for MapError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            MapError::TooManyRegions => {
                write!(formatter, "the memory map has more than {MOST_REGIONS} regions")
            }
            MapError::OutOfMemory { size } => {
                write!(
                    formatter,
                    "too little memory: no {} KiB in one piece are free",
                    size.div_ceil(1024)
                )
            }
        }
    }
}

/// Regions as the firmware reports them, in any order, possibly overlapping.
pub type FirmwareRegions = ArrayVec<Region, MOST_REGIONS>;

/// The map. See the module's description.
#[derive(Clone, Debug, Default)]
pub struct MemoryMap {
    regions: ArrayVec<Region, MOST_REGIONS>,
}

/// `address` rounded down to a page.
pub fn page_floor(address: u64) -> u64 {
    address & !(PAGE_SIZE - 1)
}

/// `address` rounded up to a page; the last page of the address space stays where it is.
pub fn page_ceiling(address: u64) -> u64 {
    page_floor(address.saturating_add(PAGE_SIZE - 1))
}

impl MemoryMap {
    /// Settles overlapping entries for the most restrictive kind, byte by byte, and trims usable regions to whole
    /// pages. The first page of memory is never usable, now or after reclaiming: its address is zero.
    ///
    /// # Errors
    /// [`MapError::TooManyRegions`].
    pub fn from_firmware(entries: &[Region]) -> Result<Self, MapError> {
        let mut edges: ArrayVec<u64, { 2 * MOST_REGIONS + 1 }> = ArrayVec::new();
        edges.push(PAGE_SIZE);
        for entry in entries.iter().filter(|entry| entry.start < entry.end) {
            edges
                .try_push(entry.start)
                .map_err(|_| MapError::TooManyRegions)?;
            edges.try_push(entry.end).map_err(|_| MapError::TooManyRegions)?;
        }
        edges.sort_unstable();

        let mut map = MemoryMap::default();
        for pair in edges.windows(2) {
            let (start, end) = (pair[0], pair[1]);
            let covering = entries
                .iter()
                .filter(|entry| entry.start <= start && end <= entry.end);
            let Some(worst) = covering.max_by_key(|entry| entry.kind.severity()) else {
                continue;
            };
            if start < end && !(worst.kind.has_whole_pages() && end <= PAGE_SIZE) {
                map.push(Region {
                    start,
                    end,
                    kind: worst.kind,
                })?;
            }
        }
        map.trim();
        Ok(map)
    }

    /// The regions, by ascending address.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Makes the pages that hold any byte of `start..end` a region of `kind`, where they were usable or reclaimable;
    /// the other pages keep their kind. This is how memory that the loader has filled gets its owner.
    ///
    /// # Errors
    /// [`MapError::TooManyRegions`].
    pub fn claim(&mut self, start: u64, end: u64, kind: Kind) -> Result<(), MapError> {
        if start >= end {
            return Ok(());
        }
        let (start, end) = (page_floor(start), page_ceiling(end));
        let mut changed = MemoryMap::default();
        for region in &self.regions {
            let (from, to) = (region.start.max(start), region.end.min(end));
            if from >= to || !region.kind.has_whole_pages() {
                changed.push(*region)?;
                continue;
            }
            changed.push(Region { end: from, ..*region })?;
            changed.push(Region {
                start: from,
                end: to,
                kind,
            })?;
            changed.push(Region { start: to, ..*region })?;
        }
        *self = changed;
        Ok(())
    }

    /// Takes `size` bytes of usable memory, rounded up to whole pages, at a multiple of `alignment` (a power of two,
    /// at least a page), as high as possible below `limit`, and gives them `kind`. Returns the first address.
    ///
    /// # Errors
    /// [`MapError::OutOfMemory`], [`MapError::TooManyRegions`].
    pub fn allocate(&mut self, size: u64, alignment: u64, limit: u64, kind: Kind) -> Result<u64, MapError> {
        let no_room = MapError::OutOfMemory { size };
        let bytes = page_ceiling(size.max(1));
        if bytes < size || !alignment.is_power_of_two() {
            return Err(no_room);
        }
        let mask = !(alignment.max(PAGE_SIZE) - 1);
        let usable = self
            .regions
            .iter()
            .rev()
            .filter(|region| region.kind == Kind::Usable);
        let start = usable
            .filter_map(|region| {
                let start = region.end.min(page_floor(limit)).checked_sub(bytes)? & mask;
                (start >= region.start).then_some(start)
            })
            .next()
            .ok_or(no_room)?;
        self.claim(start, start + bytes, kind)?;
        Ok(start)
    }

    /// The bytes of all regions of a kind.
    pub fn total(&self, kind: Kind) -> u64 {
        self.regions
            .iter()
            .filter(|region| region.kind == kind)
            .map(Region::length)
            .sum()
    }

    /// The regions of a kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Region> {
        self.regions.iter().filter(move |region| region.kind == kind)
    }

    /// Appends a region, joining it to the last one where they touch and are alike. Empty ones are left out.
    fn push(&mut self, region: Region) -> Result<(), MapError> {
        if region.start >= region.end {
            return Ok(());
        }
        match self.regions.last_mut() {
            Some(last) if last.end == region.start && last.kind == region.kind => last.end = region.end,
            _ => self
                .regions
                .try_push(region)
                .map_err(|_| MapError::TooManyRegions)?,
        }
        Ok(())
    }

    /// Shrinks regions that must have whole pages to those they cover in full.
    fn trim(&mut self) {
        for region in &mut self.regions {
            if region.kind.has_whole_pages() {
                (region.start, region.end) = (page_ceiling(region.start), page_floor(region.end));
            }
        }
        self.regions.retain(|region| region.start < region.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const PC: [Region; 4] = [
        Region {
            start: 0,
            end: 0x9fc00,
            kind: Kind::Usable,
        },
        Region {
            start: 0x9fc00,
            end: 0xa0000,
            kind: Kind::Reserved,
        },
        Region {
            start: 0xf0000,
            end: 0x100000,
            kind: Kind::Reserved,
        },
        Region {
            start: 0x100000,
            end: 0x4000000,
            kind: Kind::Usable,
        },
    ];

    #[test]
    fn a_pc_map_loses_its_first_page_and_half_pages() {
        let map = MemoryMap::from_firmware(&PC).unwrap();
        assert_eq!(
            map.regions()[0],
            Region {
                start: 0x1000,
                end: 0x9f000,
                kind: Kind::Usable
            }
        );
        assert_eq!(map.regions()[1], PC[1]);
        assert_eq!(map.regions().len(), 4);
    }

    #[test]
    fn the_more_restrictive_claim_wins() {
        let entries = [
            Region {
                start: 0x100000,
                end: 0x200000,
                kind: Kind::Usable,
            },
            Region {
                start: 0x140080,
                end: 0x150000,
                kind: Kind::Reserved,
            },
            Region {
                start: 0x148000,
                end: 0x160000,
                kind: Kind::AcpiNvs,
            },
        ];
        let map = MemoryMap::from_firmware(&entries).unwrap();
        let expected = [
            Region {
                start: 0x100000,
                end: 0x140000,
                kind: Kind::Usable,
            },
            Region {
                start: 0x140080,
                end: 0x150000,
                kind: Kind::Reserved,
            },
            Region {
                start: 0x150000,
                end: 0x160000,
                kind: Kind::AcpiNvs,
            },
            Region {
                start: 0x160000,
                end: 0x200000,
                kind: Kind::Usable,
            },
        ];
        assert_eq!(map.regions(), expected);
    }

    #[test]
    fn allocation_is_from_the_top_aligned_and_below_the_limit() {
        let mut map = MemoryMap::from_firmware(&PC).unwrap();
        let kind = Kind::BootloaderReclaimable;
        assert_eq!(map.allocate(1, 4096, u64::MAX, kind), Ok(0x3fff000));
        assert_eq!(map.allocate(0x3000, 0x200000, u64::MAX, kind), Ok(0x3e00000));
        assert_eq!(map.allocate(4096, 4096, 0xa0000, kind), Ok(0x9e000));
        assert_eq!(
            map.allocate(0x10000000, 4096, u64::MAX, kind),
            Err(MapError::OutOfMemory { size: 0x10000000 })
        );
        assert_eq!(map.total(kind), 0x5000);
    }

    #[test]
    fn claims_leave_firmware_regions_alone() {
        let mut map = MemoryMap::from_firmware(&PC).unwrap();
        map.claim(0x9e001, 0xf8000, Kind::ExecutableAndModules).unwrap();
        assert_eq!(map.total(Kind::ExecutableAndModules), 0x1000);
        assert_eq!(map.total(Kind::Reserved), 0x10400);
    }

    fn any_kind() -> impl Strategy<Value = Kind> {
        prop_oneof![
            Just(Kind::Usable),
            Just(Kind::Reserved),
            Just(Kind::AcpiReclaimable),
            Just(Kind::AcpiNvs),
            Just(Kind::Bad),
            Just(Kind::BootloaderReclaimable),
        ]
    }

    fn any_entries() -> impl Strategy<Value = Vec<Region>> {
        let entry = (0u64..0x40000, 0u64..0x8000, any_kind()).prop_map(|(start, length, kind)| Region {
            start,
            end: start + length,
            kind,
        });
        prop::collection::vec(entry, 0..24)
    }

    fn check(map: &MemoryMap) {
        for pair in map.regions().windows(2) {
            assert!(pair[0].end <= pair[1].start, "{pair:x?}");
        }
        for region in map.regions() {
            assert!(region.start < region.end);
            if region.kind.has_whole_pages() {
                assert_eq!((region.start % PAGE_SIZE, region.end % PAGE_SIZE), (0, 0));
            }
        }
    }

    proptest! {
        #[test]
        fn any_firmware_map_becomes_sorted_and_disjoint(entries in any_entries()) {
            let map = MemoryMap::from_firmware(&entries).unwrap();
            check(&map);
            for probe in (0..0x48000u64).step_by(0x333) {
                let worst = entries
                    .iter()
                    .filter(|entry| entry.start <= probe && probe < entry.end)
                    .max_by_key(|entry| entry.kind.severity());
                let found = map.regions().iter().find(|region| region.start <= probe && probe < region.end);
                match (worst, found) {
                    (Some(worst), Some(found)) => prop_assert_eq!(worst.kind, found.kind),
                    (Some(worst), None) => prop_assert!(worst.kind.has_whole_pages()),
                    (None, found) => prop_assert!(found.is_none()),
                }
            }
        }

        #[test]
        fn allocations_are_disjoint(entries in any_entries(), sizes in prop::collection::vec(1u64..0x6000, 0..12)) {
            let mut map = MemoryMap::from_firmware(&entries).unwrap();
            let mut taken: Vec<(u64, u64)> = Vec::new();
            let before = map.total(Kind::Usable);
            for size in sizes {
                let Ok(start) = map.allocate(size, PAGE_SIZE, 0x30000, Kind::ExecutableAndModules) else { continue };
                let end = start + page_ceiling(size);
                prop_assert!(end <= 0x30000);
                prop_assert!(taken.iter().all(|&(from, to)| end <= from || to <= start));
                taken.push((start, end));
                check(&map);
            }
            let bytes: u64 = taken.iter().map(|(start, end)| end - start).sum();
            prop_assert_eq!(before - bytes, map.total(Kind::Usable));
        }
    }
}
