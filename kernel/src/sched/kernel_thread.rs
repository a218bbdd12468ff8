//! Threads that never leave the kernel: idle, reapers, the test runner.

use super::switch::{end_current, finish_switch};
use super::task::{Schedulable, Task};
use super::{cpu, current};
use crate::arch::irq::{self, IrqGuard, IrqsOff};
use crate::arch::thread::ThreadContext;
use crate::pmap;
use alloc::sync::Arc;
use dragonet_abi::Errno;

/// A kernel thread and what it runs.
pub struct KernelThread {
    task: Task,
    body: Option<fn()>,
}

impl KernelThread {
    /// The idle thread of the CPU that runs this code: the code itself.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn adopt_idle() -> Result<Arc<dyn Schedulable>, Errno> {
        let index = crate::arch::cpu::index();
        let task = Task::new(ThreadContext::adopt_running()?, 0, 1 << index, index);
        Ok(Arc::new(KernelThread { task, body: None }))
    }
}

impl Schedulable for KernelThread {
    fn task(&self) -> &Task {
        &self.task
    }

    fn switched_in(&self, irqs: &IrqsOff) {
        pmap::switch_to(irqs, None);
    }

    fn needs_attention(&self) -> bool {
        false
    }

    fn timer_expired(self: Arc<Self>, _kind: u8, _now: u64) -> Option<u64> {
        None
    }

    fn switched_out_for_good(self: Arc<Self>) {}
}

extern "C" fn start(_: usize) -> ! {
    begin_thread();
    let body = current::with_current(|thread| {
        let thread: &dyn core::any::Any = thread;
        thread
            .downcast_ref::<KernelThread>()
            .and_then(|thread| thread.body)
    });
    if let Some(Some(body)) = body {
        body();
    }
    end_current()
}

/// The first thing that a new thread of any kind runs: completes the switch that brought it here and lets interrupts in.
pub fn begin_thread() {
    // A new thread starts with interrupts off, as every switch leaves them; the guard restores "off", so turn them on after.
    let guard = IrqGuard::new();
    finish_switch(guard.witness());
    drop(guard);
    irq::enable();
}

/// Starts a kernel thread that runs `body` once, on the CPUs of `affinity`.
///
/// # Errors
/// ENOMEM.
pub fn spawn_kernel_thread(body: fn(), priority: u8, affinity: u64) -> Result<(), Errno> {
    let context = ThreadContext::new(start, 0, None)?;
    let cpu = affinity.trailing_zeros() as usize % crate::arch::cpu::MAX_CPUS;
    let task = Task::new(context, priority, affinity, cpu);
    cpu::make_ready(Arc::new(KernelThread {
        task,
        body: Some(body),
    }));
    Ok(())
}
