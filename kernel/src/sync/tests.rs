//! In-kernel tests of the checks on locks: each plants a violation and the check must catch it. The rule itself has its tests in
//! the crate `lock-order`.

use super::{Rank, SpinLock, allow_locks, forbid_locks, record};
use crate::arch::irq::IrqGuard;
use crate::test::Test;
use crate::vm::copy;
use dragonet_abi::layout::USER_START;

/// See [`crate::test`].
pub const TESTS: &[Test] = &[Test {
    name: "sync::locks_that_are_taken_are_recorded",
    run: recorded,
}];

/// Violations that end the kernel, run one at a time when named exactly.
pub const CRASHES: &[Test] = &[
    Test {
        name: "crash::lock_order",
        run: against_the_order,
    },
    Test {
        name: "crash::copy_under_a_lock",
        run: copy_under_a_lock,
    },
    Test {
        name: "crash::lock_where_none_is_allowed",
        run: lock_where_none_is_allowed,
    },
];

static UPPER: SpinLock<u32> = SpinLock::new(Rank::Umtx, 0);
static LOWER: SpinLock<u32> = SpinLock::new(Rank::WaitQueue, 0);

fn recorded() -> Result<(), &'static str> {
    let [upper, lower] = [&UPPER, &LOWER].map(|lock| core::ptr::from_ref(lock).addr());
    let ((), taken) = record::locks_of(|| {
        let guard = UPPER.lock();
        drop(LOWER.lock());
        drop(LOWER.try_lock());
        drop(guard);
    });
    drop(UPPER.lock());
    if !record::RECORDS {
        return if taken.is_empty() {
            Ok(())
        } else {
            Err("a release build records")
        };
    }
    if !taken.iter().map(|taken| taken.lock).eq([upper, lower, lower]) {
        return Err("the record is not what was taken, in its order");
    }
    if !taken.iter().map(|taken| taken.rank).eq([
        Rank::Umtx as u8,
        Rank::WaitQueue as u8,
        Rank::WaitQueue as u8,
    ]) {
        return Err("the ranks of the record are wrong");
    }
    let ((), taken) = record::locks_of(|| ());
    if taken.is_empty() {
        Ok(())
    } else {
        Err("a record begins with what an earlier one took")
    }
}

fn against_the_order() -> Result<(), &'static str> {
    let lower = LOWER.lock();
    let upper = UPPER.lock();
    drop(upper);
    drop(lower);
    Err("a lock was taken against the order")
}

fn copy_under_a_lock() -> Result<(), &'static str> {
    let lock = UPPER.lock();
    let _ = copy::load_u32(USER_START);
    drop(lock);
    Err("a program's memory was read while a lock is held")
}

fn lock_where_none_is_allowed() -> Result<(), &'static str> {
    let guard = IrqGuard::new();
    forbid_locks();
    drop(LOWER.lock());
    allow_locks();
    drop(guard);
    Err("a lock was taken between the preparation of a guest's entry and the exit")
}
