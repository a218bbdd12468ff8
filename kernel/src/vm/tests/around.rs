//! Fault-around: what is mapped beside a page that faulted, and what is not.

use super::*;
use crate::debug::counters;
use crate::pmap::{Cause, Target};
use crate::vm::Access;
use dragonet_abi::counters::Counter;
use dragonet_abi::memory::{Advice, Vpte};
use page_table::CacheMode;
use x86_64::PhysAddr;

/// In the middle of a window, so that the first and the last one are not whole.
const BASE: u64 = 0x1000_0000 + 5 * PAGE;
const PAGES: u64 = 40;
/// Pages that are not there.
const MISSING: [u64; 2] = [13, 20];

/// An object of which all pages but [`MISSING`] are there, each with its number.
fn object() -> Result<Arc<MemoryObject>, &'static str> {
    let object = MemoryObject::anonymous(PAGES * PAGE).map_err(|_| "no object")?;
    let space = space()?;
    map(&space, &of_object(BASE, PAGES, &object, MapFlags::SHARED))?;
    for page in (0..PAGES).filter(|page| !MISSING.contains(page)) {
        demand!(write(&space, BASE + page * PAGE, page), "a write failed");
    }
    Ok(object)
}

/// The rights with which a page of the mapping at `BASE` is entered.
fn rights(space: &Vmspace, page: u64) -> Option<page_table::Protection> {
    space
        .pmap()
        .translation(BASE + page * PAGE)
        .map(|(_, rights)| rights)
}

/// True if exactly these pages of the mapping at `BASE` are entered.
fn entered(space: &Vmspace, expected: impl Fn(u64) -> bool) -> bool {
    (0..PAGES).all(|page| rights(space, page).is_some() == expected(page))
        && space.statistics().resident_pages == (0..PAGES).filter(|&page| expected(page)).count() as u64
}

pub fn neighbours() -> Result<(), &'static str> {
    accounted(|| {
        let object = object()?;
        let space = space()?;
        map(&space, &of_object(BASE, PAGES, &object, MapFlags::SHARED))?;
        let counted = [Counter::FlushPage, Counter::FlushAll, Counter::Shootdown];
        let flushes = counted.map(counters::total);
        let around = counters::total(Counter::PageMappedAround);
        // Page 11 of the mapping begins a window.
        demand!(
            space.handle_fault(BASE + 15 * PAGE, Access::READ).is_ok(),
            "a fault failed"
        );
        demand!(
            entered(&space, |page| (11..27).contains(&page)
                && !MISSING.contains(&page)),
            "a window is not what is there of 16 aligned pages"
        );
        demand!(
            counters::total(Counter::PageMappedAround) >= around + 13,
            "pages beside the fault are not counted"
        );
        demand!(
            space.statistics().table_pages == 4,
            "more tables than the fault itself needs"
        );
        demand!(
            object.resident_pages() == PAGES - MISSING.len() as u64,
            "a page was made"
        );
        // The first window and the last one end with the mapping.
        for page in [0, PAGES - 1] {
            demand!(
                space.handle_fault(BASE + page * PAGE, Access::READ).is_ok(),
                "a fault failed"
            );
        }
        demand!(
            entered(&space, |page| !MISSING.contains(&page)),
            "a window beyond its mapping, or not up to its end"
        );
        let all = page_table::Protection::READ | page_table::Protection::WRITE;
        demand!(
            (0..PAGES).all(|page| rights(&space, page).is_none_or(|rights| rights == all)),
            "a neighbour has other rights than a fault would give"
        );
        demand!(
            (0..PAGES).all(|page| read(&space, BASE + page * PAGE)
                == Some(if MISSING.contains(&page) { 0 } else { page })),
            "a neighbour leads to another page"
        );
        demand!(counted.map(counters::total) == flushes, "something was flushed");
        // A store brings its page alone.
        demand!(space.unmap(BASE, PAGES * PAGE).is_ok(), "unmap failed");
        map(&space, &of_object(BASE, PAGES, &object, MapFlags::SHARED))?;
        demand!(write(&space, BASE + 15 * PAGE, 15), "a write failed");
        demand!(
            entered(&space, |page| page == 15),
            "a store mapped its neighbours"
        );
        Ok(())
    })
}

/// In a private mapping copies have all rights, and what is still the object's only those of a load. What is entered stays.
pub fn private_neighbours() -> Result<(), &'static str> {
    accounted(|| {
        let object = object()?;
        let space = space()?;
        map(&space, &of_object(BASE, PAGES, &object, MapFlags::PRIVATE))?;
        for page in [12, 14] {
            demand!(write(&space, BASE + page * PAGE, 100 + page), "a write failed");
        }
        // Their translations go, the copies stay.
        demand!(
            space.protect(BASE, PAGES * PAGE, Protection::empty()).is_ok()
                && space.protect(BASE, PAGES * PAGE, READ_WRITE).is_ok(),
            "protect failed"
        );
        demand!(entered(&space, |_| false), "translations are left");
        demand!(read(&space, BASE + 11 * PAGE) == Some(11), "a read failed");
        let write_right = page_table::Protection::WRITE;
        for page in 11..27 {
            let expected = if MISSING.contains(&page) {
                None
            } else {
                Some([12, 14].contains(&page))
            };
            demand!(
                rights(&space, page).map(|rights| rights.contains(write_right)) == expected,
                "a neighbour has other rights than a load would get"
            );
        }
        demand!(
            write(&space, BASE + 16 * PAGE, 116) && read(&space, BASE + 16 * PAGE) == Some(116),
            "a store to a neighbour is lost"
        );
        let copy = space.pmap().translation(BASE + 16 * PAGE);
        demand!(
            space.advise(BASE + 11 * PAGE, PAGE, Advice::WillNeed).is_ok(),
            "advice failed"
        );
        demand!(
            space.handle_fault(BASE + 11 * PAGE, Access::READ).is_ok(),
            "a fault failed"
        );
        demand!(
            space.pmap().translation(BASE + 16 * PAGE) == copy,
            "a translation that was there is another one"
        );
        demand!(
            (11..27).all(|page| read(&space, BASE + page * PAGE)
                == Some(match page {
                    13 | 20 => 0,
                    12 | 14 | 16 => 100 + page,
                    _ => page,
                })),
            "a neighbour leads to another page"
        );
        Ok(())
    })
}

/// Pages that a fork shares are neighbours like any, but nobody may write to them in place.
pub fn shared_neighbours() -> Result<(), &'static str> {
    accounted(|| {
        let parent = space()?;
        map(&parent, &anonymous(BASE, PAGES))?;
        for page in (0..PAGES).filter(|page| !MISSING.contains(page)) {
            demand!(write(&parent, BASE + page * PAGE, page), "a write failed");
        }
        let child = fork::child_of(&parent)?;
        // The parent's own again, before anybody looks.
        demand!(write(&parent, BASE + 12 * PAGE, 112), "a write failed");
        for space in [&parent, &child] {
            demand!(
                space.protect(BASE, PAGES * PAGE, Protection::empty()).is_ok()
                    && space.protect(BASE, PAGES * PAGE, READ_WRITE).is_ok(),
                "protect failed"
            );
            demand!(
                space.handle_fault(BASE + 15 * PAGE, Access::READ).is_ok(),
                "a fault failed"
            );
            let present = |page: &u64| !MISSING.contains(page);
            demand!(
                entered(space, |page| (11..27).contains(&page) && present(&page)),
                "a window is not what is there of 16 aligned pages"
            );
            for page in (11..27).filter(present) {
                let writable =
                    rights(space, page).is_some_and(|rights| rights.contains(page_table::Protection::WRITE));
                // The parent has a copy of this one, and so the child is the only owner of the original.
                demand!(
                    writable == (page == 12),
                    "a neighbour that is shared can be written, or one that is not cannot"
                );
            }
        }
        demand!(write(&parent, BASE + 16 * PAGE, 116), "a write failed");
        for page in 0..PAGES {
            let original = if MISSING.contains(&page) { 0 } else { page };
            let changed = match page {
                12 | 16 => 100 + page,
                _ => original,
            };
            demand!(
                read(&parent, BASE + page * PAGE) == Some(changed)
                    && read(&child, BASE + page * PAGE) == Some(original),
                "a store went through to the other side"
            );
        }
        Ok(())
    })
}

/// Each neighbour is under the interlock, like a page that faulted itself.
pub fn invalidated_neighbours() -> Result<(), &'static str> {
    accounted(|| {
        let object = object()?;
        let space = space()?;
        map(&space, &of_object(BASE, PAGES, &object, MapFlags::SHARED))?;
        let target = Target {
            physical: PhysAddr::new(0),
            level: 1,
            protection: page_table::Protection::READ,
            cache: CacheMode::WriteBack,
        };
        let stamp = space.pmap().stamp();
        let gone = BASE + 12 * PAGE..BASE + 13 * PAGE;
        drop(space.pmap().remove(&gone, &gone, Cause::Unmap));
        let neighbours = [12, 14].map(|page| (BASE + page * PAGE, target));
        demand!(
            space
                .pmap()
                .enter(BASE + 11 * PAGE, target, &neighbours, stamp)
                .is_ok(),
            "an address that was not invalidated is refused"
        );
        demand!(
            entered(&space, |page| page == 11 || page == 14),
            "a neighbour that was invalidated meanwhile was entered"
        );
        Ok(())
    })
}

/// A virtual page table marks what is used; nobody has used the neighbours.
pub fn vpagetable_neighbours() -> Result<(), &'static str> {
    accounted(|| {
        let object = object()?;
        let space = space()?;
        let flags = MapFlags::SHARED | MapFlags::VPAGETABLE;
        let base = BASE + 256 * PAGE;
        map(&space, &of_object(BASE, PAGES, &object, MapFlags::SHARED))?;
        map(&space, &of_object(base, 16, &object, flags))?;
        let allow = Vpte::VALID | Vpte::WRITE | Vpte::USER;
        for (table, entry) in [(1, 2), (2, 3), (3, 4)] {
            demand!(
                write(&space, BASE + table * PAGE, (entry * PAGE) | allow),
                "a write failed"
            );
        }
        for page in 0..16 {
            let entry = ((21 + page) * PAGE) | allow;
            demand!(write(&space, BASE + 4 * PAGE + 8 * page, entry), "a write failed");
        }
        demand!(
            space
                .control(base, 16 * PAGE, Advice::SetMap, PAGE | allow)
                .is_ok(),
            "SetMap failed"
        );
        demand!(
            space.advise(base, 16 * PAGE, Advice::WillNeed).is_ok(),
            "advice failed"
        );
        demand!(read(&space, base + 3 * PAGE) == Some(24), "a read failed");
        for page in 0..16 {
            let entry = read(&space, BASE + 4 * PAGE + 8 * page).ok_or("a read failed")?;
            demand!(
                (entry & Vpte::ACCESSED != 0) == (page == 3),
                "an entry that nobody used is marked as accessed"
            );
            demand!(
                space.pmap().translation(base + page * PAGE).is_some() == (page == 3),
                "a neighbour was mapped through a virtual page table"
            );
        }
        Ok(())
    })
}
