//! What the scheduler knows of a thread.

use crate::arch::irq::IrqsOff;
use crate::arch::thread::ThreadContext;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// Something that can run: a [`Task`] and what surrounds it.
pub trait Schedulable: Any + Send + Sync {
    /// The scheduler's part.
    fn task(&self) -> &Task;
    /// Runs with interrupts off right after this thread got the CPU: makes its address space the current one.
    fn switched_in(&self, irqs: &IrqsOff);
    /// True if the thread has something to do before it may go back to user mode.
    fn needs_attention(&self) -> bool;
    /// A timer of the thread, of the given kind (not [`Task::TIMER_PARK`]), has passed. Returns the next deadline of a
    /// periodic one. Interrupts are off, no lock is held.
    fn timer_expired(self: Arc<Self>, kind: u8, now: u64) -> Option<u64>;
    /// The thread has been switched out for the last time. Interrupts are off: hand it on and return.
    fn switched_out_for_good(self: Arc<Self>);
}

/// Where a thread is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// In a run queue, or created and not yet started.
    Ready = 0,
    /// On a CPU.
    Running = 1,
    /// Parked.
    Waiting = 2,
    /// Will never run again.
    Ended = 3,
}

/// The scheduler's part of a thread.
pub struct Task {
    pub(super) context: ThreadContext,
    pub(super) priority: AtomicU8,
    pub(super) affinity: AtomicU64,
    /// CPU on which it runs or ran last.
    pub(super) cpu: AtomicUsize,
    /// Park token: [`super::park`].
    pub(super) token: AtomicU8,
    state: AtomicU8,
    cpu_time: AtomicU64,
    pub(super) switched_in_at: AtomicU64,
}

impl Task {
    /// Kind of the timer that ends a park.
    pub const TIMER_PARK: u8 = 0;

    /// A task around a context, not yet ready.
    pub fn new(context: ThreadContext, priority: u8, affinity: u64, cpu: usize) -> Self {
        Task {
            context,
            priority: AtomicU8::new(priority),
            affinity: AtomicU64::new(affinity),
            cpu: AtomicUsize::new(cpu),
            token: AtomicU8::new(0),
            state: AtomicU8::new(State::Ready as u8),
            cpu_time: AtomicU64::new(0),
            switched_in_at: AtomicU64::new(0),
        }
    }

    /// The machine state.
    pub fn context(&self) -> &ThreadContext {
        &self.context
    }

    /// Where the thread is now.
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            0 => State::Ready,
            1 => State::Running,
            2 => State::Waiting,
            _ => State::Ended,
        }
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// CPU on which it runs or ran last.
    pub fn cpu(&self) -> usize {
        self.cpu.load(Ordering::Relaxed)
    }

    /// Priority, 0 to 31.
    pub fn priority(&self) -> u8 {
        self.priority.load(Ordering::Relaxed)
    }

    /// Sets the priority, which takes effect when the thread is next queued.
    pub fn set_priority(&self, priority: u8) {
        self.priority.store(priority.min(31), Ordering::SeqCst);
    }

    /// CPUs on which it may run, a bit each.
    pub fn affinity(&self) -> u64 {
        self.affinity.load(Ordering::Relaxed)
    }

    /// Sets the CPUs on which it may run; the caller has checked that one of them is online.
    pub fn set_affinity(&self, mask: u64) {
        self.affinity.store(mask, Ordering::SeqCst);
    }

    /// Nanoseconds on a CPU, up to the last switch.
    pub fn cpu_time(&self) -> u64 {
        self.cpu_time.load(Ordering::Relaxed)
    }

    /// Nanoseconds on a CPU up to now, for the running thread itself.
    pub fn cpu_time_now(&self) -> u64 {
        let since = self.switched_in_at.load(Ordering::Relaxed);
        self.cpu_time() + crate::arch::clock::now().saturating_sub(since)
    }

    pub(super) fn account(&self, now: u64) {
        let since = self.switched_in_at.swap(now, Ordering::Relaxed);
        self.cpu_time
            .fetch_add(now.saturating_sub(since), Ordering::Relaxed);
    }
}
