//! One virtual CPU: a host thread that polls guest threads, keeps time, and sleeps in the host when there is nothing to do.
//!
//! Virtual interrupts are its interrupts: `IPI` says "look at your queue, your thread's signals, your timers", `CLOCK` is the timer it armed.
//! Both are enabled and have no handler, so they end `vmspace_ctl(RUN)` and are then taken; a bit that was posted
//! before RUN ends it at once, so nothing that was checked before can be missed.

use crate::clock;
use crate::host;
use crate::kernel::kernel;
use crate::process::{Poll, Thread};
use crate::sched::timers::Timers;
use crate::sync::Lock;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use dragonet_abi::time::FOREVER;

/// Another CPU, or a helper thread, wants this CPU to look around.
const IPI: u64 = 1 << 0;
/// Bit number of the CPU's own timer.
const CLOCK_BIT: u32 = 1;
/// The timer that this CPU armed.
const CLOCK: u64 = 1 << CLOCK_BIT;
/// Nanoseconds that a thread may run while others wait for the CPU.
const SLICE: u64 = 10_000_000;

/// Counts of one CPU, shown by `-v`.
#[derive(Default)]
pub struct Counters {
    /// Entries of `vmspace_ctl(RUN)`.
    pub runs: AtomicU64,
    /// System calls of programs.
    pub syscalls: AtomicU64,
    /// Page faults that reached the vkernel.
    pub faults: AtomicU64,
    /// Other exceptions.
    pub exceptions: AtomicU64,
    /// RUN ended by IPI or clock.
    pub interrupts: AtomicU64,
    /// Threads put on the CPU.
    pub switches: AtomicU64,
    /// Times it went to sleep.
    pub idles: AtomicU64,
}

impl Counters {
    /// Adds one. Only the CPU itself writes, so no read-modify-write is needed.
    pub fn count(counter: &AtomicU64) {
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// One virtual CPU.
pub struct Cpu {
    index: usize,
    host_thread: spin::Once<host::Thread>,
    up: AtomicBool,
    timers: Lock<Timers<Arc<Thread>>>,
    /// When the host's timer will fire; [`FOREVER`] if it is not armed. Written by the CPU itself.
    armed: AtomicU64,
    /// When the current thread has to give way; [`FOREVER`] if nobody waits.
    slice_end: AtomicU64,
    /// The current thread has to give way now.
    give_way: AtomicBool,
    /// Serial number of the thread whose FPU registers this host thread holds.
    fpu_owner: AtomicU64,
    counters: Counters,
}

impl Cpu {
    /// A CPU that is not running yet.
    pub fn new(index: usize) -> Self {
        Cpu {
            index,
            host_thread: spin::Once::new(),
            up: AtomicBool::new(false),
            timers: Lock::new(Timers::new()),
            armed: AtomicU64::new(FOREVER),
            slice_end: AtomicU64::new(FOREVER),
            give_way: AtomicBool::new(false),
            fpu_owner: AtomicU64::new(0),
            counters: Counters::default(),
        }
    }

    /// Its counts.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Its timers.
    pub fn timers(&self) -> &Lock<Timers<Arc<Thread>>> {
        &self.timers
    }

    /// The serial number of the guest thread whose FPU registers are loaded.
    pub fn fpu_owner(&self) -> &AtomicU64 {
        &self.fpu_owner
    }

    /// True once the host thread of this CPU takes interrupts.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Makes the CPU look around, if it is up. Callable from any host thread.
    pub fn interrupt(&self) {
        if let Some(thread) = self.host_thread.get() {
            thread.post(IPI);
        }
    }

    /// Says which host thread is this CPU. It waits for that, so that no interrupt is lost.
    pub fn set_host_thread(&self, thread: host::Thread) {
        self.host_thread.call_once(|| thread);
    }

    /// Turns the calling host thread into this CPU, for good.
    pub fn run(&self) -> ! {
        while !self.host_thread.is_completed() {
            host::thread_yield();
        }
        host::enable_interrupts(IPI | CLOCK);
        self.up.store(true, Ordering::Relaxed);
        kernel().cpu_is_up(self.index);
        let queues = kernel().queues();
        loop {
            if let Some(thread) = queues.pop(self.index) {
                self.poll(thread);
                continue;
            }
            queues.declare_idle(self.index);
            match queues.pop(self.index) {
                Some(thread) => {
                    queues.declare_busy(self.index);
                    self.poll(thread);
                }
                None => {
                    self.sleep();
                    queues.declare_busy(self.index);
                }
            }
        }
    }

    fn poll(&self, thread: Arc<Thread>) {
        Counters::count(&self.counters.switches);
        self.slice_end.store(FOREVER, Ordering::Relaxed);
        self.give_way.store(false, Ordering::Relaxed);
        match Thread::poll(&thread, self.index) {
            Poll::Runnable => {
                // The queue it goes back to is this CPU's own, which looks at it next, unless an idle CPU took it.
                kernel().queue(thread, self.index);
            }
            Poll::Sleeping | Poll::Ended => {}
        }
    }

    /// Nothing to run: sleeps until an interrupt or the next timer.
    fn sleep(&self) {
        Counters::count(&self.counters.idles);
        kernel().console().flush_partial();
        let next = self.timers.lock().next();
        let timeout = if next == FOREVER {
            FOREVER
        } else {
            next.saturating_sub(clock::monotonic())
        };
        let bits = if timeout == 0 {
            0
        } else {
            host::wait_for_interrupt(IPI | CLOCK, timeout)
        };
        self.took(bits);
        self.expire_timers();
    }

    /// Before the current thread enters its program: sees to it that the clock ends the run in time.
    pub fn before_run(&self) {
        let waiting = kernel().queues().waiting(self.index) > 0;
        if !waiting {
            self.slice_end.store(FOREVER, Ordering::Relaxed);
        } else if self.slice_end.load(Ordering::Relaxed) == FOREVER {
            self.slice_end
                .store(clock::monotonic() + SLICE, Ordering::Relaxed);
        }
        let next_timer = self.timers.lock().next();
        let wanted = next_timer
            .min(self.slice_end.load(Ordering::Relaxed))
            .min(kernel().console().flush_time());
        if wanted < self.armed.load(Ordering::Relaxed) {
            self.armed.store(wanted, Ordering::Relaxed);
            host::set_timer(wanted, CLOCK_BIT);
        }
    }

    /// An interrupt ended a run: takes the pending bits and does what they ask for.
    pub fn after_interrupt(&self) {
        Counters::count(&self.counters.interrupts);
        let bits = host::take_interrupts(IPI | CLOCK);
        self.took(bits);
        if bits & CLOCK != 0 {
            self.expire_timers();
            if self.slice_end.load(Ordering::Relaxed) <= clock::monotonic() {
                self.give_way.store(true, Ordering::Relaxed);
            }
            kernel().console().flush_due();
        }
    }

    /// True if the current thread should let another one run.
    pub fn must_give_way(&self) -> bool {
        self.give_way.load(Ordering::Relaxed)
    }

    fn took(&self, bits: u64) {
        if bits & CLOCK != 0 {
            self.armed.store(FOREVER, Ordering::Relaxed);
        }
    }

    fn expire_timers(&self) {
        let due = {
            let mut timers = self.timers.lock();
            if timers.next() == FOREVER {
                return;
            }
            timers.take_due(clock::monotonic())
        };
        for thread in due {
            thread.wake();
        }
    }
}
