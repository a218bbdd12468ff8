//! Virtual interrupts: a thread has 64 pending bits, a mask of bits that may be delivered, and a handler.
//!
//! A bit is posted by another thread, by a timer, or by a device. If it is in the thread's *enabled* mask and the thread has a
//! handler, it is delivered when the thread next returns to its own user code: the kernel pushes an
//! [`InterruptFrame`] below the red zone of the thread's stack, masks all delivery, and calls the handler with `rdi`
//! pointing at the frame. The handler ends with `virq_return(frame)`, which restores registers and mask.
//! Without a handler the bits stay pending and are consumed by `virq_take` or `virq_wait`.
//!
//! While the thread is inside `vmspace_ctl(RUN)`, `umtx_sleep`, `sleep_until`, `virq_wait` or a channel wait, a pending bit that is in
//! the enabled mask ends that call at once: RUN returns with reason [`super::vmspace::RUN_VIRTUAL_INTERRUPT`], the others with `EINTR`
//! (`virq_wait` returns bits). This holds with and without a handler, so a bit posted just before the call is never slept over.

use super::vmspace::RegisterFrame;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What the kernel pushes on the stack of a thread to deliver virtual interrupts.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InterruptFrame {
    /// Bits that are delivered now; they are no longer pending.
    pub bits: u64,
    /// Enabled mask to be restored by `virq_return`.
    pub saved_mask: u64,
    /// Registers of the interrupted code (fs and gs base included).
    pub registers: RegisterFrame,
}

/// Bytes below the stack pointer that interrupted code may use (System V ABI), left untouched.
pub const RED_ZONE: u64 = 128;
