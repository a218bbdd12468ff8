//! What a vmspace consists of, for tools.

use super::region::{Region, Role};
use super::vmspace::Vmspace;
use core::ops::Range;
use dragonet_abi::layout::USER_END;
use dragonet_abi::memory::Vpte;
use dragonet_abi::vmspace::{EntryFlags, EntryInfo, EntryKind};
use vm_map::Entry;

/// Entries of a page table that are looked at with interrupts off.
const STEPS: usize = 1024;

/// Mappings that are looked at with interrupts off.
const ENTRIES: usize = 64;

/// Numbers about a vmspace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmspaceStatistics {
    /// Pages with a translation now.
    pub resident_pages: u64,
    /// Pages of the page table.
    pub table_pages: u64,
    /// Map entries.
    pub entries: u64,
}

impl Vmspace {
    /// Numbers for tools.
    pub fn statistics(&self) -> VmspaceStatistics {
        VmspaceStatistics {
            resident_pages: self.pmap().resident_pages(),
            table_pages: self.pmap().table_pages(),
            entries: self.map.lock().len() as u64,
        }
    }

    /// Calls `visit` with up to `most` entries from `address` on, with no mapped pages counted; returns where to go on, or `None`
    /// at the end. The map's lock is held meanwhile.
    pub fn for_each_entry(&self, address: u64, most: usize, mut visit: impl FnMut(EntryInfo)) -> Option<u64> {
        let map = self.map.lock();
        for (number, entry) in map.overlapping(address.min(USER_END)..USER_END).enumerate() {
            if number == most {
                return Some(entry.start);
            }
            visit(describe(&entry));
        }
        None
    }

    /// Mappings, and bytes in them. Between two pieces of the work no lock is held and `goes_on` is asked; `None` if it said no.
    pub fn mapped(&self, mut goes_on: impl FnMut() -> bool) -> Option<(u64, u64)> {
        let (mut mappings, mut bytes) = (0, 0);
        let mut next = Some(0);
        while let Some(address) = next {
            next = self.for_each_entry(address, ENTRIES, |entry| {
                mappings += 1;
                bytes += entry.end - entry.start;
            });
            if next.is_some() && !goes_on() {
                return None;
            }
        }
        Some((mappings, bytes))
    }

    /// Pages of `range` that have a translation. Between two pieces of the work no lock is held and `goes_on` is asked; the count is
    /// `None` if it said no.
    pub fn mapped_pages(&self, range: &Range<u64>, mut goes_on: impl FnMut() -> bool) -> Option<u64> {
        let (mut pages, mut address) = (0, range.start);
        while address < range.end {
            let (some, next) = self.pmap().count(&(address..range.end), STEPS);
            (pages, address) = (pages + some, next);
            if address < range.end && !goes_on() {
                return None;
            }
        }
        Some(pages)
    }
}

fn describe(entry: &Entry<&Region>) -> EntryInfo {
    let region = entry.payload;
    let kind = match region.role {
        Role::Guard => EntryKind::Guard,
        Role::Ungrown => EntryKind::Ungrown,
        _ if region.root.is_some() => EntryKind::Vpagetable,
        _ if region.own_pages().is_some() => EntryKind::Private,
        _ => EntryKind::Shared,
    };
    let mut flags = EntryFlags::empty();
    flags.set(EntryFlags::ANONYMOUS, region.object.private_pages().is_some());
    flags.set(EntryFlags::COPY_ON_WRITE, region.overlay.is_some());
    flags.set(EntryFlags::MODULE, !region.object.is_writable());
    let reserved = matches!(region.role, Role::Guard | Role::Ungrown);
    flags.set(EntryFlags::DEVICE, !reserved && !region.object.is_memory());
    flags.set(EntryFlags::STACK, region.role == Role::Stack);
    let copies = region.overlay.as_ref();
    EntryInfo {
        start: entry.start,
        end: entry.end,
        protection: region.protection.bits(),
        maximum: region.maximum.bits(),
        kind: kind as u32,
        flags: flags.bits(),
        object: region.object.id(),
        offset: region.offset,
        root: region.root.unwrap_or(Vpte(0)),
        object_pages: region.object.resident_pages(),
        copied_pages: copies.map_or(0, |overlay| overlay.object.resident_pages()),
        mapped_pages: 0,
    }
}
