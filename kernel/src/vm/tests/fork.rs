//! Copies of address spaces: what both sides see, what is shared, what is inherited, what fails. Long because each test sets its own scene.

use super::*;
use crate::debug::counters;
use crate::mm::frame;
use crate::pmap::{Commit, Target};
use crate::vm::fork::Fork;
use crate::vm::fork_while;
use dragonet_abi::Errno;
use dragonet_abi::counters::Counter;
use dragonet_abi::layout::STACK_STEP;
use dragonet_abi::memory::{Advice, Inheritance, Vpte};

const BASE: u64 = 0x1000_0000;

/// A whole fork.
pub fn fork(source: &Vmspace, target: &Vmspace) -> Result<(), Errno> {
    fork_while(source, target, || true)
}

/// A fork into a new space.
pub fn child_of(source: &Vmspace) -> Result<Arc<Vmspace>, &'static str> {
    let child = space()?;
    fork(source, &child).map_err(|errno| {
        log::error!("fork: {errno}");
        "a fork was refused"
    })?;
    Ok(child)
}

/// Checksum (FNV-1a over words) of what a space shows in a range.
pub fn checksum(space: &Vmspace, address: u64, pages: u64) -> Option<u64> {
    let mut sum = 0xcbf2_9ce4_8422_2325u64;
    let mut buffer = [0; 512];
    for at in (address..address + pages * PAGE).step_by(buffer.len()) {
        if space.read(at, &mut buffer) != Ok(buffer.len()) {
            return None;
        }
        for word in buffer.as_chunks::<8>().0 {
            sum = (sum ^ u64::from_le_bytes(*word)).wrapping_mul(0x100_0000_01b3);
        }
    }
    Some(sum)
}

/// Writes a value to the first and the last word of each page.
fn fill(space: &Vmspace, address: u64, pages: core::ops::Range<u64>, value: u64) -> bool {
    pages.into_iter().all(|page| {
        let at = address + page * PAGE;
        write(space, at, value + page) && write(space, at + PAGE - 8, value + page)
    })
}

fn shows(space: &Vmspace, address: u64, pages: core::ops::Range<u64>, value: u64) -> bool {
    pages.into_iter().all(|page| {
        let at = address + page * PAGE;
        read(space, at) == Some(value + page) && read(space, at + PAGE - 8) == Some(value + page)
    })
}

/// Parent, child, grandchild and so on each write to pages of their own and of the others.
pub fn divergence() -> Result<(), &'static str> {
    const PAGES: u64 = 300;
    const GENERATIONS: u64 = 5;
    accounted(|| {
        let parent = space()?;
        map(&parent, &anonymous(BASE, PAGES))?;
        demand!(fill(&parent, BASE, 0..PAGES - 10, 1000), "a write failed");
        let before = checksum(&parent, BASE, PAGES).ok_or("the parent cannot be read")?;
        let mut line = alloc::vec![parent];
        for generation in 1..GENERATIONS {
            let child = child_of(&line[line.len() - 1])?;
            demand!(
                checksum(&child, BASE, PAGES) == checksum(&line[line.len() - 1], BASE, PAGES),
                "a copy is not like its original"
            );
            // Pages that all write to, and ten that this generation alone writes to.
            let own = generation * 20..generation * 20 + 10;
            demand!(
                fill(&child, BASE, 0..10, generation << 32) && fill(&child, BASE, own, generation << 32),
                "a write in a copy failed"
            );
            line.push(child);
        }
        demand!(
            checksum(&line[0], BASE, PAGES) == Some(before),
            "a store of a copy is seen by the original"
        );
        let sums: alloc::vec::Vec<_> = line.iter().map(|space| checksum(space, BASE, PAGES)).collect();
        demand!(
            fill(&line[0], BASE, 0..PAGES, 7777),
            "a write in the original failed"
        );
        for (generation, space) in (0..).zip(&line).skip(1) {
            demand!(
                checksum(space, BASE, PAGES) == sums[generation as usize],
                "a store of the original is seen by a copy"
            );
            demand!(
                shows(space, BASE, 0..10, generation << 32),
                "a copy does not show its own stores"
            );
            for earlier in 1..=generation {
                demand!(
                    shows(space, BASE, earlier * 20..earlier * 20 + 10, earlier << 32),
                    "a copy does not show the stores of those before it"
                );
            }
            demand!(
                shows(space, BASE, 150..290, 1000),
                "an untouched page has changed"
            );
            demand!(
                read(space, BASE + 295 * PAGE) == Some(0),
                "an untouched page has contents"
            );
        }
        // Those in the middle of the line first.
        line.swap_remove(1);
        line.swap_remove(0);
        demand!(
            line.iter()
                .all(|space| shows(space, BASE, 150..290, 1000) && fill(space, BASE, 150..290, 1)),
            "a page went with one of its owners"
        );
        Ok(())
    })
}

/// Frames are taken when somebody writes, and not by the last owner.
pub fn economy() -> Result<(), &'static str> {
    const PAGES: u64 = 500;
    accounted(|| {
        let parent = space()?;
        map(&parent, &anonymous(BASE, PAGES))?;
        demand!(fill(&parent, BASE, 0..PAGES, 1), "a write failed");
        let counted = [Counter::PageShared, Counter::PageCopied, Counter::PageReused];
        let total = || counted.map(counters::total);
        let free = || crate::mm::tests::free_frames();
        let (before, counts) = (free(), total());
        let child = child_of(&parent)?;
        demand!(before - free() < 10, "a fork takes memory for pages");
        demand!(
            checksum(&child, BASE, PAGES) == checksum(&parent, BASE, PAGES),
            "the copy is not like its original"
        );
        demand!(
            total() == [counts[0] + PAGES, counts[1], counts[2]],
            "the pages are not shared, or copied for a load"
        );
        let before = free();
        demand!(fill(&child, BASE, 0..100, 2), "a write failed");
        demand!(
            before - free() == 100,
            "a hundred pages written, not a hundred frames taken"
        );
        demand!(fill(&parent, BASE, 0..100, 3), "a write failed");
        demand!(before - free() == 100, "the last owner of a page copied it");
        demand!(
            total() == [counts[0] + PAGES, counts[1] + 100, counts[2] + 100],
            "pages are not copied once and reused once"
        );
        demand!(
            shows(&child, BASE, 0..100, 2) && shows(&parent, BASE, 0..100, 3),
            "a store went elsewhere"
        );
        // With the parent gone the child has everything for itself.
        drop(parent);
        let before = free();
        demand!(fill(&child, BASE, 100..PAGES, 4), "a write failed");
        demand!(before == free(), "a page without other owners was copied");
        demand!(
            total() == [counts[0] + PAGES, counts[1] + 100, counts[2] + PAGES],
            "pages are not reused"
        );
        Ok(())
    })
}

/// Private mappings of objects: copies are copied, what is not yet copied still shows the object.
pub fn overlays() -> Result<(), &'static str> {
    accounted(|| {
        let parent = space()?;
        let object = MemoryObject::anonymous(8 * PAGE).map_err(|_| "no object")?;
        map(&parent, &of_object(BASE, 8, &object, MapFlags::SHARED))?;
        demand!(fill(&parent, BASE, 0..8, 10), "a write failed");
        map(&parent, &of_object(2 * BASE, 8, &object, MapFlags::PRIVATE))?;
        demand!(fill(&parent, 2 * BASE, 0..4, 20), "a write failed");
        // Split, so that the copy's entries begin in the middle of the overlay.
        demand!(
            parent.unmap(2 * BASE + PAGE, PAGE).is_ok()
                && parent.protect(2 * BASE + 3 * PAGE, PAGE, READ).is_ok(),
            "clipping failed"
        );
        let child = child_of(&parent)?;
        for space in [&parent, &child] {
            demand!(
                shows(space, 2 * BASE, 0..1, 20) && shows(space, 2 * BASE, 2..4, 20),
                "a copy is lost"
            );
            demand!(
                shows(space, 2 * BASE, 4..8, 10),
                "what is not copied does not show the object"
            );
            demand!(
                read(space, 2 * BASE + PAGE).is_none() && !write(space, 2 * BASE + 3 * PAGE, 1),
                "the copy's entries are not the original's"
            );
        }
        demand!(
            write(&child, 2 * BASE, 30) && write(&child, 2 * BASE + 5 * PAGE, 31),
            "a write failed"
        );
        demand!(
            write(&parent, 2 * BASE + 2 * PAGE, 40) && write(&parent, BASE + 6 * PAGE, 41),
            "a write failed"
        );
        demand!(
            read(&parent, 2 * BASE) == Some(20) && read(&parent, 2 * BASE + 5 * PAGE) == Some(15),
            "a store of the copy is seen by the original"
        );
        demand!(
            read(&child, 2 * BASE + 2 * PAGE) == Some(22),
            "a store of the original is seen by the copy"
        );
        demand!(
            read(&child, BASE + 6 * PAGE) == Some(41) && read(&child, 2 * BASE + 6 * PAGE) == Some(41),
            "the object is not shared"
        );
        demand!(
            read(&child, 2 * BASE + 5 * PAGE) == Some(31) && read(&child, BASE + 5 * PAGE) == Some(15),
            "a store to a private page reached the object"
        );
        Ok(())
    })
}

/// Every kind of inheritance, by default and set for a part of a mapping.
pub fn inheritance() -> Result<(), &'static str> {
    use Inheritance::{Copy, None as Hole, Share, Zero};
    accounted(|| {
        let parent = space()?;
        let object = MemoryObject::anonymous(8 * PAGE).map_err(|_| "no object")?;
        map(&parent, &anonymous(BASE, 8))?;
        map(&parent, &of_object(2 * BASE, 8, &object, MapFlags::SHARED))?;
        map(&parent, &of_object(3 * BASE, 8, &object, MapFlags::PRIVATE))?;
        let vpagetable = of_object(4 * BASE, 8, &object, MapFlags::SHARED | MapFlags::VPAGETABLE);
        map(&parent, &vpagetable)?;
        let root = Vpte::VALID | Vpte::WRITE | Vpte::USER | Vpte::LARGE;
        demand!(
            parent.control(4 * BASE, 8 * PAGE, Advice::SetMap, root).is_ok(),
            "SetMap failed"
        );
        demand!(
            fill(&parent, BASE, 0..8, 100) && fill(&parent, 2 * BASE, 0..8, 200),
            "a write failed"
        );
        demand!(fill(&parent, 3 * BASE, 0..8, 300), "a write failed");
        let set = |address: u64, pages: u64, kind| parent.set_inheritance(address, pages * PAGE, kind);
        for (address, refused) in [
            (BASE, &[Share][..]),
            (2 * BASE, &[Copy, Zero]),
            (3 * BASE, &[Share]),
            (4 * BASE, &[Copy, Zero]),
        ] {
            for kind in [Share, Copy, Hole, Zero] {
                let expected = if refused.contains(&kind) {
                    Err(Errno::EINVAL)
                } else {
                    Ok(())
                };
                demand!(
                    set(address, 8, kind) == expected,
                    "an inheritance of the wrong kind"
                );
            }
            let default = if refused.contains(&Share) { Copy } else { Share };
            demand!(set(address, 8, default).is_ok(), "the default is refused");
        }
        demand!(
            set(BASE, 9, Hole) == Err(Errno::ENOMEM) && set(BASE - PAGE, 2, Hole) == Err(Errno::ENOMEM),
            "an inheritance for a hole"
        );
        demand!(
            set(BASE + 1, 1, Hole) == Err(Errno::EINVAL) && set(BASE, 0, Hole) == Err(Errno::EINVAL),
            "an inheritance for a bad range"
        );
        demand!(
            set(BASE, 8, Copy).is_ok() && parent.statistics().entries == 4,
            "what failed split an entry"
        );
        for base in [BASE, 2 * BASE, 3 * BASE, 4 * BASE] {
            demand!(set(base + PAGE, 2, Hole).is_ok(), "a hole is refused");
        }
        demand!(
            set(BASE + 4 * PAGE, 2, Zero).is_ok() && set(3 * BASE + 4 * PAGE, 2, Zero).is_ok(),
            "Zero is refused"
        );
        let child = child_of(&parent)?;
        for base in [BASE, 2 * BASE, 3 * BASE, 4 * BASE] {
            demand!(
                read(&child, base + PAGE).is_none() && read(&child, base + 2 * PAGE).is_none(),
                "memory where a hole was asked for"
            );
            demand!(
                read(&parent, base + PAGE).is_some(),
                "the original has a hole, too"
            );
            demand!(
                read(&child, base) == read(&parent, base)
                    && read(&child, base + 7 * PAGE) == read(&parent, base + 7 * PAGE),
                "the copy is not like its original"
            );
            demand!(write(&child, base + 7 * PAGE, base), "a write in the copy failed");
        }
        for base in [BASE, 3 * BASE] {
            demand!(
                (4..6).all(|page| read(&child, base + page * PAGE) == Some(0)),
                "memory that should be new has contents"
            );
            demand!(
                write(&child, base + 4 * PAGE, 1) && shows(&parent, base, 4..6, 100 * (base / BASE)),
                "new memory is not the copy's own"
            );
        }
        demand!(
            read(&parent, BASE + 7 * PAGE) == Some(107) && read(&parent, 3 * BASE + 7 * PAGE) == Some(307),
            "a store of the copy is seen by the original"
        );
        // Both ways to the object lead to it on both sides; the later of the two stores stands.
        demand!(
            read(&parent, 2 * BASE + 7 * PAGE) == Some(4 * BASE)
                && read(&parent, 4 * BASE + 7 * PAGE) == Some(4 * BASE),
            "the object or the virtual page table is not shared"
        );
        // What is inherited is inherited in turn.
        let grandchild = child_of(&child)?;
        demand!(
            read(&grandchild, BASE + 4 * PAGE) == Some(0) && read(&grandchild, BASE) == Some(100),
            "inheritance is not inherited"
        );
        Ok(())
    })
}

/// Guards and what a stack has not grown to are inherited as they are, and both stacks grow on their own.
pub fn stacks() -> Result<(), &'static str> {
    const STACK: u64 = 16 * STACK_STEP;
    const TOP: u64 = BASE + STACK;
    let reserved = |flag: MapFlags, protection: Protection, length: u64, address: u64| MapArguments {
        length,
        protection,
        flags: anonymous(address, 1).flags | flag,
        ..anonymous(address, 1)
    };
    accounted(|| {
        let parent = space()?;
        map(&parent, &reserved(MapFlags::STACK, READ_WRITE, STACK, BASE))?;
        map(
            &parent,
            &reserved(MapFlags::GUARD, Protection::empty(), PAGE, TOP),
        )?;
        let at = |step: u64| TOP - step * STACK_STEP + 8;
        demand!(
            write(&parent, at(1), 1) && write(&parent, at(3), 3),
            "a stack does not grow"
        );
        let child = child_of(&parent)?;
        let grandchild = child_of(&child)?;
        for space in [&parent, &child, &grandchild] {
            demand!(
                read(space, at(1)) == Some(1) && read(space, at(3)) == Some(3),
                "a stack is not copied"
            );
            demand!(
                read(space, TOP).is_none() && read(space, BASE).is_none(),
                "a guard is not inherited"
            );
        }
        for (value, space) in (10..).zip([&grandchild, &parent, &child]) {
            demand!(
                write(space, at(3), value) && write(space, at(6), value) && write(space, at(15), value),
                "a copied stack does not grow"
            );
        }
        for (value, space) in (10..).zip([&grandchild, &parent, &child]) {
            demand!(
                [3, 6, 15]
                    .iter()
                    .all(|&step| read(space, at(step)) == Some(value))
                    && read(space, at(1)) == Some(1),
                "stacks are not of their own"
            );
        }
        // Any inheritance is possible for reserved addresses, so that a whole stack can be left out or begin anew.
        demand!(
            parent.set_inheritance(BASE, STACK + PAGE, Inheritance::Share) == Err(Errno::EINVAL),
            "a stack is shared"
        );
        demand!(
            parent
                .set_inheritance(BASE, STACK + PAGE, Inheritance::Zero)
                .is_ok(),
            "a stack cannot begin anew"
        );
        let fresh = child_of(&parent)?;
        demand!(
            read(&fresh, at(1)) == Some(0) && write(&fresh, at(15), 1) && read(&fresh, TOP).is_none(),
            "a stack does not begin anew"
        );
        demand!(
            parent
                .set_inheritance(BASE, STACK + PAGE, Inheritance::None)
                .is_ok(),
            "a stack cannot be left out"
        );
        demand!(
            child_of(&parent)?.statistics().entries == 0,
            "a stack is not left out"
        );
        Ok(())
    })
}

pub fn refused() -> Result<(), &'static str> {
    accounted(|| {
        let (parent, target) = (space()?, space()?);
        map(&parent, &anonymous(BASE, 200))?;
        demand!(fill(&parent, BASE, 0..200, 1), "a write failed");
        demand!(
            fork(&parent, &parent) == Err(Errno::EINVAL),
            "a space was copied over itself"
        );
        map(&target, &anonymous(2 * BASE, 1))?;
        demand!(
            fork(&parent, &target) == Err(Errno::EBUSY),
            "a space that is not empty was overwritten"
        );
        demand!(target.unmap(2 * BASE, PAGE).is_ok(), "unmap failed");
        let mut late = Fork::new(&parent, &target).map_err(|_| "an empty target is refused")?;
        while late.step().map_err(|_| "a step failed")? {}
        map(&target, &anonymous(2 * BASE, 1))?;
        demand!(
            late.finish() == Err(Errno::EBUSY),
            "what was mapped meanwhile was overwritten"
        );
        demand!(write(&target, 2 * BASE, 5), "what was mapped meanwhile is gone");
        target.clear();
        let used = || (target.account().pages.used(), target.account().addresses.used());
        demand!(used() == (0, 0), "a fork that failed left a charge");
        for (pages, bytes) in [(199, 200 * PAGE), (200, 199 * PAGE)] {
            target.account().pages.set_limit(pages);
            target.account().addresses.set_limit(bytes);
            demand!(
                fork(&parent, &target) == Err(Errno::ENOMEM),
                "a copy passes the limit"
            );
            demand!(
                target.statistics().entries == 0 && used() == (0, 0),
                "a fork that failed left something"
            );
        }
        demand!(
            shows(&parent, BASE, 0..200, 1) && fill(&parent, BASE, 0..200, 2),
            "a fork that failed changed the source"
        );
        target.account().addresses.set_limit(200 * PAGE);
        demand!(
            fork(&parent, &target).is_ok(),
            "a copy just within the limit is refused"
        );
        // A shared page counts for both, so that writing to it needs no further charge.
        demand!(
            used() == (200, 200 * PAGE) && fill(&target, BASE, 0..200, 3) && used() == (200, 200 * PAGE),
            "the copy is not charged as it should be"
        );
        demand!(shows(&parent, BASE, 0..200, 2), "a store went to the other side");
        Ok(())
    })
}

/// A fork that is told to stop, after every step that it has, and one whose source is closed under it: nothing of the copy is left, and the
/// source is as it was, alone with its pages.
pub fn stopped() -> Result<(), &'static str> {
    const PAGES: u64 = 200;
    accounted(|| {
        let (parent, target) = (space()?, space()?);
        let object = MemoryObject::anonymous(8 * PAGE).map_err(|_| "no object")?;
        map(&parent, &anonymous(BASE, PAGES))?;
        map(&parent, &of_object(2 * BASE, 8, &object, MapFlags::PRIVATE))?;
        map(&parent, &of_object(3 * BASE, 8, &object, MapFlags::SHARED))?;
        let fill_all = |value| fill(&parent, BASE, 0..PAGES, value) && fill(&parent, 2 * BASE, 0..4, value);
        demand!(fill_all(1), "a write failed");
        let used = || (target.account().pages.used(), target.account().addresses.used());
        let free = crate::mm::tests::free_frames();
        let fork_until = |most: u64| {
            let mut steps = 0;
            let outcome = fork_while(&parent, &target, || {
                steps += 1;
                steps < most
            });
            (outcome, steps)
        };
        let mut stop = 0;
        loop {
            stop += 1;
            let (outcome, steps) = fork_until(stop);
            if outcome.is_ok() {
                break;
            }
            demand!(
                outcome == Err(Errno::EINTR) && steps == stop && stop < 100,
                "a fork does not stop when it is told to"
            );
            demand!(
                target.statistics().entries == 0 && used() == (0, 0),
                "a fork that was stopped left something in the target"
            );
            let value = stop + 1;
            demand!(
                shows(&parent, BASE, 0..PAGES, stop)
                    && fill_all(value)
                    && shows(&parent, BASE, 0..PAGES, value),
                "a fork that was stopped changed the source"
            );
            // A store to a page that had another owner would have taken a frame.
            crate::mm::tests::free_frames_settle_at(free)?;
        }
        demand!(stop > 5, "a fork has fewer steps than there are parts");
        demand!(
            shows(&target, BASE, 0..PAGES, stop) && shows(&target, 2 * BASE, 0..4, stop),
            "a fork that was stopped spoilt the next"
        );
        target.clear();
        let mut steps = 0;
        let outcome = fork_while(&parent, &target, || {
            steps += 1;
            if steps == 3 {
                parent.close();
            }
            true
        });
        demand!(
            outcome == Err(Errno::EBADF) && target.statistics().entries == 0 && used() == (0, 0),
            "a part of a source that was closed is taken for the whole"
        );
        Ok(())
    })
}

/// Shared pages are dropped and unmapped on one side, in batches larger than what is held at once.
pub fn dropped() -> Result<(), &'static str> {
    const PAGES: u64 = 700;
    accounted(|| {
        let parent = space()?;
        map(&parent, &anonymous(BASE, PAGES))?;
        demand!(fill(&parent, BASE, 0..PAGES, 1), "a write failed");
        let (one, two) = (child_of(&parent)?, child_of(&parent)?);
        let free = frame::statistics().1;
        demand!(
            parent.advise(BASE, 400 * PAGE, Advice::DontNeed).is_ok(),
            "DontNeed failed"
        );
        demand!(
            frame::statistics().1.abs_diff(free) < 4,
            "pages that others own became free"
        );
        demand!(
            (0..400).all(|page| read(&parent, BASE + page * PAGE) == Some(0)),
            "a dropped page has contents"
        );
        demand!(
            one.unmap(BASE, 300 * PAGE).is_ok()
                && one
                    .advise(BASE + 300 * PAGE, 100 * PAGE, Advice::DontNeed)
                    .is_ok(),
            "unmap or DontNeed failed"
        );
        demand!(
            shows(&two, BASE, 0..PAGES, 1) && shows(&parent, BASE, 400..PAGES, 1),
            "a page that was dropped elsewhere is gone"
        );
        drop(two);
        demand!(
            shows(&one, BASE, 400..PAGES, 1) && fill(&one, BASE, 400..PAGES, 2),
            "a page went with one of its owners"
        );
        drop(parent);
        demand!(
            shows(&one, BASE, 400..PAGES, 2),
            "a page went with one of its owners"
        );
        let before = crate::mm::tests::free_frames();
        demand!(
            one.advise(BASE + 400 * PAGE, 300 * PAGE, Advice::DontNeed)
                .is_ok(),
            "DontNeed failed"
        );
        demand!(
            crate::mm::tests::free_frames() >= before + 300,
            "the last owner does not give pages back"
        );
        Ok(())
    })
}

/// The source changes between the steps of a fork: entries go, are split, are replaced; in the end all of it goes (what replacing an address
/// space under somebody who works on it did to DragonFly: 381893162d).
pub fn changing_source() -> Result<(), &'static str> {
    const PAGES: u64 = 600;
    accounted(|| {
        for stop in 0..30 {
            let (parent, child) = (space()?, space()?);
            map(&parent, &anonymous(BASE, PAGES))?;
            demand!(fill(&parent, BASE, 0..PAGES, 1), "a write failed");
            map(&parent, &anonymous(2 * BASE, PAGES))?;
            demand!(fill(&parent, 2 * BASE, 0..PAGES, 1), "a write failed");
            let mut fork = Fork::new(&parent, &child).map_err(|_| "no fork")?;
            for step in 0.. {
                if step == stop {
                    let middle = BASE + 300 * PAGE;
                    let changed = match stop % 5 {
                        0 => parent.unmap(middle, 100 * PAGE).is_ok(),
                        1 => parent.protect(middle, 100 * PAGE, READ).is_ok(),
                        2 => parent.map(&anonymous(middle, 100)).is_ok(),
                        3 => parent
                            .set_inheritance(middle, 100 * PAGE, Inheritance::None)
                            .is_ok(),
                        _ => {
                            parent.clear();
                            true
                        }
                    };
                    demand!(changed, "the change failed");
                }
                if !fork.step().map_err(|_| "a step failed")? {
                    break;
                }
            }
            demand!(fork.finish().is_ok(), "finish failed");
            parent.clear();
            // Whatever is there is as it was, or new and zero.
            for page in (0..PAGES).chain(BASE / PAGE..BASE / PAGE + PAGES) {
                let value = page % (BASE / PAGE) + 1;
                let seen = read(&child, BASE + page * PAGE);
                demand!(
                    seen.is_none() || seen == Some(value) || seen == Some(0),
                    "a page has somebody else's contents"
                );
            }
            demand!(
                stop % 5 == 4 || shows(&child, BASE, 0..300, 1) && shows(&child, 2 * BASE, 0..PAGES, 1),
                "what did not change is missing"
            );
        }
        Ok(())
    })
}

/// One CPU copies a shared page; meanwhile its last other owner goes, and another CPU of the same space stores to it in place. The copy
/// must not take the place of that store. The steps are those of a fault, in an order that other CPUs hardly ever bring about.
pub fn late_copy() -> Result<(), &'static str> {
    accounted(|| {
        for others in [true, false] {
            let parent = space()?;
            map(&parent, &anonymous(BASE, 1))?;
            demand!(write(&parent, BASE, 1), "a write failed");
            let child = child_of(&parent)?;
            let stamp = parent.pmap().stamp();
            let region = parent.map.lock().find(BASE).map(|entry| entry.payload.clone());
            let region = region.ok_or("no entry")?;
            let (pages, _) = region.own_pages().ok_or("no private pages")?;
            let mut copy = frame::allocate().map_err(|_| "no frame")?;
            let original = pages.copy_unstable(0, &mut copy).ok_or("no page")?;
            if others {
                // Another CPU copies first.
                demand!(write(&parent, BASE, 2), "a write failed");
            } else {
                drop(child);
                demand!(write(&parent, BASE, 2), "a write failed");
                demand!(pages.get(0) == Some(original), "the last owner copied");
            }
            let target = Target {
                physical: copy.address(),
                level: 1,
                protection: page_table::Protection::READ | page_table::Protection::WRITE,
                cache: page_table::CacheMode::WriteBack,
            };
            let mut part = None;
            let outcome = parent.pmap().commit_copy(BASE, target, stamp, || {
                part = pages.replace_shared(0, original, copy).ok();
                part.is_some()
            });
            demand!(matches!(outcome, Ok(Commit::Again)), "a late copy is not refused");
            demand!(read(&parent, BASE) == Some(2), "a store is lost");
        }
        Ok(())
    })
}
