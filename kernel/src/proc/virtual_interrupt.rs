//! Virtual interrupts of a thread: pending bits, mask, handler, delivery. See [`dragonet_abi::virtual_interrupt`].

use super::Thread;
use crate::arch::segments;
use crate::arch::trap::TrapFrame;
use crate::debug::counters;
use crate::sched::{self, Schedulable};
use crate::vm::copy;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::Errno;
use dragonet_abi::counters::Counter;
use dragonet_abi::layout::USER_END;
use dragonet_abi::virtual_interrupt::{InterruptFrame, RED_ZONE};

/// Bits of RFLAGS (Intel SDM volume 1, section 3.4.3).
const TRAP_FLAG: u64 = 1 << 8;
const DIRECTION_FLAG: u64 = 1 << 10;

/// A thread's virtual interrupts.
pub struct VirtualInterrupts {
    pending: AtomicU64,
    enabled: AtomicU64,
    /// Bits for which the thread waits in `virq_wait`, enabled or not.
    awaited: AtomicU64,
    handler: AtomicU64,
}

impl VirtualInterrupts {
    /// Nothing pending, nothing enabled, no handler.
    pub const fn new() -> Self {
        VirtualInterrupts {
            pending: AtomicU64::new(0),
            enabled: AtomicU64::new(0),
            awaited: AtomicU64::new(0),
            handler: AtomicU64::new(0),
        }
    }

    /// Bits that are pending and enabled.
    pub fn due(&self) -> u64 {
        self.pending.load(Ordering::SeqCst) & self.enabled.load(Ordering::SeqCst)
    }

    /// Takes pending bits of `mask`.
    pub fn take(&self, mask: u64) -> u64 {
        self.pending.fetch_and(!mask, Ordering::SeqCst) & mask
    }

    /// Sets handler and enabled mask; returns the old mask.
    pub fn control(&self, handler: u64, enabled: u64) -> u64 {
        self.handler.store(handler, Ordering::SeqCst);
        self.enabled.swap(enabled, Ordering::SeqCst)
    }

    /// Says for which bits the thread waits (0: none).
    pub fn set_awaited(&self, mask: u64) {
        self.awaited.store(mask, Ordering::SeqCst);
    }
}

impl Thread {
    /// Posts virtual interrupts to this thread: wakes it if it waits and may be interrupted, sends an IPI only if it runs on another CPU.
    pub fn post(self: &Arc<Self>, bits: u64) {
        counters::count(Counter::VirtualInterruptPosted);
        let interrupts = self.virtual_interrupts();
        let before = interrupts.pending.fetch_or(bits, Ordering::SeqCst);
        let fresh = bits & !before;
        let interesting =
            interrupts.enabled.load(Ordering::SeqCst) | interrupts.awaited.load(Ordering::SeqCst);
        if fresh & interesting != 0 {
            let thread: Arc<dyn Schedulable> = self.clone();
            sched::unpark(&thread);
            sched::reschedule_request(&**self);
        }
    }

    /// Lets the handler run next if an enabled interrupt is pending: changes `frame` so that user mode goes on in the handler.
    pub(super) fn deliver_virtual_interrupts(&self, frame: &mut TrapFrame) {
        let interrupts = self.virtual_interrupts();
        let handler = interrupts.handler.load(Ordering::SeqCst);
        if handler == 0 || interrupts.due() == 0 {
            return;
        }
        let saved_mask = interrupts.enabled.swap(0, Ordering::SeqCst);
        let bits = interrupts.take(saved_mask);
        let registers = super::guest::registers_of(frame, segments::user_bases());
        let delivered = InterruptFrame {
            bits,
            saved_mask,
            registers,
        };
        let below = frame
            .rsp
            .wrapping_sub(RED_ZONE + size_of::<InterruptFrame>() as u64)
            & !0xf;
        // The handler starts as if called: the stack pointer is 8 below a multiple of 16 and names a return address, 0.
        let stack = below.wrapping_sub(8);
        if copy::write(below, &delivered)
            .and_then(|()| copy::write(stack, &0u64))
            .is_err()
        {
            self.process().end_by_exception(super::Exception {
                vector: super::exception::PAGE_FAULT,
                error_code: 2 | 4,
                address: below,
                instruction: frame.rip,
                guard: false,
            });
            return;
        }
        counters::count(Counter::VirtualInterruptDelivered);
        // A function may expect the direction flag to be clear, and nobody single-steps into it.
        frame.rflags &= !(DIRECTION_FLAG | TRAP_FLAG);
        frame.rip = handler;
        frame.rdi = below;
        frame.rsp = stack;
    }

    /// `virq_return`: goes on where the handler interrupted, with the mask from then.
    ///
    /// # Errors
    /// EFAULT when the frame cannot be read; EINVAL when its registers are no user's.
    pub fn return_from_virtual_interrupt(&self, frame: &mut TrapFrame, address: u64) -> Result<(), Errno> {
        let saved: InterruptFrame = copy::read(address)?;
        super::guest::check_registers(&saved.registers)?;
        super::guest::load_registers(frame, &saved.registers);
        segments::set_user_bases(saved.registers.fs_base, saved.registers.gs_base);
        self.virtual_interrupts()
            .enabled
            .store(saved.saved_mask, Ordering::SeqCst);
        if self.virtual_interrupts().due() != 0 {
            sched::reschedule_request(self);
        }
        Ok(())
    }
}

/// A handler's address: 0 or in user space.
///
/// # Errors
/// EINVAL.
pub fn check_handler(handler: u64) -> Result<(), Errno> {
    if handler < USER_END {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}
