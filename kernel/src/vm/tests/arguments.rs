//! Arguments, ranges and protection.

use super::*;
use crate::arch::clock;
use dragonet_abi::Errno;
use dragonet_abi::layout::{PLACEMENT_END, PLACEMENT_START, USER_END, USER_START};
use dragonet_abi::memory::Advice;

const BASE: u64 = 0x1000_0000;

pub fn refused() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        let object = MemoryObject::anonymous(4 * PAGE).map_err(|_| "no object")?;
        let good = anonymous(BASE, 1);
        let shared = of_object(BASE, 1, &object, MapFlags::SHARED);
        let fixed = |address, length| MapArguments {
            address,
            length,
            ..good.clone()
        };
        let flags = |flags| MapArguments {
            flags,
            ..good.clone()
        };
        let protection = |bits| MapArguments {
            protection: Protection::from_bits_retain(bits),
            ..good.clone()
        };
        let vpagetable = of_object(BASE, 1, &object, MapFlags::SHARED | MapFlags::VPAGETABLE);
        let guard = MapArguments {
            protection: Protection::empty(),
            ..flags(good.flags | MapFlags::GUARD)
        };
        let stack = MapArguments {
            length: 2 * PAGE,
            ..flags(good.flags | MapFlags::STACK)
        };
        for (arguments, errno, text) in [
            (fixed(BASE + 1, PAGE), Errno::EINVAL, "misaligned"),
            (fixed(BASE, 0), Errno::EINVAL, "no length"),
            (
                fixed(BASE, u64::MAX),
                Errno::EINVAL,
                "a length that cannot be rounded",
            ),
            (fixed(BASE, u64::MAX - PAGE), Errno::EINVAL, "a length that wraps"),
            (fixed(0, PAGE), Errno::EINVAL, "page 0"),
            (
                fixed(USER_START - PAGE, PAGE),
                Errno::EINVAL,
                "below the first address",
            ),
            (fixed(USER_END, PAGE), Errno::EINVAL, "above the last address"),
            (
                fixed(USER_END - PAGE, 2 * PAGE),
                Errno::EINVAL,
                "across the last address",
            ),
            (fixed(0x8000_0000_0000, PAGE), Errno::EINVAL, "non-canonical"),
            (fixed(0xffff_8000_0000_0000, PAGE), Errno::EINVAL, "the kernel"),
            (
                flags(MapFlags::ANONYMOUS),
                Errno::EINVAL,
                "neither shared nor private",
            ),
            (
                flags(good.flags | MapFlags::SHARED),
                Errno::EINVAL,
                "shared and private",
            ),
            (
                flags(good.flags - MapFlags::ANONYMOUS),
                Errno::EINVAL,
                "no object",
            ),
            (
                flags((good.flags - MapFlags::FIXED) | MapFlags::EXCLUSIVE),
                Errno::EINVAL,
                "exclusive without fixed",
            ),
            (
                flags(MapFlags::from_bits_retain(good.flags.bits() | 1 << 20)),
                Errno::EINVAL,
                "unknown flags",
            ),
            (protection(8), Errno::EINVAL, "unknown protection"),
            (protection(2), Errno::EINVAL, "write only"),
            (protection(4), Errno::EINVAL, "execute only"),
            (protection(7), Errno::EINVAL, "write and execute"),
            (
                MapArguments {
                    flags: good.flags,
                    ..shared.clone()
                },
                Errno::EINVAL,
                "anonymous with an object",
            ),
            (
                flags(good.flags | MapFlags::GUEST_MEMORY),
                Errno::EINVAL,
                "a machine's memory that is private",
            ),
            (
                flags(MapFlags::SHARED | MapFlags::ANONYMOUS | MapFlags::FIXED | MapFlags::GUEST_MEMORY),
                Errno::EINVAL,
                "a machine's memory that nobody can name",
            ),
            (
                MapArguments {
                    flags: vpagetable.flags | MapFlags::GUEST_MEMORY,
                    ..vpagetable.clone()
                },
                Errno::EINVAL,
                "a machine's memory with a virtual page table",
            ),
            (
                MapArguments {
                    offset: 1,
                    ..shared.clone()
                },
                Errno::EINVAL,
                "a misaligned offset",
            ),
            (
                MapArguments {
                    offset: 4 * PAGE,
                    ..shared.clone()
                },
                Errno::ERANGE,
                "behind the object",
            ),
            (
                MapArguments {
                    length: 5 * PAGE,
                    ..shared.clone()
                },
                Errno::ERANGE,
                "beyond the object",
            ),
            (
                MapArguments {
                    offset: !0xfff,
                    ..shared.clone()
                },
                Errno::ERANGE,
                "an offset that wraps",
            ),
            (
                MapArguments {
                    maximum: READ,
                    ..shared.clone()
                },
                Errno::EACCES,
                "more than the rights",
            ),
            (
                MapArguments {
                    maximum: Protection::empty(),
                    protection: READ,
                    ..shared.clone()
                },
                Errno::EACCES,
                "an object that may not be read",
            ),
            (
                MapArguments {
                    protection: READ,
                    ..vpagetable.clone()
                },
                Errno::EINVAL,
                "a page table without write",
            ),
            (
                MapArguments {
                    maximum: READ,
                    ..vpagetable.clone()
                },
                Errno::EACCES,
                "a page table in a read-only object",
            ),
            (
                flags(good.flags | MapFlags::VPAGETABLE),
                Errno::EINVAL,
                "a page table without an object",
            ),
            (
                MapArguments {
                    offset: 1 << 48,
                    ..vpagetable.clone()
                },
                Errno::ERANGE,
                "an index beyond the table",
            ),
            (
                MapArguments {
                    flags: MapFlags::PRIVATE | MapFlags::ANONYMOUS,
                    ..fixed(BASE + 8, PAGE)
                },
                Errno::EINVAL,
                "a misaligned hint",
            ),
            (
                MapArguments {
                    protection: READ,
                    ..guard.clone()
                },
                Errno::EINVAL,
                "a guard that allows something",
            ),
            (
                MapArguments {
                    flags: guard.flags - MapFlags::PRIVATE | MapFlags::SHARED,
                    ..guard.clone()
                },
                Errno::EINVAL,
                "a shared guard",
            ),
            (
                MapArguments {
                    flags: guard.flags - MapFlags::ANONYMOUS,
                    object: Some(object.clone()),
                    ..guard.clone()
                },
                Errno::EINVAL,
                "a guard with an object",
            ),
            (
                MapArguments {
                    flags: guard.flags | MapFlags::STACK,
                    ..guard.clone()
                },
                Errno::EINVAL,
                "a guard that is a stack",
            ),
            (
                MapArguments {
                    flags: guard.flags | MapFlags::VPAGETABLE,
                    ..guard.clone()
                },
                Errno::EINVAL,
                "a guard with a page table",
            ),
            (
                MapArguments {
                    protection: READ,
                    ..stack.clone()
                },
                Errno::EINVAL,
                "a stack that cannot be written",
            ),
            (
                MapArguments {
                    flags: stack.flags - MapFlags::PRIVATE | MapFlags::SHARED,
                    ..stack.clone()
                },
                Errno::EINVAL,
                "a shared stack",
            ),
            (
                MapArguments {
                    flags: stack.flags - MapFlags::ANONYMOUS,
                    object: Some(object.clone()),
                    ..stack.clone()
                },
                Errno::EINVAL,
                "a stack with an object",
            ),
            (
                MapArguments {
                    flags: stack.flags | MapFlags::VPAGETABLE,
                    ..stack.clone()
                },
                Errno::EINVAL,
                "a stack with a page table",
            ),
            (
                MapArguments {
                    length: PAGE,
                    ..stack.clone()
                },
                Errno::EINVAL,
                "a stack that is all guard",
            ),
        ] {
            if space.map(&arguments) != Err(errno) {
                return Err(text);
            }
        }
        map(&space, &good)?;
        let exclusive = flags(good.flags | MapFlags::EXCLUSIVE);
        demand!(
            space.map(&exclusive) == Err(Errno::EEXIST),
            "exclusive where something is"
        );
        for (address, length) in [
            (BASE + 1, PAGE),
            (BASE, u64::MAX),
            (!0xfff, 2 * PAGE),
            (USER_END - PAGE, 2 * PAGE),
            (0xffff_8000_0000_0000, PAGE),
        ] {
            demand!(
                space.unmap(address, length) == Err(Errno::EINVAL),
                "unmap of a bad range"
            );
            demand!(
                space.protect(address, length, READ) == Err(Errno::EINVAL),
                "protect of a bad range"
            );
            for advice in [
                Advice::DontNeed,
                Advice::Free,
                Advice::WillNeed,
                Advice::Invalidate,
                Advice::SetMap,
            ] {
                let result = space.control(address, length, advice, 0);
                demand!(result == Err(Errno::EINVAL), "advice for a bad range");
            }
        }
        demand!(
            space.advise(BASE, PAGE, Advice::SetMap) == Err(Errno::EINVAL),
            "SetMap by madvise"
        );
        demand!(
            space.control(BASE, PAGE, Advice::SetMap, 0) == Err(Errno::EINVAL),
            "SetMap of ordinary memory"
        );
        demand!(
            space.advise(BASE, PAGE, Advice::Invalidate) == Err(Errno::EINVAL),
            "Invalidate of ordinary memory"
        );
        demand!(
            space.protect(BASE, 2 * PAGE, READ) == Err(Errno::ENOMEM),
            "protect over a hole"
        );
        demand!(
            MemoryObject::anonymous(0).err() == Some(Errno::EINVAL),
            "an empty object"
        );
        let huge = dragonet_abi::layout::MAX_OBJECT_SIZE + 1;
        demand!(
            MemoryObject::anonymous(huge).err() == Some(Errno::ENOMEM),
            "an object above the limit"
        );
        demand!(
            MemoryObject::anonymous(u64::MAX).err() == Some(Errno::ENOMEM),
            "an endless object"
        );
        demand!(
            space.read(BASE + PAGE, &mut [0; 1]) == Err(Errno::EFAULT),
            "read of a hole"
        );
        demand!(
            space.read(u64::MAX, &mut [0; 16]) == Err(Errno::EFAULT),
            "read that wraps"
        );
        demand!(
            space.write(0xffff_8000_0000_0000, &[0; 16]) == Err(Errno::EFAULT),
            "write to the kernel"
        );
        demand!(
            space.read(BASE + PAGE - 8, &mut [0; 16]) == Ok(8),
            "read up to a hole"
        );
        Ok(())
    })
}

pub fn ranges() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        map(&space, &anonymous(BASE, 16))?;
        for page in 0..16 {
            demand!(write(&space, BASE + page * PAGE, page + 100), "a write failed");
        }
        demand!(
            space.unmap(BASE + 4 * PAGE, 8 * PAGE).is_ok(),
            "a hole cannot be cut"
        );
        demand!(
            space.statistics().entries == 2,
            "cutting a hole makes two entries"
        );
        for page in 0..16 {
            let expected = (!(4..12).contains(&page)).then_some(page + 100);
            demand!(
                read(&space, BASE + page * PAGE) == expected,
                "clipping moved contents"
            );
        }
        // Replacing keeps nothing of what was there.
        map(&space, &anonymous(BASE + 2 * PAGE, 4))?;
        for page in 0..16 {
            let expected = match page {
                2..6 => Some(0),
                6..12 => None,
                _ => Some(page + 100),
            };
            demand!(
                read(&space, BASE + page * PAGE) == expected,
                "replacing went wrong"
            );
        }
        demand!(space.unmap(BASE, 64 * PAGE).is_ok(), "holes are allowed");
        demand!(space.statistics().entries == 0, "entries are left");
        demand!(space.statistics().resident_pages == 0, "pages are left");
        demand!(space.statistics().table_pages == 1, "tables are left");
        let free = |hint| MapArguments {
            flags: MapFlags::PRIVATE | MapFlags::ANONYMOUS,
            ..anonymous(hint, 2)
        };
        let first = map(&space, &free(0))?;
        let second = map(&space, &free(first))?;
        let hinted = map(&space, &free(BASE))?;
        demand!(
            first == PLACEMENT_START && second == first + 2 * PAGE,
            "placement is not lowest first"
        );
        demand!(hinted == BASE, "a free hint is not taken");
        let huge = MapArguments {
            length: PLACEMENT_END - PLACEMENT_START,
            ..free(0)
        };
        demand!(space.map(&huge) == Err(Errno::ENOMEM), "no room, yet placed");
        let mut seen = 0;
        let next = space.for_each_entry(0, 2, |entry| seen += entry.end - entry.start);
        demand!(
            seen == 4 * PAGE && next == Some(second),
            "inspection shows something else"
        );
        space.clear();
        demand!(
            space.for_each_entry(0, 2, |_| ()).is_none(),
            "entries are left after clear"
        );
        Ok(())
    })
}

/// A hint is taken if the whole range can be mapped there and is free; else the mapping goes elsewhere.
pub fn hints() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        let hint = |address, pages| MapArguments {
            flags: MapFlags::PRIVATE | MapFlags::ANONYMOUS,
            ..anonymous(address, pages)
        };
        demand!(map(&space, &hint(BASE, 4))? == BASE, "a free hint is not taken");
        let mut next = PLACEMENT_START;
        for (address, text) in [
            (BASE, "an occupied hint"),
            (BASE + 3 * PAGE, "a hint of which the first page is occupied"),
            (BASE - PAGE, "a hint of which the last page is occupied"),
            (0, "no hint"),
            (PAGE, "a hint below the first address"),
            (USER_END - PAGE, "a hint that reaches over the end"),
            (USER_END, "a hint at the end"),
            (1 << 47, "a hint that is no address"),
            (!0xfff, "a hint that wraps"),
        ] {
            let placed = space.map(&hint(address, 2)).map_err(|_| text)?;
            if placed != next {
                return Err(text);
            }
            next += 2 * PAGE;
        }
        // Where programs are not placed by themselves a hint still counts.
        demand!(
            map(&space, &hint(USER_END - 2 * PAGE, 2))? == USER_END - 2 * PAGE,
            "the last pages cannot be had by a hint"
        );
        for address in [BASE + 1, USER_END - 1, u64::MAX] {
            demand!(
                space.map(&hint(address, 2)) == Err(Errno::EINVAL),
                "a misaligned hint is no error"
            );
        }
        Ok(())
    })
}

pub fn protection() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        map(&space, &anonymous(BASE, 4))?;
        demand!(
            (0..4).all(|page| write(&space, BASE + page * PAGE, page)),
            "a write failed"
        );
        demand!(space.protect(BASE + PAGE, PAGE, READ).is_ok(), "protect failed");
        demand!(!write(&space, BASE + PAGE, 9), "a write to read-only memory");
        demand!(read(&space, BASE + PAGE) == Some(1), "narrowing lost contents");
        demand!(write(&space, BASE + 2 * PAGE, 9), "narrowing reached a neighbour");
        demand!(
            space.protect(BASE + PAGE, PAGE, READ_WRITE).is_ok(),
            "protect failed"
        );
        demand!(write(&space, BASE + PAGE, 10), "widening had no effect");
        demand!(
            space.protect(BASE, 4 * PAGE, Protection::empty()).is_ok(),
            "protect failed"
        );
        demand!(
            read(&space, BASE + PAGE).is_none(),
            "a read of memory without rights"
        );
        demand!(space.protect(BASE, 4 * PAGE, READ).is_ok(), "protect failed");
        demand!(read(&space, BASE + PAGE) == Some(10), "contents are lost");
        for bits in [2, 4, 7, 8] {
            let result = space.protect(BASE, PAGE, Protection::from_bits_retain(bits));
            demand!(result == Err(Errno::EINVAL), "a bad protection was accepted");
        }
        let object = MemoryObject::anonymous(PAGE).map_err(|_| "no object")?;
        let read_only = MapArguments {
            protection: READ,
            maximum: READ,
            ..of_object(BASE, 1, &object, MapFlags::SHARED)
        };
        map(&space, &read_only)?;
        demand!(
            space.protect(BASE, PAGE, READ_WRITE) == Err(Errno::EACCES),
            "protect beyond the rights"
        );
        Ok(())
    })
}

pub fn whole_space() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        // Pages that share no table, far apart, and one mapping that spans nearly everything.
        map(
            &space,
            &MapArguments {
                length: 1 << 42,
                flags: MapFlags::SHARED | MapFlags::ANONYMOUS | MapFlags::FIXED,
                ..anonymous(1 << 44, 1)
            },
        )?;
        for step in 0..64u64 {
            map(&space, &anonymous(BASE + (step << 39), 1)).ok();
            demand!(write(&space, (1 << 44) + (step << 36), step), "a write failed");
        }
        let before = clock::now();
        space.clear();
        let first = clock::now() - before;
        let before = clock::now();
        demand!(
            space.unmap(USER_START, USER_END - USER_START).is_ok(),
            "unmap failed"
        );
        let second = clock::now() - before;
        log::debug!("clear of 64 pages in 6 TiB: {first} ns, of nothing: {second} ns");
        demand!(first < 1_000_000_000 && second < 100_000_000, "it took too long");
        demand!(space.statistics().table_pages == 1, "tables are left");
        Ok(())
    })
}
