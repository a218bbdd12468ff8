//! Switching threads on this CPU: preemption, giving way, idling, the end of a thread.

use super::task::{Schedulable, State};
use super::{cpu, current, work};
use crate::arch::irq::{self, IrqGuard, IrqsOff};
use crate::arch::thread::ThreadContext;
use crate::arch::{clock, cpu as machine};
use crate::debug::counters;
use crate::sync;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use dragonet_abi::counters::Counter;

/// What becomes of the thread that is switched away from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// It goes to the end of its queue.
    Requeue,
    /// It has parked; its waker has it.
    Park,
    /// It has ended.
    End,
}

/// Asks this CPU to look at `bits` of work before it returns to user mode.
pub(super) fn request(irqs: &IrqsOff, bits: u32) {
    machine::slot(irqs).request_work(bits);
}

/// Asks the CPU that runs `thread` to look at it before going on in user mode; sends an IPI only if that is another CPU and
/// the thread is running there.
pub fn reschedule_request(thread: &dyn Schedulable) {
    notify(thread, work::ATTENTION);
}

/// The same after a change of the thread's priority or affinity: the CPU that runs it chooses again.
pub fn reconsider(thread: &dyn Schedulable) {
    notify(thread, work::RESCHEDULE);
}

/// Asks CPUs, a bit each, to look at the thread that they run before they go on in user mode; sends an IPI to each but this one.
pub fn request_attention(cpus: u64) {
    let guard = IrqGuard::new();
    for target in (0..machine::MAX_CPUS).filter(|&index| cpus >> index & 1 != 0) {
        ask(guard.witness(), target, work::ATTENTION);
    }
}

fn notify(thread: &dyn Schedulable, bits: u32) {
    let guard = IrqGuard::new();
    let task = thread.task();
    if task.state() != State::Running {
        // It looks at itself when it is switched in.
        return;
    }
    ask(guard.witness(), task.cpu(), bits);
}

fn ask(irqs: &IrqsOff, target: usize, bits: u32) {
    if target == machine::index() {
        request(irqs, bits);
    } else {
        machine::by_index(target).request_work(bits);
        crate::arch::apic::send(target, crate::arch::apic::Vector::Reschedule);
    }
}

/// Switches to the next thread if one of the same priority waits.
pub fn yield_now() {
    give_way(0);
}

/// Lets others run if this CPU has been asked to: for calls that take long, between two pieces of their work.
pub fn offer() {
    let asked = {
        let guard = IrqGuard::new();
        machine::slot(guard.witness()).work.load(Ordering::Relaxed) & work::RESCHEDULE != 0
    };
    if asked {
        preempt_if_due();
    }
}

/// Called before a return to user mode with the RESCHEDULE bit: switches if the thread may no longer run here, a better
/// thread waits, or an equal one and the quantum is over.
pub fn preempt_if_due() {
    move_if_needed();
    let over = cpu::quantum_end(machine::index()) <= clock::now();
    give_way(usize::from(!over));
}

/// Leaves this CPU if the current thread's affinity no longer allows it.
pub fn move_if_needed() {
    let guard = IrqGuard::new();
    let stays = current::with_current(|thread| cpu::may_run_on(thread, machine::index())).unwrap_or(true);
    if !stays {
        let here = cpu::this(guard.witness());
        let next = here.pick(0).unwrap_or_else(|| here.idle().clone());
        switch_to(guard.witness(), next, After::Requeue);
    }
}

fn give_way(above: usize) {
    let guard = IrqGuard::new();
    let own = current::with_current(|thread| thread.task().priority()).unwrap_or(0);
    let here = cpu::this(guard.witness());
    if let Some(next) = here.pick(usize::from(own) + above) {
        switch_to(guard.witness(), next, After::Requeue);
    } else {
        here.go_on(guard.witness(), own);
    }
}

/// Gives the CPU away for good.
pub fn end_current() -> ! {
    let guard = IrqGuard::new();
    current::current().task().set_state(State::Ended);
    switch_away(guard.witness(), After::End);
    unreachable!("an ended thread was switched to");
}

/// Switches to any other thread: the next of this CPU, one from another CPU, or the idle thread.
pub(super) fn switch_away(irqs: &IrqsOff, after: After) {
    let here = cpu::this(irqs);
    let next = here
        .pick(0)
        .or_else(|| here.steal(machine::index()))
        .unwrap_or_else(|| here.idle().clone());
    switch_to(irqs, next, after);
}

fn switch_to(irqs: &IrqsOff, next: Arc<dyn Schedulable>, after: After) {
    sync::assert_none_held("switching threads");
    counters::count(Counter::ContextSwitch);
    let here = cpu::this(irqs);
    let now = clock::now();
    let task = next.task();
    task.cpu.store(machine::index(), Ordering::Relaxed);
    task.switched_in_at.store(now, Ordering::Relaxed);
    task.set_state(State::Running);
    // From here on a poster that sees Running sends its IPI here; what was posted before is seen by `needs_attention`.
    core::sync::atomic::fence(Ordering::SeqCst);
    here.note_current(irqs, &next, task, now);
    let next_context: *const ThreadContext = task.context();
    let previous = current::replace(irqs, next).expect("a thread is current");
    let previous_task = previous.task();
    previous_task.account(now);
    let previous_context: *const ThreadContext = previous_task.context();
    *here.previous.lock() = Some((previous, after));
    switch_contexts(irqs, previous_context, next_context);
    finish_switch(irqs);
}

#[allow(unsafe_code)]
fn switch_contexts(irqs: &IrqsOff, previous: *const ThreadContext, next: *const ThreadContext) {
    // SAFETY: both threads are counted for the whole time: `next` by this CPU's current slot, `previous` by this CPU's slot for the
    // thread before, which is taken only by `finish_switch` on the new stack, and from then on by whoever may resume it.
    let (previous, next) = unsafe { (&*previous, &*next) };
    ThreadContext::switch(irqs, previous, next);
}

/// The first thing that runs after every switch, on the new thread's stack.
pub(super) fn finish_switch(irqs: &IrqsOff) {
    let taken = cpu::this(irqs).previous.lock().take();
    current::with_current(|thread| {
        thread.switched_in(irqs);
        if thread.needs_attention() {
            request(irqs, work::ATTENTION);
        }
        // It was queued here before its affinity changed.
        if !cpu::may_run_on(thread, machine::index()) {
            request(irqs, work::RESCHEDULE);
        }
    });
    let Some((previous, after)) = taken else { return };
    previous.task().context().mark_switched_out();
    match after {
        After::Park => {}
        After::End => previous.switched_out_for_good(),
        After::Requeue => {
            let idle = cpu::this(irqs).idle();
            if !Arc::ptr_eq(&previous, idle) {
                cpu::make_ready(previous);
            }
        }
    }
}

/// What an idle CPU does: runs whatever becomes ready, sleeps otherwise.
pub fn idle_loop() -> ! {
    loop {
        let guard = IrqGuard::new();
        let index = machine::index();
        let here = cpu::this(guard.witness());
        if let Some(next) = here.pick(0).or_else(|| here.steal(index)) {
            switch_to(guard.witness(), next, After::Requeue);
            continue;
        }
        if here.prepare_idle(index) {
            counters::count(Counter::Idle);
            irq::wait_for_interrupt(guard);
        }
        here.end_idle(index);
    }
}
