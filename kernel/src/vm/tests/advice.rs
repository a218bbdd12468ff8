//! Advice about ranges that are long, have holes, or meet memory that runs out; and a vmspace that is closed.

use super::*;
use crate::mm::frame::{self, Need, OwnedFrames};
use dragonet_abi::Errno;
use dragonet_abi::layout::{STACK_STEP, USER_END, USER_START};
use dragonet_abi::memory::Advice;

const BASE: u64 = 0x1000_0000;

/// Memory, a guard, memory, a hole, a private copy of an object, the object itself, a stack: 8 pages each, the stack more.
fn landscape(space: &Vmspace, object: &Arc<MemoryObject>) -> Result<(), &'static str> {
    let at = |place: u64| BASE + place * 8 * PAGE;
    map(space, &anonymous(at(0), 8))?;
    let guard = anonymous(at(1), 8);
    let guard = MapArguments {
        protection: Protection::empty(),
        flags: guard.flags | MapFlags::GUARD,
        ..guard
    };
    map(space, &guard)?;
    map(space, &anonymous(at(2), 8))?;
    map(space, &of_object(at(4), 8, object, MapFlags::PRIVATE))?;
    map(space, &of_object(at(5), 8, object, MapFlags::SHARED))?;
    let stack = anonymous(at(6), 4 * STACK_STEP / PAGE);
    let stack = MapArguments {
        flags: stack.flags | MapFlags::STACK,
        ..stack
    };
    map(space, &stack)?;
    Ok(())
}

pub fn across_entries() -> Result<(), &'static str> {
    accounted(|| {
        for advice in [Advice::DontNeed, Advice::Free] {
            let space = space()?;
            let object = MemoryObject::anonymous(8 * PAGE).map_err(|_| "no object")?;
            landscape(&space, &object)?;
            let top = BASE + 48 * PAGE + 4 * STACK_STEP;
            let shared = BASE + 40 * PAGE;
            let places = [
                BASE + PAGE,
                BASE + 7 * PAGE,
                BASE + 16 * PAGE,
                BASE + 32 * PAGE,
                top - PAGE,
            ];
            demand!(write(&space, shared, 9), "a write failed");
            demand!(
                places.iter().all(|&place| write(&space, place, 5)),
                "a write failed"
            );
            demand!(
                space.advise(BASE + PAGE, top - BASE - PAGE, advice).is_ok(),
                "advice across guards and holes is an error"
            );
            demand!(read(&space, shared) == Some(9), "a page of an object was dropped");
            demand!(
                read(&space, BASE + 32 * PAGE) == Some(9),
                "a copy was not dropped, or the object's page too"
            );
            demand!(
                places
                    .iter()
                    .filter(|&&place| place != BASE + 32 * PAGE)
                    .all(|&place| read(&space, place) == Some(0)),
                "a private page was not dropped"
            );
            // What is written after it stays.
            demand!(
                places
                    .iter()
                    .all(|&place| write(&space, place, 6) && read(&space, place) == Some(6)),
                "a write after the advice is lost"
            );
            demand!(
                space.advise(USER_START, USER_END - USER_START, advice).is_ok(),
                "advice about everything is an error"
            );
        }
        Ok(())
    })
}

pub fn will_need() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        let object = MemoryObject::anonymous(8 * PAGE).map_err(|_| "no object")?;
        landscape(&space, &object)?;
        let entries = space.statistics().entries;
        demand!(
            space
                .advise(USER_START, USER_END - USER_START, Advice::WillNeed)
                .is_ok(),
            "advice across guards and holes is an error"
        );
        // Four mappings, and what the stack has.
        demand!(
            space.statistics().resident_pages == 4 * 8 + STACK_STEP / PAGE,
            "not everything that can be touched was brought in, or more"
        );
        demand!(
            space.statistics().entries == entries,
            "the advice let a stack grow"
        );
        space.clear();
        // More than any single piece, and than an earlier limit.
        const MANY: u64 = 4096 + 100;
        map(&space, &anonymous(BASE, MANY))?;
        let mut asked = 0;
        let stopped = space.advise_while(BASE, MANY * PAGE, Advice::WillNeed, || {
            asked += 1;
            asked < 3
        });
        let resident = space.statistics().resident_pages;
        demand!(
            stopped == Err(Errno::EINTR) && asked == 3 && resident > 0 && resident < 1000,
            "the work cannot be stopped between two pieces"
        );
        demand!(
            space.advise(BASE, MANY * PAGE, Advice::WillNeed).is_ok()
                && space.statistics().resident_pages == MANY,
            "WillNeed ends too early"
        );
        Ok(())
    })
}

/// With more free frames the test takes long and shows nothing more.
const MANY_FRAMES: u64 = 200_000;

pub fn no_memory() -> Result<(), &'static str> {
    if frame::statistics().1 > MANY_FRAMES {
        return Ok(());
    }
    accounted(|| {
        let space = space()?;
        map(&space, &anonymous(BASE, 4096))?;
        let stack = anonymous(2 * BASE, 4 * STACK_STEP / PAGE);
        let stack = MapArguments {
            flags: stack.flags | MapFlags::STACK,
            ..stack
        };
        map(&space, &stack)?;
        let mut all = OwnedFrames::new();
        while let Ok(frame) = frame::allocate_for(Need::Program) {
            all.push(frame);
        }
        let advice = space.advise(BASE, 4096 * PAGE, Advice::WillNeed);
        let dropped = space.advise(BASE, 4096 * PAGE, Advice::DontNeed);
        let grown = space.write(2 * BASE + STACK_STEP, &[1]);
        drop(all);
        demand!(
            advice == Err(Errno::ENOMEM),
            "WillNeed does not say that memory ran out"
        );
        demand!(dropped.is_ok(), "dropping pages needs memory");
        demand!(
            grown == Err(Errno::ENOMEM),
            "a stack that cannot grow for want of memory says something else"
        );
        demand!(
            space.advise(BASE, 4096 * PAGE, Advice::WillNeed).is_ok()
                && space.write(2 * BASE + STACK_STEP, &[1]) == Ok(1),
            "it does not work when there is memory again"
        );
        Ok(())
    })
}

/// `map` after `clear`: whoever still has a vmspace that was destroyed, or whose process has ended, must not put anything in it.
pub fn closed() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        let object = MemoryObject::anonymous(8 * PAGE).map_err(|_| "no object")?;
        landscape(&space, &object)?;
        demand!(write(&space, BASE, 1), "a write failed");
        space.close();
        demand!(space.statistics().entries == 0, "closing leaves entries");
        for arguments in [
            anonymous(BASE, 1),
            MapArguments {
                flags: MapFlags::PRIVATE | MapFlags::ANONYMOUS,
                ..anonymous(0, 1)
            },
            of_object(BASE, 1, &object, MapFlags::SHARED),
        ] {
            demand!(
                space.map(&arguments) == Err(Errno::EBADF),
                "something was mapped in a closed vmspace"
            );
        }
        demand!(
            space.read(BASE, &mut [0; 8]) == Err(Errno::EFAULT)
                && space.unmap(BASE, PAGE).is_ok()
                && space.protect(BASE, PAGE, READ) == Err(Errno::ENOMEM),
            "a closed vmspace is not like an empty one"
        );
        demand!(
            space.statistics().resident_pages == 0 && space.statistics().table_pages == 1,
            "closing leaves pages or tables"
        );
        Ok(())
    })
}
