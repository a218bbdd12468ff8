//! The machine state of one kernel thread: its stack, saved registers, extended state and user segment bases.
//!
//! The scheduler owns the protocol: a context is *running* on one CPU or *switched out*, and may be switched to only in the
//! second state. The state is an atomic in the context itself, so that a mistake is a panic, not two CPUs on one stack.

use super::context::{self, Context};
use super::fpu::FpuState;
use super::irq::IrqsOff;
use super::segments;
use super::trap::TrapFrame;
use crate::mm::stack::KernelStack;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};
use dragonet_abi::Errno;

/// What a thread leaves behind when it is switched out.
struct Saved {
    context: Context,
    /// Extended state of the user program; none for threads that never leave the kernel.
    fpu: Option<FpuState>,
    /// FS and GS bases of the user program.
    bases: (u64, u64),
}

/// Machine state of one thread.
pub struct ThreadContext {
    stack: KernelStack,
    saved: UnsafeCell<Saved>,
    switched_out: AtomicBool,
}

// SAFETY: `saved` is touched only by the CPU that runs the thread and, after it has set `switched_out` with release
// order, by the CPU that then takes it with an acquiring swap: there is always one owner.
unsafe impl Sync for ThreadContext {}

impl ThreadContext {
    /// A thread that will begin at `entry(argument)` in kernel mode. With a `frame` it has user state: the frame is placed at the
    /// top of its stack for [`ThreadContext::enter_user`].
    ///
    /// # Errors
    /// ENOMEM when there is no frame for the stack or the extended state.
    pub fn new(
        entry: extern "C" fn(usize) -> !,
        argument: usize,
        frame: Option<TrapFrame>,
    ) -> Result<Self, Errno> {
        let stack = KernelStack::new()?;
        let top = stack.top();
        let fpu = if frame.is_some() {
            Some(FpuState::new()?)
        } else {
            None
        };
        let mut start = top;
        if let Some(frame) = frame {
            start = top - size_of::<TrapFrame>() as u64;
            // SAFETY: the stack is ours alone and larger than a frame; `start` is 16-byte aligned as the frame's size is
            // a multiple of 16 or the alignment of u64 suffices.
            unsafe { start.as_mut_ptr::<TrapFrame>().write(frame) };
        }
        // The frame stays above the initial stack pointer, so that running kernel code cannot overwrite it.
        let context = context::prepare(start.align_down(16u64), entry, argument);
        let saved = Saved {
            context,
            fpu,
            bases: (0, 0),
        };
        Ok(ThreadContext {
            stack,
            saved: UnsafeCell::new(saved),
            switched_out: AtomicBool::new(true),
        })
    }

    /// The context of the code that runs now (a CPU's boot stack): it is running, and gets its registers when it is switched out.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn adopt_running() -> Result<Self, Errno> {
        extern "C" fn never(_: usize) -> ! {
            unreachable!("an adopted context is resumed, not entered")
        }
        let adopted = Self::new(never, 0, None)?;
        adopted.switched_out.store(false, Ordering::Relaxed);
        Ok(adopted)
    }

    /// Leaves the kernel through the frame at the top of the current thread's stack.
    pub fn enter_user(&self) -> ! {
        context::return_to_user(self.stack.top())
    }

    /// Switches this CPU from the running thread `from` to `to`. Returns when `from` is switched to again, perhaps on another CPU.
    /// The code that runs next must call [`ThreadContext::mark_switched_out`] on `from`.
    ///
    /// # Panics
    /// If `to` is running.
    pub fn switch(irqs: &IrqsOff, from: &ThreadContext, to: &ThreadContext) {
        assert!(
            to.switched_out.swap(false, Ordering::Acquire),
            "switching to a thread that is running"
        );
        let from_saved = from.saved.get();
        let to_saved = to.saved.get();
        context::set_kernel_stack(irqs, to.stack.top());
        // SAFETY: `from` is this CPU's running thread and `to` was just claimed, so both `Saved` are ours alone. The stacks
        // live in their contexts, which the scheduler keeps alive while they are current or ready.
        unsafe {
            if let Some(fpu) = &mut (*from_saved).fpu {
                fpu.save();
                (*from_saved).bases = segments::user_bases();
            }
            if let Some(fpu) = &(*to_saved).fpu {
                fpu.restore();
                let (fs, gs) = (*to_saved).bases;
                segments::set_user_bases(fs, gs);
            }
            context::switch(&raw mut (*from_saved).context, &raw const (*to_saved).context);
        }
    }

    /// Says that the thread's registers are saved and its stack is no longer in use: called once on the next stack after a switch.
    pub fn mark_switched_out(&self) {
        self.switched_out.store(true, Ordering::Release);
    }

    /// False while a CPU runs the thread, or is just switching away from it.
    pub fn is_switched_out(&self) -> bool {
        self.switched_out.load(Ordering::Acquire)
    }
}
