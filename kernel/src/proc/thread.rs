//! A thread of a process.

use super::guest::{GuestContext, TIMER_RUN};
use super::virtual_interrupt::VirtualInterrupts;
use super::{Process, reaper};
use crate::arch::clock;
use crate::arch::irq::IrqsOff;
use crate::arch::thread::ThreadContext;
use crate::arch::trap::TrapFrame;
use crate::debug::counters;
use crate::ipc::CallSlot;
use crate::sched::{self, Schedulable, Task, TimerKey, WaitQueue};
use crate::sync::{Rank, SpinLock};
use crate::{mm, pmap};
use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use dragonet_abi::counters::Counter;
use dragonet_abi::time::FOREVER;
use dragonet_abi::{Errno, Rights};

/// A thread.
pub struct Thread {
    id: u64,
    me: Weak<Thread>,
    process: Arc<Process>,
    task: Task,
    interrupts: VirtualInterrupts,
    pub(super) guest: SpinLock<GuestContext>,
    pub(super) in_guest: AtomicBool,
    /// When RUN must end; FOREVER for never.
    pub(super) run_deadline: AtomicU64,
    timer: SpinLock<OwnTimer>,
    call: CallSlot,
    exiting: AtomicBool,
    gone: AtomicBool,
    ended: WaitQueue,
}

/// The timer that `timer_set` sets.
struct OwnTimer {
    key: Option<TimerKey>,
    period: u64,
    bit: u8,
    deadline: u64,
}

impl OwnTimer {
    fn stop(&mut self) {
        if let Some(key) = self.key.take() {
            sched::stop_timer(key);
        }
    }
}

/// When a timer that has passed fires next; FOREVER for never. Periods that are over are skipped: one that begins far in the
/// past would catch up with one interrupt after the other.
pub(super) const fn next_deadline(deadline: u64, period: u64, now: u64) -> u64 {
    if period == 0 {
        return FOREVER;
    }
    let over = now.saturating_sub(deadline) / period;
    deadline.saturating_add(period.saturating_mul(over.saturating_add(1)))
}

const TIMER_OWN: u8 = 2;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);
static ALIVE: AtomicU32 = AtomicU32::new(0);

/// Threads of processes that have not been freed.
pub fn threads_alive() -> u32 {
    ALIVE.load(Ordering::Relaxed)
}

/// Where a new thread begins: its first return to user mode.
extern "C" fn begin(_: usize) -> ! {
    sched::begin_thread();
    sched::with_current(|thread| thread.task().context().enter_user());
    unreachable!("entering user mode does not return");
}

impl Thread {
    /// A thread of `process` that will begin with the registers of `frame`. It does nothing before [`Thread::start`].
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(
        process: &Arc<Process>,
        frame: TrapFrame,
        priority: u8,
        affinity: u64,
    ) -> Result<Arc<Self>, Errno> {
        mm::check_headroom()?;
        let context = ThreadContext::new(begin, 0, Some(frame))?;
        let cpu = super::guest::current_cpu() as usize;
        let thread = Arc::new_cyclic(|me| Thread {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            me: me.clone(),
            process: process.clone(),
            task: Task::new(context, priority, affinity, cpu),
            interrupts: VirtualInterrupts::new(),
            guest: SpinLock::new(Rank::Thread, GuestContext::new()),
            in_guest: AtomicBool::new(false),
            run_deadline: AtomicU64::new(FOREVER),
            timer: SpinLock::new(
                Rank::Thread,
                OwnTimer {
                    key: None,
                    period: 0,
                    bit: 0,
                    deadline: FOREVER,
                },
            ),
            call: CallSlot::new(),
            exiting: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            ended: WaitQueue::new(),
        });
        ALIVE.fetch_add(1, Ordering::Relaxed);
        Ok(thread)
    }

    /// Lets a new thread run. `first`: it is the one that starts the process.
    ///
    /// # Errors
    /// ESRCH when the process is ending; EBUSY when `first` and it has been started, EINVAL when not `first` and it has not; EAGAIN
    /// at the limit of threads; ENOMEM. The thread is gone then.
    pub fn start(self: &Arc<Self>, first: bool) -> Result<(), Errno> {
        if let Err(errno) = self.process.add_thread(self, first) {
            self.note_gone();
            return Err(errno);
        }
        sched::make_ready(self.clone());
        Ok(())
    }

    /// Thread id, never used again.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The process that it belongs to.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Its virtual interrupts.
    pub fn virtual_interrupts(&self) -> &VirtualInterrupts {
        &self.interrupts
    }

    /// Its outstanding channel call.
    pub fn call_slot(&self) -> &CallSlot {
        &self.call
    }

    /// A counted reference to itself.
    ///
    /// # Panics
    /// Never while the thread is reachable, which the receiver proves.
    pub fn arc(&self) -> Arc<Thread> {
        self.me.upgrade().expect("a thread that is borrowed is alive")
    }

    /// EINTR if a wait should end: the thread must go, or a virtual interrupt is due.
    ///
    /// # Errors
    /// EINTR.
    pub fn interrupted(&self) -> Result<(), Errno> {
        if self.must_go() || self.interrupts.due() != 0 {
            Err(Errno::EINTR)
        } else {
            Ok(())
        }
    }

    /// True if the thread will end at its next return to user mode.
    pub fn must_go(&self) -> bool {
        self.exiting.load(Ordering::Relaxed) || self.process.is_ending()
    }

    /// Marks the thread, which is the caller, as ending; it goes at its return to user mode.
    pub fn exit(&self) {
        self.exiting.store(true, Ordering::Relaxed);
        sched::reschedule_request(self);
    }

    /// What a thread does before it returns to user mode when its CPU has work. Does not return if the thread must go.
    pub fn before_user(&self, frame: &mut TrapFrame) {
        if self.must_go() {
            self.leave_for_good();
        }
        self.leave_guest_if_due(frame);
        if !self.is_guest() {
            self.deliver_virtual_interrupts(frame);
        }
        if self.must_go() {
            self.leave_for_good();
        }
    }

    fn leave_for_good(&self) -> ! {
        self.abandon_guest();
        self.timer.lock().stop();
        counters::count(Counter::ThreadExit);
        sched::end_current()
    }

    /// Sets the thread's own timer (`timer_set`); FOREVER stops it.
    pub fn set_timer(self: &Arc<Self>, deadline: u64, period: u64, bit: u8) {
        let mut timer = self.timer.lock();
        timer.stop();
        timer.period = period;
        timer.bit = bit;
        timer.deadline = deadline;
        if deadline != FOREVER {
            timer.key = Some(sched::start_timer(deadline, self.clone(), TIMER_OWN));
        }
    }

    /// The own timer has passed: arms the next period and posts the bit.
    fn own_timer_expired(self: &Arc<Self>, now: u64) {
        let bit = {
            let mut timer = self.timer.lock();
            // One that was stopped while its interrupt was on the way finds a later deadline here.
            if now < timer.deadline || self.must_go() {
                return;
            }
            // Set anew to a time that has passed as well, it may have two entries in flight; one is enough.
            timer.stop();
            timer.deadline = next_deadline(timer.deadline, timer.period, now);
            if timer.deadline != FOREVER {
                timer.key = Some(sched::start_timer(timer.deadline, self.clone(), TIMER_OWN));
            }
            timer.bit
        };
        self.post(1 << bit);
    }

    /// True if RUN's time-out has passed.
    pub(super) fn run_timed_out(&self) -> bool {
        let deadline = self.run_deadline.load(Ordering::Relaxed);
        deadline != FOREVER && clock::now() >= deadline
    }

    /// Called by the reaper: the thread is off its CPU for good.
    pub(super) fn finish(self: Arc<Self>) {
        let process = self.process.clone();
        process.thread_gone(self);
    }

    /// Tells those who wait for the thread that it is gone.
    pub(super) fn note_gone(&self) {
        self.gone.store(true, Ordering::Release);
        self.ended.wake_all();
    }

    /// Waits until this thread is gone.
    ///
    /// # Errors
    /// ETIMEDOUT, EINTR.
    pub fn wait(&self, deadline: u64, waiter: &Thread) -> Result<(), Errno> {
        self.ended.wait(
            deadline,
            || waiter.interrupted(),
            || self.gone.load(Ordering::Acquire).then_some(()),
        )
    }

    /// Rights that the creator gets.
    pub const RIGHTS: Rights = Rights::WAIT
        .union(Rights::MANAGE)
        .union(Rights::POST)
        .union(Rights::READ)
        .union(Rights::DUPLICATE)
        .union(Rights::TRANSFER);
}

impl Schedulable for Thread {
    fn task(&self) -> &Task {
        &self.task
    }

    fn switched_in(&self, irqs: &IrqsOff) {
        if self.is_guest() {
            let context = self.guest.lock();
            if let Some(guest) = &context.active {
                pmap::switch_to(irqs, Some(guest.entered()));
                return;
            }
        }
        pmap::switch_to(irqs, Some(self.process.vmspace()));
    }

    fn needs_attention(&self) -> bool {
        self.must_go()
            || self.interrupts.due() != 0
            || (self.is_guest() && (self.run_timed_out() || self.guest_is_destroyed()))
    }

    fn timer_expired(self: Arc<Self>, kind: u8, now: u64) -> Option<u64> {
        if kind == TIMER_RUN {
            // From here on it has passed, even if the clock of the CPU that runs the thread is a little behind this one's. A timer of an
            // earlier RUN that was stopped on its way here changes nothing.
            let _later = self
                .run_deadline
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |deadline| {
                    (deadline <= now).then_some(0)
                });
            sched::reschedule_request(&*self);
        } else {
            self.own_timer_expired(now);
        }
        None
    }

    fn switched_out_for_good(self: Arc<Self>) {
        reaper::hand_over(self);
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Calls `action` with the thread of a process that runs now; None in kernel threads.
pub fn with_current<R>(action: impl FnOnce(&Thread) -> R) -> Option<R> {
    sched::with_current(|thread| {
        let thread: &dyn Any = thread;
        thread.downcast_ref::<Thread>().map(action)
    })
    .flatten()
}
