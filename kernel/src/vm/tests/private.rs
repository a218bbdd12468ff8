//! Private mappings: copies on write, dropped pages, boot modules.

use super::*;
use crate::arch::boot;
use dragonet_abi::Errno;
use dragonet_abi::memory::Advice;

const BASE: u64 = 0x1000_0000;

pub fn copy_on_write() -> Result<(), &'static str> {
    accounted(|| {
        let (one, other) = (space()?, space()?);
        let object = MemoryObject::anonymous(8 * PAGE).map_err(|_| "no object")?;
        map(&one, &of_object(BASE, 8, &object, MapFlags::SHARED))?;
        for page in 0..8 {
            demand!(write(&one, BASE + page * PAGE, page + 1), "a write failed");
        }
        // The right to read suffices for a private copy.
        let private = MapArguments {
            maximum: READ,
            ..of_object(2 * BASE, 8, &object, MapFlags::PRIVATE)
        };
        map(&other, &private)?;
        map(&one, &private)?;
        demand!(
            read(&other, 2 * BASE + 3 * PAGE) == Some(4),
            "a private page does not begin as the object's"
        );
        demand!(write(&one, BASE + 3 * PAGE, 40), "a write failed");
        demand!(
            read(&other, 2 * BASE + 3 * PAGE) == Some(40),
            "read-shared until written"
        );
        demand!(write(&other, 2 * BASE + 3 * PAGE, 400), "a private write failed");
        demand!(
            read(&other, 2 * BASE + 3 * PAGE) == Some(400),
            "a private write is lost"
        );
        demand!(
            read(&one, BASE + 3 * PAGE) == Some(40),
            "a private write reached the object"
        );
        demand!(
            read(&one, 2 * BASE + 3 * PAGE) == Some(40),
            "a private write reached another copy"
        );
        demand!(write(&one, BASE + 3 * PAGE, 41), "a write failed");
        demand!(
            read(&other, 2 * BASE + 3 * PAGE) == Some(400),
            "the object's write reached a copy"
        );
        // A write to a page that was never read, and clipping.
        demand!(
            write(&other, 2 * BASE + 5 * PAGE + 8, 7),
            "a private write failed"
        );
        demand!(
            read(&other, 2 * BASE + 5 * PAGE) == Some(6),
            "a copy is not complete"
        );
        demand!(other.unmap(2 * BASE, 3 * PAGE).is_ok(), "unmap failed");
        demand!(
            read(&other, 2 * BASE + 3 * PAGE) == Some(400),
            "clipping lost the copy"
        );
        demand!(
            read(&other, 2 * BASE + 4 * PAGE) == Some(5),
            "clipping moved the object"
        );
        demand!(
            object.resident_pages() == 8,
            "a private write made a page in the object"
        );
        Ok(())
    })
}

pub fn dont_need() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        map(&space, &anonymous(BASE, 600))?;
        for page in 0..600 {
            demand!(write(&space, BASE + page * PAGE, page + 1), "a write failed");
        }
        let before = crate::mm::frame::statistics().1;
        demand!(
            space.advise(BASE + PAGE, 598 * PAGE, Advice::DontNeed).is_ok(),
            "DontNeed failed"
        );
        demand!(
            crate::mm::frame::statistics().1 >= before + 598,
            "dropped pages are not free"
        );
        demand!(
            read(&space, BASE) == Some(1) && read(&space, BASE + 599 * PAGE) == Some(600),
            "too much dropped"
        );
        demand!(
            (1..599).all(|page| read(&space, BASE + page * PAGE) == Some(0)),
            "a dropped page has contents"
        );
        let object = MemoryObject::anonymous(2 * PAGE).map_err(|_| "no object")?;
        map(&space, &of_object(2 * BASE, 2, &object, MapFlags::SHARED))?;
        map(&space, &of_object(3 * BASE, 2, &object, MapFlags::PRIVATE))?;
        demand!(
            write(&space, 2 * BASE, 5) && write(&space, 3 * BASE, 6),
            "a write failed"
        );
        demand!(
            space.advise(2 * BASE, 2 * PAGE, Advice::DontNeed).is_ok(),
            "DontNeed failed"
        );
        demand!(
            space.advise(3 * BASE, 2 * PAGE, Advice::DontNeed).is_ok(),
            "DontNeed failed"
        );
        demand!(
            read(&space, 2 * BASE) == Some(5),
            "a page of a shared object was dropped"
        );
        demand!(
            read(&space, 3 * BASE) == Some(5),
            "a dropped copy does not show the object again"
        );
        demand!(
            space.advise(BASE, 600 * PAGE, Advice::WillNeed).is_ok(),
            "WillNeed failed"
        );
        demand!(
            space.statistics().resident_pages >= 600,
            "WillNeed brought nothing in"
        );
        Ok(())
    })
}

pub fn modules() -> Result<(), &'static str> {
    let Some(module) = boot::info().modules.first() else {
        // A boot with the kernel alone has none to try.
        return Ok(());
    };
    accounted(|| {
        let object = MemoryObject::module(module.physical, module.size).map_err(|_| "no module object")?;
        let space = space()?;
        let readable = Protection::READ | Protection::EXECUTE;
        let arguments = MapArguments {
            protection: READ,
            maximum: readable,
            ..of_object(BASE, 1, &object, MapFlags::SHARED)
        };
        map(&space, &arguments)?;
        let first = read(&space, BASE).ok_or("a module cannot be read")?;
        demand!(!write(&space, BASE, !first), "a write to a module");
        let writable = MapArguments {
            protection: READ_WRITE,
            maximum: Protection::all(),
            ..arguments.clone()
        };
        demand!(
            space.map(&writable) == Err(Errno::EACCES),
            "a writable mapping of a module"
        );
        let private = of_object(2 * BASE, 1, &object, MapFlags::PRIVATE);
        map(&space, &private)?;
        demand!(write(&space, 2 * BASE, !first), "a private write failed");
        demand!(read(&space, 2 * BASE) == Some(!first), "a private write is lost");
        demand!(
            read(&space, BASE) == Some(first),
            "a private write reached the module"
        );
        let outside = MemoryObject::module(module.physical, module.size + 2 * PAGE);
        demand!(
            outside.err() == Some(Errno::EINVAL),
            "an object beyond its module"
        );
        let ram = MemoryObject::device(module.physical, PAGE);
        demand!(ram.err() == Some(Errno::EACCES), "memory as a device");
        Ok(())
    })
}
