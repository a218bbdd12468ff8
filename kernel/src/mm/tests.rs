//! In-kernel tests of frames, heap and stacks.

use super::frame::{self, OwnedFrames};
use super::physical;
use super::stack::{GUARD_SIZE, KernelStack, STACK_SIZE};
use super::{Discard, PageTree, TakenPages};
use crate::arch::{boot, paging};
use crate::test::Test;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::alloc::Layout;

/// See [`crate::test`].
pub const TESTS: &[Test] = &[
    Test {
        name: "mm::frames_are_exclusive_and_come_back",
        run: frames,
    },
    Test {
        name: "mm::programs_cannot_take_the_last_frames",
        run: exhaustion,
    },
    Test {
        name: "mm::heap_gives_what_was_asked_for_and_shrinks_again",
        run: heap,
    },
    Test {
        name: "mm::blocks_of_frames_come_back",
        run: blocks,
    },
    Test {
        name: "mm::kernel_stacks_have_guards",
        run: stacks,
    },
    Test {
        name: "mm::the_direct_map_does_not_open_the_kernel",
        run: direct_map,
    },
    Test {
        name: "mm::page_trees_are_sparse_and_free_everything",
        run: page_trees,
    },
];

/// Free frames, counted when their number rests: other CPUs may still be finishing something.
pub fn free_frames() -> u64 {
    let mut free = frame::statistics().1;
    let mut since = 0;
    while since < 10 {
        crate::sched::park(crate::arch::clock::now() + 1_000_000);
        let now = frame::statistics().1;
        since = if now == free { since + 1 } else { 0 };
        free = now;
    }
    free
}

/// Waits for the free frames to be `expected`.
pub fn free_frames_settle_at(expected: u64) -> Result<(), &'static str> {
    for _ in 0..200 {
        if frame::statistics().1 == expected {
            return Ok(());
        }
        crate::sched::park(crate::arch::clock::now() + 1_000_000);
    }
    let now = frame::statistics().1;
    log::error!("{expected} frames were free, now {now}");
    Err("frames are missing, or there are too many")
}

fn frames() -> Result<(), &'static str> {
    let before = free_frames();
    let mut owned = Vec::new();
    for number in 0..1000u64 {
        let mut frame = frame::allocate().map_err(|_| "no frame")?;
        frame.bytes().fill(number as u8);
        owned.push(frame);
    }
    for (number, frame) in owned.iter_mut().enumerate() {
        if frame.bytes().iter().any(|&byte| byte != number as u8) {
            return Err("two owners of one frame");
        }
    }
    let held = before - frame::statistics().1;
    if !(1000..1100).contains(&held) {
        return Err("the statistics do not show what is taken");
    }
    drop(owned);
    let mut zeroed = frame::allocate_zeroed().map_err(|_| "no frame")?;
    if zeroed.bytes().iter().any(|&byte| byte != 0) {
        return Err("a zeroed frame is not");
    }
    drop(zeroed);
    free_frames_settle_at(before)
}

fn exhaustion() -> Result<(), &'static str> {
    let before = free_frames();
    if before > 200_000 {
        // With much memory this takes long and shows nothing more.
        return Ok(());
    }
    let mut owned = OwnedFrames::new();
    while let Ok(frame) = frame::allocate() {
        owned.push(frame);
    }
    let refused = super::check_headroom().is_err();
    let left = frame::statistics().1;
    // The kernel itself still gets memory.
    let kernel = Box::new([1u8; 3000]);
    let stays = kernel.iter().all(|&byte| byte == 1);
    drop(kernel);
    drop(owned);
    if !refused {
        return Err("memory is low, yet there is headroom");
    }
    if left < 100 || !stays {
        return Err("nothing was left for the kernel");
    }
    if super::check_headroom().is_err() {
        return Err("memory is back, yet there is no headroom");
    }
    free_frames_settle_at(before)
}

fn heap() -> Result<(), &'static str> {
    let before = free_frames();
    let mut state = 12345u64;
    let mut next = |bound: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let mut held: Vec<(Box<[u8]>, u8)> = Vec::new();
    for round in 0..20_000u64 {
        if next(2) == 0 && !held.is_empty() {
            let victim = next(held.len() as u64) as usize;
            let (bytes, value) = held.swap_remove(victim);
            if bytes.iter().any(|&byte| byte != value) {
                return Err("somebody else wrote to an object");
            }
        } else if held.len() < 400 {
            let size = if next(8) == 0 { next(20_000) } else { next(2_200) } as usize;
            held.push((alloc::vec![round as u8; size].into_boxed_slice(), round as u8));
        }
    }
    if held
        .iter()
        .any(|(bytes, value)| bytes.iter().any(|byte| byte != value))
    {
        return Err("somebody else wrote to an object");
    }
    drop(held);
    for power in 0..14 {
        for size in [1usize, 24, 100, 700, 5000] {
            let layout = Layout::from_size_align(size, 1 << power).map_err(|_| "a bad layout")?;
            // SAFETY: the layout has a size, and the object is freed with it.
            let object = unsafe { alloc::alloc::alloc(layout) };
            let aligned = !object.is_null() && (object as usize).is_multiple_of(1 << power);
            if !object.is_null() {
                // SAFETY: as above.
                unsafe { alloc::alloc::dealloc(object, layout) };
            }
            if !aligned {
                return Err("an object is not aligned");
            }
        }
    }
    free_frames_settle_at(before)
}

fn blocks() -> Result<(), &'static str> {
    let before = free_frames();
    // Singles first, so that the reserve has what the blocks need and must be merged.
    let singles: Result<Vec<_>, _> = (0..3000).map(|_| frame::allocate()).collect();
    drop(singles.map_err(|_| "no frames")?);
    for _ in 0..8 {
        let mut blocks: Vec<Vec<u8>> = Vec::new();
        for order in 0..9 {
            let mut block = Vec::new();
            block.try_reserve_exact(4096 << order).map_err(|_| "no block")?;
            block.resize(4096 << order, order as u8);
            blocks.push(block);
        }
        if (0..)
            .zip(&blocks)
            .any(|(order, block)| block.iter().any(|&byte| byte != order))
        {
            return Err("two blocks share memory");
        }
    }
    free_frames_settle_at(before)
}

fn stacks() -> Result<(), &'static str> {
    let before = free_frames();
    let mut stacks = Vec::new();
    for _ in 0..20 {
        stacks.push(KernelStack::new().map_err(|_| "no stack")?);
    }
    for stack in &stacks {
        let bottom = stack.top() - STACK_SIZE;
        for page in (0..STACK_SIZE).step_by(4096) {
            let Some(found) = paging::translate(bottom + page) else {
                return Err("a page of a stack is not mapped");
            };
            if !found.writable || found.executable || found.user {
                return Err("a stack has wrong rights");
            }
        }
        for page in (4096..=GUARD_SIZE).step_by(4096) {
            if paging::translate(bottom - page).is_some() {
                return Err("a guard page is mapped");
            }
        }
        if paging::translate(stack.top()).is_some() {
            return Err("something is mapped right above a stack");
        }
    }
    drop(stacks);
    // New tables of the stack area stay; the frames of pooled stacks count as free.
    let missing = before.saturating_sub(frame::statistics().1);
    if missing > 2 {
        Err("stacks do not come back")
    } else {
        Ok(())
    }
}

/// The kernel's code and constants must not be writable by their other address either.
fn direct_map() -> Result<(), &'static str> {
    let boot = boot::info();
    for (section, own_writable) in [
        (&boot.sections.text, false),
        (&boot.sections.rodata, false),
        (&boot.sections.data, true),
    ] {
        for address in [section.start, section.end - 1u64] {
            let alias = physical::to_virtual(boot.kernel_physical + (address - boot.kernel_virtual));
            let (Some(own), Some(other)) = (paging::translate(address), paging::translate(alias)) else {
                return Err("a section is not mapped twice");
            };
            if own.physical != other.physical {
                return Err("the two addresses differ");
            }
            if other.executable || other.user || own.user || own.writable != own_writable {
                return Err("a section has wrong rights");
            }
            if other.writable != own_writable {
                return Err("the direct map opens a section, or closes one");
            }
        }
    }
    Ok(())
}

fn page_trees() -> Result<(), &'static str> {
    let before = free_frames();
    for pages in [1u64, 2, 511, 512, 513, 512 * 512, 512 * 512 + 1, 1 << 31] {
        let tree = PageTree::new(pages, Discard::Allowed, None).map_err(|_| "no tree")?;
        let places = [0, pages / 2, pages - 1];
        for &index in &places {
            let first = tree
                .get_or_insert(index, frame::allocate_zeroed)
                .map_err(|_| "no page")?;
            let second = tree
                .get_or_insert(index, frame::allocate_zeroed)
                .map_err(|_| "no page")?;
            if first.0 != second.0 || second.1 {
                return Err("the second look made another page");
            }
        }
        if tree.get_or_insert(pages, frame::allocate_zeroed).is_ok() || tree.get(u64::MAX).is_some() {
            return Err("a page beyond the end");
        }
        let distinct = if pages == 1 { 1 } else { 3.min(pages) };
        if tree.resident() != distinct {
            return Err("the count of pages is wrong");
        }
        let mut taken = TakenPages::new();
        let mut index = 0;
        let mut rounds = 0;
        while index < pages {
            index = tree.take(index..pages, 1, &mut taken);
            rounds += 1;
        }
        if taken.len() as u64 != distinct || tree.resident() != 0 || rounds > 10_000 {
            return Err("not every page was found again, or it took too long");
        }
    }
    free_frames_settle_at(before)
}
