//! In-kernel tests of memory that is low, scattered, or wanted by several CPUs at once.

use super::frame::{self, Need, OwnedFrames};
use super::stack::KernelStack;
use super::tests::free_frames;
use super::{Discard, PageTree, buddy, number_of};
use crate::arch::{clock, cpu};
use crate::sched;
use crate::sync::{Rank, SpinLock};
use crate::test::Test;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// See [`crate::test`].
pub const TESTS: &[Test] = &[
    Test {
        name: "mm::large_objects_are_had_from_scattered_frames",
        run: scattered,
    },
    Test {
        name: "mm::low_memory_refuses_stacks_from_the_pool_too",
        run: pooled_stacks,
    },
    Test {
        name: "mm::a_page_is_there_though_others_race_to_make_and_to_drop_it",
        run: racing,
    },
];

/// With more free frames the tests that use up memory take long and show nothing more.
const MANY: u64 = 200_000;

fn scattered() -> Result<(), &'static str> {
    let before = free_frames();
    if before > MANY {
        return Ok(());
    }
    let (mut even, mut odd) = (OwnedFrames::new(), OwnedFrames::new());
    while let Ok(frame) = frame::allocate_for(Need::Kernel) {
        let half = if number_of(frame.address()) % 2 == 0 {
            &mut even
        } else {
            &mut odd
        };
        half.push(frame);
    }
    drop(even);
    let in_one_piece = buddy::take_block(2);
    let first = large_objects();
    let held = frame::statistics().1;
    let second = large_objects();
    let after = frame::statistics().1;
    if let Some(block) = in_one_piece {
        buddy::give_back_block(block, 2);
    }
    drop(odd);
    if in_one_piece.is_some() {
        return Err("the test did not scatter the memory");
    }
    first.and(second)?;
    if held != after {
        return Err("blocks that were freed are not used again");
    }
    // The tables of new mappings stay.
    if before.saturating_sub(free_frames()) > 4 {
        return Err("frames are missing");
    }
    Ok(())
}

fn large_objects() -> Result<(), &'static str> {
    let mut objects = Vec::new();
    for size in [5_000_usize, 8_192, 30_000, 131_072] {
        let mut object: Vec<u8> = Vec::new();
        object
            .try_reserve_exact(size)
            .map_err(|_| "scattered memory does not serve a large object")?;
        object.resize(size, size as u8);
        objects.push((size, object));
    }
    let intact = |(size, object): &(usize, Vec<u8>)| object.iter().all(|&byte| byte == *size as u8);
    if objects.iter().all(intact) {
        Ok(())
    } else {
        Err("two objects share memory")
    }
}

fn pooled_stacks() -> Result<(), &'static str> {
    if free_frames() > MANY {
        return Ok(());
    }
    drop(KernelStack::new().map_err(|_| "no stack")?);
    let mut owned = OwnedFrames::new();
    while let Ok(frame) = frame::allocate() {
        owned.push(frame);
    }
    let refused = KernelStack::new().is_err();
    drop(owned);
    if refused {
        Ok(())
    } else {
        Err("a thread can be made though memory is low")
    }
}

static TREE: SpinLock<Option<Arc<PageTree>>> = SpinLock::new(Rank::Umtx, None);
static STOP: AtomicBool = AtomicBool::new(false);
static RUNNING: AtomicUsize = AtomicUsize::new(0);
static ROUNDS: AtomicUsize = AtomicUsize::new(0);
static FAILURES: AtomicUsize = AtomicUsize::new(0);

fn racing() -> Result<(), &'static str> {
    let tree = Arc::new(PageTree::new(1, Discard::Allowed).map_err(|_| "no tree")?);
    *TREE.lock() = Some(tree.clone());
    STOP.store(false, Ordering::SeqCst);
    let own = cpu::index();
    for other in (0..cpu::count()).filter(|&other| other != own) {
        RUNNING.fetch_add(1, Ordering::SeqCst);
        sched::spawn_kernel_thread(make_the_page, 16, 1 << other).map_err(|_| "no thread")?;
    }
    let end = clock::now() + 500_000_000;
    while clock::now() < end {
        let mut taken = OwnedFrames::new();
        tree.take(0..1, 1, &mut taken);
    }
    STOP.store(true, Ordering::SeqCst);
    while RUNNING.load(Ordering::SeqCst) > 0 {
        sched::park(clock::now() + 1_000_000);
    }
    *TREE.lock() = None;
    log::debug!("{} pages were looked up", ROUNDS.load(Ordering::Relaxed));
    if FAILURES.load(Ordering::SeqCst) > 0 {
        return Err("a page was neither made nor found");
    }
    Ok(())
}

fn make_the_page() {
    let tree = TREE.lock().clone();
    while let Some(tree) = &tree
        && !STOP.load(Ordering::Relaxed)
    {
        let found = tree.get_or_insert(0, frame::allocate_zeroed);
        FAILURES.fetch_add(usize::from(found.is_err()), Ordering::Relaxed);
        ROUNDS.fetch_add(1, Ordering::Relaxed);
    }
    drop(tree);
    RUNNING.fetch_sub(1, Ordering::SeqCst);
}
