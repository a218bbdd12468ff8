//! Faults in different address spaces have no lock in common.

use super::*;
use crate::mm::frame::{self, OwnedFrames};
use crate::sync::record;
use crate::vm::Access;
use alloc::vec::Vec;
use dragonet_abi::memory::{Advice, Vpte};

const ANONYMOUS: u64 = 0x1000_0000;
const COPIED: u64 = 0x2000_0000;
const SHARED: u64 = 0x3000_0000;
const THROUGH_TABLE: u64 = 0x40_0000_0000;
/// Frames that all faults below need together; a CPU's cache holds more.
const FRAMES: usize = 48;

/// A vmspace with everything that faults are made in. The object is the same for all.
fn prepare(object: &Arc<MemoryObject>) -> Result<Arc<Vmspace>, &'static str> {
    let space = space()?;
    map(&space, &anonymous(ANONYMOUS, 8))?;
    map(&space, &of_object(COPIED, 64, object, MapFlags::PRIVATE))?;
    map(&space, &of_object(SHARED, 64, object, MapFlags::SHARED))?;
    let flags = MapFlags::SHARED | MapFlags::VPAGETABLE;
    map(&space, &of_object(THROUGH_TABLE, 64, object, flags))?;
    let root = PAGE | Vpte::VALID | Vpte::WRITE | Vpte::USER;
    demand!(
        space
            .control(THROUGH_TABLE, 64 * PAGE, Advice::SetMap, root)
            .is_ok(),
        "SetMap failed"
    );
    Ok(space)
}

/// Fills this CPU's cache of frames.
fn fill_cache() -> Result<(), &'static str> {
    let mut frames = OwnedFrames::new();
    for _ in 0..FRAMES {
        frames.push(frame::allocate().map_err(|_| "no frame")?);
    }
    Ok(())
}

/// The locks that the faults of one space take, by address, each once.
fn locks(space: &Vmspace) -> Result<Vec<usize>, &'static str> {
    let faults = [
        (ANONYMOUS, Access::READ),
        (ANONYMOUS + PAGE, Access::WRITE),
        (COPIED + 8 * PAGE, Access::READ),
        (COPIED + 8 * PAGE, Access::WRITE),
        (COPIED + 9 * PAGE, Access::WRITE),
        (SHARED + 8 * PAGE, Access::READ),
        (THROUGH_TABLE, Access::READ),
        (THROUGH_TABLE, Access::WRITE),
    ];
    fill_cache()?;
    let (results, taken) =
        record::locks_of(|| faults.map(|(address, access)| space.handle_fault(address, access)));
    demand!(results.iter().all(Result::is_ok), "a fault failed");
    demand!(taken.len() < record::MOST, "the record is full");
    let mut locks: Vec<usize> = taken.iter().map(|taken| taken.lock).collect();
    locks.sort_unstable();
    locks.dedup();
    Ok(locks)
}

pub fn separate() -> Result<(), &'static str> {
    if !record::RECORDS {
        return Ok(());
    }
    accounted(|| {
        let object = MemoryObject::anonymous(64 * PAGE).map_err(|_| "no object")?;
        let (one, other) = (prepare(&object)?, prepare(&object)?);
        let allow = Vpte::VALID | Vpte::WRITE | Vpte::USER;
        for (table, entry) in [(1, 2), (2, 3), (3, 4), (4, 16)] {
            demand!(
                write(&one, SHARED + table * PAGE, (entry * PAGE) | allow),
                "a write failed"
            );
        }
        let (first, second) = (locks(&one)?, locks(&other)?);
        // The map's and the page table's: that they are found shows that the record would find others.
        demand!(
            first.len() == 2 && second.len() == 2,
            "a fault takes other locks than those of its map and its page table"
        );
        demand!(
            first.iter().all(|lock| !second.contains(lock)),
            "faults in two address spaces take one lock"
        );
        // The test of the test: two spaces under one lock would be found.
        let again = locks_of_both(&one, &other);
        demand!(
            again.len() == 4 && first.iter().chain(&second).all(|lock| again.contains(lock)),
            "the record does not tell the locks of two spaces apart"
        );
        Ok(())
    })
}

/// Two owners of the same pages copy and reuse them, and take locks of their own alone.
pub fn owners() -> Result<(), &'static str> {
    const PAGES: u64 = 8;
    if !record::RECORDS {
        return Ok(());
    }
    accounted(|| {
        let parent = space()?;
        map(&parent, &anonymous(ANONYMOUS, PAGES))?;
        demand!(
            (0..PAGES).all(|page| write(&parent, ANONYMOUS + page * PAGE, page)),
            "a write failed"
        );
        let child = super::fork::child_of(&parent)?;
        let locks = |space: &Vmspace| {
            fill_cache()?;
            let (good, taken) = record::locks_of(|| {
                (0..PAGES).all(|page| {
                    let address = ANONYMOUS + page * PAGE;
                    space.handle_fault(address, Access::READ).is_ok()
                        && space.handle_fault(address, Access::WRITE).is_ok()
                })
            });
            demand!(
                good && taken.len() < record::MOST,
                "a fault failed, or the record is full"
            );
            Ok(taken)
        };
        let (copies, reuses) = (locks(&child)?, locks(&parent)?);
        demand!(
            copies
                .iter()
                .all(|one| reuses.iter().all(|other| one.lock != other.lock)),
            "two owners of a page take one lock"
        );
        let mut distinct: Vec<usize> = copies.iter().map(|taken| taken.lock).collect();
        distinct.sort_unstable();
        distinct.dedup();
        demand!(
            distinct.len() == 3,
            "a copy takes other locks than those of the map, the page table and the pages"
        );
        Ok(())
    })
}

fn locks_of_both(one: &Vmspace, other: &Vmspace) -> Vec<usize> {
    let (_, taken) =
        record::locks_of(|| [one, other].map(|space| space.handle_fault(ANONYMOUS + 2 * PAGE, Access::READ)));
    let mut locks: Vec<usize> = taken.iter().map(|taken| taken.lock).collect();
    locks.sort_unstable();
    locks.dedup();
    locks
}
