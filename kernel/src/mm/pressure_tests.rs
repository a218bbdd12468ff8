//! In-kernel tests of memory that is low or scattered.

use super::frame::{self, Need, OwnedFrames};
use super::stack::KernelStack;
use super::tests::free_frames;
use super::{buddy, number_of};
use crate::test::Test;
use alloc::vec::Vec;

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
        let half = if number_of(frame.address()).is_multiple_of(2) {
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
