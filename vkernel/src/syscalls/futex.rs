//! `futex`: waiting and waking, with bit sets, moving, and time-outs. Priority inheritance is not served.

use crate::clock;
use crate::kernel::kernel;
use crate::linux::Errno;
use crate::linux::flags::{
    CLOCK_MONOTONIC, CLOCK_REALTIME, FUTEX_CLOCK_REALTIME, FUTEX_CMP_REQUEUE, FUTEX_PRIVATE_FLAG,
    FUTEX_REQUEUE, FUTEX_WAIT, FUTEX_WAIT_BITSET, FUTEX_WAKE, FUTEX_WAKE_BITSET, FUTEX_WAKE_OP,
};
use crate::memory::copy::WordKey;
use crate::memory::fault::Access;
use crate::process::futex::{ANY, Waiter};
use crate::process::{Task, Thread};
use crate::syscalls::time::deadline_of;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use dragonet_abi::time::FOREVER;

/// A place in a queue that is given up when the wait ends in any way.
struct Place(Arc<Waiter<Arc<Thread>>>);

impl Drop for Place {
    fn drop(&mut self) {
        if !self.0.is_woken() {
            kernel().futexes().leave(&self.0);
        }
    }
}

impl Task {
    pub(super) async fn sys_futex(
        &mut self,
        address: u64,
        operation: u32,
        value: u32,
        fourth: u64,
        second: u64,
        sixth: u32,
    ) -> Result<u64, Errno> {
        // Whether a word is shared is known from its mapping, so the private flag changes nothing.
        let realtime = operation & FUTEX_CLOCK_REALTIME != 0;
        let command = operation & !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
        let clock = if realtime { CLOCK_REALTIME } else { CLOCK_MONOTONIC };
        let count = value as usize;
        match command {
            FUTEX_WAIT => {
                let deadline = match fourth {
                    0 => FOREVER,
                    _ => clock::monotonic().saturating_add(self.read_time(fourth)?),
                };
                self.futex_wait(address, value, deadline, ANY).await
            }
            FUTEX_WAIT_BITSET => {
                let deadline = match fourth {
                    0 => FOREVER,
                    _ => deadline_of(clock, self.read_time(fourth)?)?,
                };
                self.futex_wait(address, value, deadline, sixth).await
            }
            FUTEX_WAKE => self.futex_wake(address, count, ANY),
            FUTEX_WAKE_BITSET => self.futex_wake(address, count, sixth),
            FUTEX_REQUEUE => self.futex_requeue(address, second, count, fourth as u32, None),
            FUTEX_CMP_REQUEUE => self.futex_requeue(address, second, count, fourth as u32, Some(sixth)),
            FUTEX_WAKE_OP => self.futex_wake_op(address, second, count, fourth as u32, sixth),
            _ => Err(Errno::ENOSYS),
        }
    }

    async fn futex_wait(&self, address: u64, expected: u32, deadline: u64, bits: u32) -> Result<u64, Errno> {
        if bits == 0 {
            return Err(Errno::EINVAL);
        }
        let join = |word: &AtomicU32, key: WordKey| {
            let still = || word.load(Ordering::SeqCst) == expected;
            kernel().futexes().join(key, self.thread.clone(), bits, still)
        };
        let waiter = self
            .space
            .with_word(address, Access::Read, join)?
            .ok_or(Errno::EAGAIN)?;
        let place = Place(waiter);
        match self
            .wait_registered(deadline, || place.0.is_woken().then_some(0))
            .await
        {
            // A relative time must not start anew, so a call with one is not made again.
            Err(Errno::ERESTARTSYS) if deadline != FOREVER => Err(Errno::EINTR),
            other => other,
        }
    }

    fn futex_wake(&self, address: u64, count: usize, bits: u32) -> Result<u64, Errno> {
        if bits == 0 {
            return Err(Errno::EINVAL);
        }
        let key = self.space.with_word(address, Access::Read, |_, key| key)?;
        Ok(wake_all(kernel().futexes().wake(key, count, bits)))
    }

    fn futex_requeue(
        &self,
        from: u64,
        to: u64,
        wake: usize,
        moved: u32,
        expected: Option<u32>,
    ) -> Result<u64, Errno> {
        if wake > i32::MAX as usize || moved > i32::MAX as u32 {
            return Err(Errno::EINVAL);
        }
        let target = self.space.with_word(to, Access::Read, |_, key| key)?;
        let result = self.space.with_word(from, Access::Read, |word, source| {
            let still = || expected.is_none_or(|expected| word.load(Ordering::SeqCst) == expected);
            kernel()
                .futexes()
                .requeue(source, target, wake, moved as usize, still)
        })?;
        let (woken, count) = result.ok_or(Errno::EAGAIN)?;
        // The plain form counts those woken, the comparing one those moved as well.
        let moved = if expected.is_some() { count as u64 } else { 0 };
        Ok(wake_all(woken) + moved)
    }

    /// Changes the second word, wakes waiters of the first, and of the second if its old value compares well.
    fn futex_wake_op(
        &self,
        first: u64,
        second: u64,
        wake: usize,
        wake_second: u32,
        code: u32,
    ) -> Result<u64, Errno> {
        let signed = |bits: u32| (bits << 20).cast_signed() >> 20;
        let (operand, argument) = (signed(code >> 12 & 0xfff), signed(code & 0xfff));
        let operand = if code >> 31 != 0 {
            1_i32.wrapping_shl(operand.cast_unsigned() & 31)
        } else {
            operand
        };
        let operand = operand.cast_unsigned();
        let change: fn(u32, u32) -> u32 = match code >> 28 & 7 {
            0 => |_, operand| operand,
            1 => u32::wrapping_add,
            2 => |old, operand| old | operand,
            3 => |old, operand| old & !operand,
            4 => |old, operand| old ^ operand,
            _ => return Err(Errno::ENOSYS),
        };
        let compare: fn(&i32, &i32) -> bool = match code >> 24 & 15 {
            0 => i32::eq,
            1 => i32::ne,
            2 => i32::lt,
            3 => i32::le,
            4 => i32::gt,
            5 => i32::ge,
            _ => return Err(Errno::ENOSYS),
        };
        let first = self.space.with_word(first, Access::Read, |_, key| key)?;
        let (old, second) = self.space.with_word(second, Access::Write, |word, key| {
            let update = |old| Some(change(old, operand));
            let old = word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, update);
            (old.unwrap_or_else(|old| old), key)
        })?;
        let mut count = wake_all(kernel().futexes().wake(first, wake, ANY));
        if compare(&old.cast_signed(), &argument) {
            count += wake_all(kernel().futexes().wake(second, wake_second as usize, ANY));
        }
        Ok(count)
    }
}

fn wake_all(threads: Vec<Arc<Thread>>) -> u64 {
    for thread in &threads {
        thread.wake();
    }
    threads.len() as u64
}
