//! Large pages in mappings of device memory and boot modules. Device memory is never accessed: what is looked at is the page table.

use super::*;
use crate::arch::boot;
use crate::pmap::{EnterError, Target};
use crate::vm::{Access, FaultError};
use page_table::CacheMode;
use x86_64::PhysAddr;

const LARGE: u64 = 2 << 20;
/// Pages in a large page.
pub const PAGES: u64 = LARGE / PAGE;
const BASE: u64 = 0x4000_0000;

/// Device memory of some large pages that begins `offset` bytes above an aligned address.
fn device(offset: u64, size: u64) -> Result<(Arc<MemoryObject>, u64), &'static str> {
    // The upper half of physical addresses: far above memory.
    let physical = crate::mm::physical::address_limit() / 2 + offset;
    let object = MemoryObject::device(PhysAddr::new(physical), size).map_err(|_| "no device object")?;
    Ok((object, physical))
}

/// A shared mapping at a fixed address.
fn shared(space: &Vmspace, address: u64, object: &Arc<MemoryObject>) -> Result<(), &'static str> {
    let pages = object.size().div_ceil(PAGE);
    map(space, &of_object(address, pages, object, MapFlags::SHARED)).map(|_| ())
}

fn resident(space: &Vmspace) -> u64 {
    space.statistics().resident_pages
}

/// Faults at an address and tells where it leads then, and whether it can be written.
fn leads_to(space: &Vmspace, address: u64, access: Access) -> Option<(u64, bool)> {
    space.handle_fault(address, access).ok()?;
    let (physical, protection) = space.pmap().translation(address)?;
    let writable = protection.contains(page_table::Protection::WRITE);
    Some((physical.as_u64(), writable))
}

pub fn fits() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        // A head of half a large page, two large pages, a tail of a page.
        let head = LARGE / 2;
        let (object, physical) = device(head, head + 2 * LARGE + PAGE)?;
        shared(&space, BASE + head, &object)?;
        let to = |address: u64| Some((physical + (address - BASE - head), true));
        let middle = BASE + LARGE + 7 * PAGE;
        demand!(
            leads_to(&space, middle, Access::READ) == to(middle),
            "a wrong page in the middle"
        );
        demand!(resident(&space) == PAGES, "no large page in the middle");
        for address in [BASE + LARGE, BASE + 2 * LARGE - PAGE] {
            let (found, _) = space
                .pmap()
                .translation(address)
                .ok_or("the large page is not whole")?;
            demand!(Some((found.as_u64(), true)) == to(address), "a wrong page beside");
        }
        demand!(
            leads_to(&space, middle, Access::WRITE) == to(middle) && resident(&space) == PAGES,
            "the large page was entered twice"
        );
        for (number, address) in [BASE + head, BASE + LARGE - PAGE, BASE + 3 * LARGE]
            .into_iter()
            .enumerate()
        {
            demand!(
                leads_to(&space, address, Access::READ) == to(address),
                "a wrong page at the ends"
            );
            demand!(
                resident(&space) == PAGES + 1 + number as u64,
                "a large page sticks out of its mapping"
            );
        }
        // Where addresses and memory differ in their alignment there is none.
        let (object, physical) = device(PAGE, 4 * LARGE)?;
        shared(&space, 2 * BASE, &object)?;
        let before = resident(&space);
        demand!(
            leads_to(&space, 2 * BASE + LARGE, Access::READ) == Some((physical + LARGE, true))
                && resident(&space) == before + 1,
            "a large page that is not aligned"
        );
        // Memory that comes page by page has none either.
        map(&space, &anonymous(3 * BASE, PAGES))?;
        demand!(
            write(&space, 3 * BASE, 1) && resident(&space) == before + 2,
            "a large page of anonymous memory"
        );
        Ok(())
    })
}

pub fn parts() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        let (object, physical) = device(0, 2 * LARGE)?;
        shared(&space, BASE, &object)?;
        let to = |address: u64, writable: bool| Some((physical + (address - BASE), writable));
        for address in [BASE, BASE + LARGE] {
            leads_to(&space, address, Access::WRITE).ok_or("a fault failed")?;
        }
        demand!(resident(&space) == 2 * PAGES, "no large pages");
        // A page in the middle of the first goes: so do its neighbours, until they are used.
        space
            .unmap(BASE + 5 * PAGE, PAGE)
            .map_err(|_| "a page was not unmapped")?;
        demand!(
            resident(&space) == PAGES,
            "the count of mapped pages is wrong after an unmapping"
        );
        demand!(
            space.handle_fault(BASE + 5 * PAGE, Access::READ) == Err(FaultError::NotMapped)
                && space.pmap().translation(BASE + 5 * PAGE).is_none(),
            "an unmapped page of a large one is there"
        );
        for address in [BASE + 4 * PAGE, BASE + 6 * PAGE] {
            demand!(
                leads_to(&space, address, Access::WRITE) == to(address, true),
                "a neighbour of an unmapped page is elsewhere"
            );
        }
        demand!(
            resident(&space) == PAGES + 2,
            "neighbours of an unmapped page came back in one piece"
        );
        // A page of the second becomes read-only, and only that.
        let narrow = BASE + LARGE + 9 * PAGE;
        space
            .protect(narrow, PAGE, READ)
            .map_err(|_| "a page was not protected")?;
        demand!(
            space.handle_fault(narrow, Access::WRITE) == Err(FaultError::Protection)
                && leads_to(&space, narrow, Access::READ) == to(narrow, false),
            "a protected page of a large one can be written"
        );
        for address in [narrow - PAGE, narrow + PAGE] {
            demand!(
                leads_to(&space, address, Access::WRITE) == to(address, true),
                "a neighbour of a protected page cannot be written"
            );
        }
        demand!(
            leads_to(&space, narrow, Access::READ) == to(narrow, false),
            "a protected page became writable"
        );
        space
            .unmap(BASE, 2 * LARGE)
            .map_err(|_| "the rest was not unmapped")?;
        demand!(resident(&space) == 0, "pages are counted that are gone");
        // Where rights differ within it there is none, and a new mapping of the whole has one again.
        shared(&space, BASE, &object)?;
        space
            .protect(BASE + PAGE, PAGE, READ)
            .map_err(|_| "a page was not protected")?;
        leads_to(&space, BASE, Access::WRITE).ok_or("a fault failed")?;
        demand!(resident(&space) == 1, "a large page over different rights");
        shared(&space, BASE, &object)?;
        demand!(
            leads_to(&space, BASE + 3 * PAGE, Access::WRITE) == to(BASE + 3 * PAGE, true)
                && resident(&space) == PAGES,
            "no large page in a new mapping"
        );
        Ok(())
    })
}

/// Small pages in place of large ones and the other way round, in the page table itself.
pub fn replaced() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        let (object, physical) = device(0, LARGE)?;
        shared(&space, BASE, &object)?;
        let target = |page: u64, level: u8| Target {
            physical: PhysAddr::new(physical + page * PAGE),
            level,
            protection: page_table::Protection::READ,
            cache: CacheMode::Uncached,
        };
        let pmap = space.pmap();
        let enter = |page: u64, level: u8| {
            let entered = pmap.enter(BASE + page * PAGE, target(page, level), &[], pmap.stamp());
            entered.map_err(|_| "a page was not entered")
        };
        for page in [3, 5] {
            enter(page, 1)?;
        }
        let tables = pmap.table_pages();
        enter(0, 2)?;
        demand!(
            pmap.resident_pages() == PAGES && pmap.table_pages() == tables - 1,
            "small pages or their table are counted after a large page took their place"
        );
        enter(7, 1)?;
        demand!(
            pmap.resident_pages() == 1 && pmap.table_pages() == tables,
            "a large page is counted after a small one took its place"
        );
        demand!(
            pmap.translation(BASE).is_none() && pmap.translation(BASE + 7 * PAGE).is_some(),
            "a wrong page is mapped"
        );
        Ok(())
    })
}

/// The stamp is older than the unmapping of another part of the large page than the one that faulted.
pub fn stale() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        let (object, physical) = device(0, LARGE)?;
        shared(&space, BASE, &object)?;
        let target = Target {
            physical: PhysAddr::new(physical),
            level: 2,
            protection: page_table::Protection::READ,
            cache: CacheMode::Uncached,
        };
        let stamp = space.pmap().stamp();
        space
            .unmap(BASE + LARGE - PAGE, PAGE)
            .map_err(|_| "a page was not unmapped")?;
        demand!(
            space.pmap().enter(BASE, target, &[], stamp) == Err(EnterError::Stale) && resident(&space) == 0,
            "a page that was unmapped came back with a large one"
        );
        Ok(())
    })
}

pub fn placement() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        for offset in [3 * PAGE, 0, LARGE - PAGE] {
            let (object, physical) = device(offset, 3 * LARGE)?;
            let arguments = MapArguments {
                flags: MapFlags::SHARED,
                ..of_object(0, 3 * PAGES, &object, MapFlags::SHARED)
            };
            let address = map(&space, &arguments)?;
            demand!(
                address % LARGE == physical % LARGE,
                "large pages do not fit in a mapping"
            );
            let before = resident(&space);
            let inside = address.next_multiple_of(LARGE) + PAGE;
            demand!(
                leads_to(&space, inside, Access::READ) == Some((physical + (inside - address), true))
                    && resident(&space) == before + PAGES,
                "no large page in a mapping"
            );
        }
        Ok(())
    })
}

/// The first boot module with a large page in it, and where in it that begins.
pub fn module() -> Option<(Arc<MemoryObject>, u64)> {
    boot::info().modules.iter().find_map(|module| {
        let start = module.physical.as_u64();
        let offset = start.next_multiple_of(LARGE) - start;
        let object = MemoryObject::module(module.physical, module.size).ok()?;
        (offset + LARGE <= object.size()).then_some((object, offset))
    })
}

pub fn modules() -> Result<(), &'static str> {
    let Some((object, offset)) = module() else {
        // A boot with small modules alone has none to try.
        return Ok(());
    };
    accounted(|| {
        let (large, small) = (space()?, space()?);
        let mapping = |address: u64| MapArguments {
            protection: READ,
            maximum: READ,
            ..of_object(address, object.pages(), &object, MapFlags::SHARED)
        };
        let (here, there) = (BASE + LARGE - offset, BASE + LARGE - offset + PAGE);
        map(&large, &mapping(here))?;
        map(&small, &mapping(there))?;
        read(&large, here + offset).ok_or("a module cannot be read")?;
        read(&small, there + offset).ok_or("a module cannot be read")?;
        demand!(
            resident(&large) == PAGES && resident(&small) < PAGES,
            "no large page in a large module, or one that is not aligned"
        );
        for at in (0..object.size() - 8).step_by(61 * PAGE as usize + 8) {
            demand!(
                read(&large, here + at) == read(&small, there + at),
                "a module is different through large pages"
            );
        }
        Ok(())
    })
}
