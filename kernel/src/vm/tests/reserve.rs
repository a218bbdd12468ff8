//! Reserved addresses: guards, and stacks that grow.

use super::shootdown::{enter, store};
use super::*;
use crate::debug::counters;
use crate::vm::{Access, FaultError};
use alloc::vec::Vec;
use dragonet_abi::Errno;
use dragonet_abi::counters::Counter;
use dragonet_abi::layout::{STACK_GUARD, STACK_STEP};
use dragonet_abi::memory::Advice;
use dragonet_abi::vmspace::EntryKind;

const BASE: u64 = 0x1000_0000;
/// Bytes of a stack, its guard included.
const STACK: u64 = 16 * STACK_STEP;
const TOP: u64 = BASE + STACK;

fn guard(address: u64, pages: u64) -> MapArguments {
    let arguments = anonymous(address, pages);
    MapArguments {
        protection: Protection::empty(),
        flags: arguments.flags | MapFlags::GUARD,
        ..arguments
    }
}

fn stack(address: u64, length: u64) -> MapArguments {
    let arguments = anonymous(address, 1);
    MapArguments {
        length,
        flags: arguments.flags | MapFlags::STACK,
        ..arguments
    }
}

/// The entries, as (first page from `BASE`, pages, kind).
fn entries(space: &Vmspace) -> Vec<(u64, u64, EntryKind)> {
    let mut seen = Vec::new();
    space.for_each_entry(0, usize::MAX, |entry| {
        let pages = (entry.end - entry.start) / PAGE;
        if let Some(kind) = EntryKind::from_number(entry.kind) {
            seen.push((entry.start.wrapping_sub(BASE) / PAGE, pages, kind));
        }
    });
    seen
}

pub fn guards() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        map(&space, &anonymous(BASE, 16))?;
        demand!(
            (0..16).all(|page| write(&space, BASE + page * PAGE, page)),
            "a write failed"
        );
        map(&space, &guard(BASE + 4 * PAGE, 4))?;
        demand!(
            space.statistics().resident_pages == 12,
            "a guard leaves translations of what it replaced"
        );
        for (page, there) in [(3, true), (4, false), (7, false), (8, true)] {
            let expected = if there { Ok(()) } else { Err(FaultError::Guard) };
            let address = BASE + page * PAGE;
            for access in [Access::READ, Access::WRITE] {
                demand!(
                    space.handle_fault(address, access) == expected,
                    "a fault at the border of a guard"
                );
            }
            demand!(
                read(&space, address) == there.then_some(page),
                "a read of a guard"
            );
        }
        demand!(
            FaultError::Guard.error_code(Access::WRITE) == FaultError::NotMapped.error_code(Access::WRITE),
            "a guard looks as if something were mapped"
        );
        for protection in [Protection::empty(), READ, READ_WRITE] {
            for (address, pages) in [(BASE + 5 * PAGE, 1), (BASE, 16)] {
                demand!(
                    space.protect(address, pages * PAGE, protection) == Err(Errno::EACCES),
                    "a guard was opened"
                );
            }
        }
        demand!(
            write(&space, BASE, 0),
            "a refused protect narrowed what is beside the guard"
        );
        for advice in [Advice::WillNeed, Advice::DontNeed, Advice::Free] {
            demand!(
                space.advise(BASE + 4 * PAGE, 4 * PAGE, advice).is_ok(),
                "advice about a guard is an error"
            );
        }
        demand!(
            space.word_key(BASE + 4 * PAGE) == Err(Errno::EFAULT),
            "a word in a guard"
        );
        let exclusive = MapArguments {
            flags: anonymous(0, 1).flags | MapFlags::EXCLUSIVE,
            ..anonymous(BASE + 5 * PAGE, 1)
        };
        demand!(
            space.map(&exclusive) == Err(Errno::EEXIST),
            "a guard does not reserve"
        );
        let hint = MapArguments {
            flags: MapFlags::PRIVATE | MapFlags::ANONYMOUS,
            ..anonymous(BASE + 5 * PAGE, 1)
        };
        let placed = map(&space, &hint)?;
        demand!(
            !(BASE..BASE + 16 * PAGE).contains(&placed),
            "something was placed in a guard"
        );
        demand!(space.unmap(placed, PAGE).is_ok(), "unmap failed");
        // It goes like any other mapping, in parts.
        map(&space, &anonymous(BASE + 5 * PAGE, 1))?;
        demand!(
            space.unmap(BASE + 6 * PAGE, PAGE).is_ok(),
            "part of a guard cannot be unmapped"
        );
        demand!(
            read(&space, BASE + 5 * PAGE) == Some(0),
            "a guard cannot be replaced"
        );
        demand!(
            space.handle_fault(BASE + 6 * PAGE, Access::READ) == Err(FaultError::NotMapped),
            "a guard that was unmapped is still there"
        );
        let kinds = [
            (0, 4, EntryKind::Private),
            (4, 1, EntryKind::Guard),
            (5, 1, EntryKind::Private),
            (7, 1, EntryKind::Guard),
            (8, 8, EntryKind::Private),
        ];
        demand!(entries(&space) == kinds, "the entries are others");
        Ok(())
    })
}

pub fn stacks() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        let live = crate::vm::live_counts().1;
        map(&space, &stack(BASE, STACK))?;
        demand!(
            crate::vm::live_counts().1 == live + 1,
            "a stack has more than one object"
        );
        let (guard, pages, step) = (STACK_GUARD / PAGE, STACK / PAGE, STACK_STEP / PAGE);
        let with_border = |border| {
            [
                (0, guard, EntryKind::Guard),
                (guard, border - guard, EntryKind::Ungrown),
                (border, pages - border, EntryKind::Private),
            ]
        };
        demand!(
            entries(&space) == with_border(pages - step),
            "a new stack has other parts"
        );
        demand!(
            write(&space, TOP - 8, 1) && write(&space, TOP - STACK_STEP, 2),
            "the upper part cannot be used at once"
        );
        demand!(
            entries(&space) == with_border(pages - step),
            "a stack grew without need"
        );
        let counted = [
            Counter::FlushPage,
            Counter::FlushAll,
            Counter::IpiSent,
            Counter::Shootdown,
        ];
        let before = counted.map(counters::total);
        enter(Some(&space));
        let grown = store(&space, TOP - STACK_STEP - 8, 3);
        enter(None);
        demand!(grown, "a stack does not grow");
        demand!(
            counted.map(counters::total) == before,
            "growing flushed something"
        );
        demand!(
            entries(&space) == with_border(pages - 2 * step),
            "a stack does not grow by a step"
        );
        // Far below, by a load: everything in between belongs to the stack, but takes no memory.
        let resident = space.statistics().resident_pages;
        demand!(
            read(&space, TOP - 9 * STACK_STEP + 16) == Some(0),
            "a load does not let the stack grow"
        );
        demand!(
            space.statistics().resident_pages == resident + 1,
            "growing brings pages in"
        );
        demand!(
            entries(&space) == with_border(pages - 9 * step),
            "a stack does not grow by several steps"
        );
        demand!(
            read(&space, TOP - 8) == Some(1)
                && read(&space, TOP - STACK_STEP) == Some(2)
                && read(&space, TOP - STACK_STEP - 8) == Some(3),
            "growing moved the contents"
        );
        demand!(
            space.handle_fault(TOP - 10 * STACK_STEP, FETCH) == Err(FaultError::Protection),
            "a stack can be executed"
        );
        // Nothing else is placed in what is reserved.
        let below = TOP - 12 * STACK_STEP;
        let hint = MapArguments {
            flags: MapFlags::PRIVATE | MapFlags::ANONYMOUS,
            ..anonymous(below, 1)
        };
        let placed = map(&space, &hint)?;
        demand!(
            !(BASE..TOP).contains(&placed),
            "something was placed in a stack's reservation"
        );
        demand!(space.unmap(placed, PAGE).is_ok(), "unmap failed");
        // Down to the guard, and no further.
        demand!(
            write(&space, BASE + STACK_GUARD, 4),
            "a stack does not grow to its end"
        );
        demand!(
            entries(&space)
                == [
                    (0, guard, EntryKind::Guard),
                    (guard, pages - guard, EntryKind::Private)
                ],
            "a stack that is as large as it can be has other parts"
        );
        for address in [BASE, BASE + STACK_GUARD - 8] {
            demand!(
                space.handle_fault(address, Access::WRITE) == Err(FaultError::Guard),
                "a stack grew into its guard"
            );
        }
        demand!(read(&space, TOP - 8) == Some(1), "growing moved the contents");
        Ok(())
    })
}

const FETCH: Access = Access {
    execute: true,
    ..Access::READ
};

/// DragonFly's copyout to a stack that had not grown failed (b443039b5d): the kernel writes an argument block or a signal frame where
/// the program has not been yet.
pub fn kernel_writes() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        map(&space, &stack(BASE, STACK))?;
        // Across the border, and over several steps at once.
        let block: Vec<u8> = (0..3 * STACK_STEP).map(|byte| (byte % 251) as u8).collect();
        let address = TOP - STACK_STEP / 2 - block.len() as u64;
        demand!(
            space.write(address, &block) == Ok(block.len()),
            "a write to a stack that has not grown"
        );
        let mut back = alloc::vec![0; block.len()];
        demand!(
            space.read(address, &mut back) == Ok(block.len()) && back == block,
            "what was written is not there"
        );
        // By the copy of the current program, as for its own system calls.
        enter(Some(&space));
        let copied = store(&space, BASE + STACK_GUARD, 7);
        enter(None);
        demand!(
            copied && read(&space, BASE + STACK_GUARD) == Some(7),
            "a copy to a stack that has not grown"
        );
        // What begins in the guard fails at once, what runs into it ends there.
        demand!(
            space.write(BASE + STACK_GUARD - 8, &[1; 16]) == Err(Errno::EFAULT),
            "a write to the guard"
        );
        Ok(())
    })
}

/// What `mprotect`, `munmap` and `madvise` do to parts of a stack.
pub fn stack_parts() -> Result<(), &'static str> {
    accounted(|| {
        let space = space()?;
        map(&space, &stack(BASE, STACK))?;
        demand!(write(&space, TOP - 8, 1), "a write failed");
        demand!(
            space.protect(BASE, STACK, READ) == Err(Errno::EACCES)
                && space.protect(TOP - 2 * STACK_STEP, PAGE, READ_WRITE) == Err(Errno::EACCES),
            "what is reserved was given rights"
        );
        demand!(write(&space, TOP - 8, 2), "a refused protect had an effect");
        // Read-only at the border: loads grow, stores do not, and what is grown has the rights of what is above.
        let lowest = TOP - STACK_STEP;
        demand!(space.protect(lowest, PAGE, READ).is_ok(), "protect failed");
        demand!(
            space.handle_fault(lowest - 8, Access::WRITE) == Err(FaultError::Protection),
            "a store grew a part that is read-only"
        );
        demand!(read(&space, lowest - 8) == Some(0), "a load does not grow");
        demand!(!write(&space, lowest - 8, 1), "what has grown has more rights");
        demand!(
            space
                .protect(lowest - STACK_STEP, STACK_STEP + PAGE, READ_WRITE)
                .is_ok(),
            "what has grown cannot be given rights"
        );
        demand!(
            write(&space, lowest - 8, 3) && write(&space, lowest, 4),
            "rights had no effect"
        );
        // A hole in the middle leaves the rest as it is, and the stack grows on below it.
        demand!(space.unmap(TOP - STACK_STEP / 2, PAGE).is_ok(), "unmap failed");
        demand!(read(&space, TOP - STACK_STEP / 2).is_none(), "a hole can be read");
        demand!(
            write(&space, TOP - 4 * STACK_STEP, 5) && read(&space, lowest - 8) == Some(3),
            "a hole above stops the growth, or moves contents"
        );
        demand!(
            space.advise(TOP - 4 * STACK_STEP, PAGE, Advice::DontNeed).is_ok()
                && read(&space, TOP - 4 * STACK_STEP) == Some(0),
            "a page of a stack cannot be dropped"
        );
        // Without its lowest part, the reservation below is only that.
        demand!(space.unmap(TOP - 4 * STACK_STEP, PAGE).is_ok(), "unmap failed");
        demand!(
            space.handle_fault(TOP - 5 * STACK_STEP, Access::WRITE) == Err(FaultError::Guard),
            "a stack grew across a hole"
        );
        map(&space, &anonymous(TOP - 4 * STACK_STEP, 1))?;
        demand!(
            space.handle_fault(TOP - 5 * STACK_STEP, Access::WRITE) == Err(FaultError::Guard),
            "ordinary memory grew like a stack"
        );
        // A part of the reservation that is cut off never grows; the part above goes on to the new end.
        map(&space, &stack(BASE, STACK))?;
        demand!(space.unmap(BASE + 8 * STACK_STEP, PAGE).is_ok(), "unmap failed");
        demand!(
            space.handle_fault(BASE + 4 * STACK_STEP, Access::WRITE) == Err(FaultError::Guard)
                && write(&space, BASE + 8 * STACK_STEP + PAGE, 6)
                && !write(&space, BASE + 8 * STACK_STEP, 6),
            "a stack grew beyond a hole in its reservation"
        );
        demand!(space.unmap(BASE, STACK).is_ok(), "unmap failed");
        demand!(space.statistics().entries == 0, "entries are left");
        // The smallest: a guard and a page.
        map(&space, &stack(BASE, STACK_GUARD + PAGE))?;
        demand!(
            write(&space, BASE + STACK_GUARD, 1) && !write(&space, BASE, 1),
            "the smallest stack is no stack"
        );
        Ok(())
    })
}
