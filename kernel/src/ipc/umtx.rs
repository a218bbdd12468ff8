//! Sleeping on a user word: `umtx_sleep` and `umtx_wakeup`.
//!
//! Sleepers hang in buckets by the key of their word, so that sleepers of different words share no lock. A sleeper enters its bucket
//! *before* it reads the word: a waker who changes the word and then looks into the bucket either finds it there, or
//! it read the new value. No lock is held while the word is read.

use crate::arch::clock;
use crate::debug::counters;
use crate::proc::Thread;
use crate::sched::{self, Schedulable};
use crate::sync::{Rank, SpinLock};
use crate::vm::{WordKey, copy};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use dragonet_abi::Errno;
use dragonet_abi::counters::Counter;

struct Sleeper {
    key: WordKey,
    thread: Arc<dyn Schedulable>,
}

type Bucket = SpinLock<VecDeque<Sleeper>>;

const BUCKETS: usize = 256;

static TABLE: [Bucket; BUCKETS] = [const { SpinLock::new(Rank::Umtx, VecDeque::new()) }; BUCKETS];

fn bucket(key: &WordKey) -> &'static Bucket {
    let mixed = (key.object ^ key.offset.rotate_right(2)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    &TABLE[(mixed >> 56) as usize % BUCKETS]
}

/// Sleeps while the word at `address` is `expected`, until woken.
///
/// # Errors
/// EBUSY when the word differs; EFAULT; EINVAL for a misaligned address; ETIMEDOUT; EINTR; ENOMEM.
pub fn sleep(thread: &Thread, address: u64, expected: u32, deadline: u64) -> Result<(), Errno> {
    counters::count(Counter::UmtxSleep);
    // Faults the page in, so that the word has a key.
    copy::load_u32(address)?;
    let key = thread.process().vmspace().word_key(address)?;
    let me: Arc<dyn Schedulable> = thread.arc();
    let bucket = bucket(&key);
    {
        let mut sleepers = bucket.lock();
        sleepers.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        sleepers.push_back(Sleeper {
            key,
            thread: me.clone(),
        });
    }
    let word = copy::load_u32(address);
    let outcome = loop {
        // Gone from the bucket means woken, whatever else happened.
        if !is_queued(bucket, &me) {
            return Ok(());
        }
        match word {
            Err(errno) => break errno,
            Ok(value) if value != expected => break Errno::EBUSY,
            Ok(_) => {}
        }
        if let Err(errno) = thread.interrupted() {
            break errno;
        }
        if clock::now() >= deadline {
            break Errno::ETIMEDOUT;
        }
        sched::park(deadline);
    };
    let mut sleepers = bucket.lock();
    let length = sleepers.len();
    sleepers.retain(|sleeper| !same(&sleeper.thread, &me));
    if sleepers.len() < length {
        Err(outcome)
    } else {
        Ok(())
    }
}

fn same(one: &Arc<dyn Schedulable>, other: &Arc<dyn Schedulable>) -> bool {
    core::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other))
}

fn is_queued(bucket: &Bucket, me: &Arc<dyn Schedulable>) -> bool {
    bucket.lock().iter().any(|sleeper| same(&sleeper.thread, me))
}

/// Wakes up to `count` sleepers of the word (0: all); returns how many.
///
/// # Errors
/// EFAULT; EINVAL for a misaligned address.
pub fn wakeup(thread: &Thread, address: u64, count: u64) -> Result<u64, Errno> {
    copy::load_u32(address)?;
    let key = thread.process().vmspace().word_key(address)?;
    let limit = if count == 0 { u64::MAX } else { count };
    let bucket = bucket(&key);
    // No more than sleep now: those that are woken and sleep again at once would keep the caller here for ever.
    let asleep = bucket.lock().iter().filter(|sleeper| sleeper.key == key).count() as u64;
    let mut woken = 0;
    while woken < limit.min(asleep) {
        let next = {
            let mut sleepers = bucket.lock();
            let position = sleepers.iter().position(|sleeper| sleeper.key == key);
            position.and_then(|position| sleepers.remove(position))
        };
        let Some(sleeper) = next else { break };
        sched::unpark(&sleeper.thread);
        woken += 1;
    }
    Ok(woken)
}
