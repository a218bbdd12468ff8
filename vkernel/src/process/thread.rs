//! A thread as the rest of the vkernel sees it: something that can be woken, interrupted, signalled and moved between CPUs.

use crate::host;
use crate::kernel::kernel;
use crate::process::Process;
use crate::sched::Cpu;
use crate::sched::fpu::FpuState;
use crate::signal::PendingSignals;
use crate::sync::Lock;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::task::Wake;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use core::task::{Context, Waker};

/// What a thread does: runs its program until the program ends.
pub type Body = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Waits; not queued anywhere.
const SLEEPING: u8 = 0;
/// In a run queue, or on its way there.
const QUEUED: u8 = 1;
/// Being polled.
const RUNNING: u8 = 2;
/// Being polled, and woken meanwhile: it goes back to the queue instead of to sleep.
const NOTIFIED: u8 = 3;
/// Its body is done.
const ENDED: u8 = 4;

/// How a poll went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// To be queued again.
    Runnable,
    /// Somebody will wake it.
    Sleeping,
    /// Gone.
    Ended,
}

/// One thread of a program.
pub struct Thread {
    /// Never reused, unlike the id.
    serial: u64,
    id: AtomicU32,
    /// What it belongs to.
    pub process: Arc<Process>,
    state: AtomicU8,
    body: Lock<Option<Body>>,
    cpu: AtomicUsize,
    affinity: AtomicU64,
    attention: AtomicBool,
    must_end: AtomicBool,
    fpu: Lock<ThreadFpu>,
    /// Signals sent to this thread alone.
    pub pending: Lock<PendingSignals>,
    blocked: AtomicU64,
}

struct ThreadFpu {
    state: FpuState,
    /// The CPU's registers are newer than `state`.
    live: bool,
    /// The CPU that last loaded or stored `state`.
    cpu: usize,
}

impl Thread {
    /// A thread that has no body yet.
    pub fn new(
        id: u32,
        process: Arc<Process>,
        fpu: FpuState,
        blocked: u64,
        affinity: u64,
        cpu: usize,
    ) -> Arc<Self> {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        Arc::new(Thread {
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            id: AtomicU32::new(id),
            process,
            state: AtomicU8::new(SLEEPING),
            body: Lock::new(None),
            cpu: AtomicUsize::new(cpu),
            affinity: AtomicU64::new(affinity),
            attention: AtomicBool::new(false),
            must_end: AtomicBool::new(false),
            fpu: Lock::new(ThreadFpu {
                state: fpu,
                live: false,
                cpu: usize::MAX,
            }),
            pending: Lock::new(PendingSignals::new()),
            blocked: AtomicU64::new(blocked),
        })
    }

    /// Its id, which changes only when it executes a program while others hold the process's id.
    pub fn id(&self) -> u32 {
        self.id.load(Ordering::Relaxed)
    }

    /// Gives it the process's id.
    pub fn become_leader(&self) {
        self.id.store(self.process.id, Ordering::Relaxed);
    }

    /// The CPU that it runs on, or ran on last.
    pub fn cpu(&self) -> usize {
        self.cpu.load(Ordering::Relaxed)
    }

    /// Mask of CPUs on which it may run.
    pub fn affinity(&self) -> u64 {
        self.affinity.load(Ordering::Relaxed)
    }

    /// Changes the mask; it is looked at when the thread is next queued.
    pub fn set_affinity(&self, mask: u64) {
        self.affinity.store(mask, Ordering::Relaxed);
    }

    /// Mask of signals that are not delivered.
    pub fn blocked(&self) -> u64 {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Changes the mask. Only the thread itself does so.
    pub fn set_blocked(&self, mask: u64) {
        self.blocked.store(mask, Ordering::SeqCst);
        self.attention.store(true, Ordering::SeqCst);
    }

    /// Gives it its body and lets it run.
    pub fn start(self: &Arc<Self>, body: Body) {
        *self.body.lock() = Some(body);
        self.wake();
    }

    /// Makes it look again at what it waits for. Whatever was changed before is seen.
    pub fn wake(self: &Arc<Self>) {
        fence(Ordering::SeqCst);
        let mut state = self.state.load(Ordering::SeqCst);
        loop {
            let next = match state {
                SLEEPING => QUEUED,
                RUNNING => NOTIFIED,
                _ => return,
            };
            match self
                .state
                .compare_exchange(state, next, Ordering::SeqCst, Ordering::SeqCst)
            {
                Ok(_) if next == QUEUED => return kernel().queue(self.clone(), self.cpu()),
                Ok(_) => return,
                Err(now) => state = now,
            }
        }
    }

    /// Makes it look at signals and its end, wherever it is: asleep, queued, or in its program on some CPU.
    pub fn interrupt(self: &Arc<Self>) {
        self.attention.store(true, Ordering::SeqCst);
        self.wake();
        if matches!(self.state.load(Ordering::SeqCst), RUNNING | NOTIFIED) {
            kernel().cpu(self.cpu()).interrupt();
        }
    }

    /// True if someone called [`Self::interrupt`] since the last time.
    pub fn take_attention(&self) -> bool {
        self.attention.load(Ordering::SeqCst) && self.attention.swap(false, Ordering::SeqCst)
    }

    /// Ends it as soon as it can be reached.
    pub fn end(self: &Arc<Self>) {
        self.must_end.store(true, Ordering::SeqCst);
        self.interrupt();
    }

    /// True after [`Self::end`].
    pub fn must_end(&self) -> bool {
        self.must_end.load(Ordering::SeqCst)
    }

    /// Runs its body on `cpu` until it waits. The caller took it out of a run queue.
    pub fn poll(thread: &Arc<Self>, cpu: usize) -> Poll {
        thread.cpu.store(cpu, Ordering::Relaxed);
        thread.state.swap(RUNNING, Ordering::SeqCst);
        let Some(mut body) = thread.body.lock().take() else {
            thread.state.store(ENDED, Ordering::SeqCst);
            return Poll::Ended;
        };
        let waker = Waker::from(thread.clone());
        let outcome = body.as_mut().poll(&mut Context::from_waker(&waker));
        if outcome.is_ready() {
            thread.state.store(ENDED, Ordering::SeqCst);
            return Poll::Ended;
        }
        thread.store_fpu(|_| ());
        *thread.body.lock() = Some(body);
        match thread
            .state
            .compare_exchange(RUNNING, SLEEPING, Ordering::SeqCst, Ordering::SeqCst)
        {
            Ok(_) => Poll::Sleeping,
            Err(_) => {
                thread.state.store(QUEUED, Ordering::SeqCst);
                Poll::Runnable
            }
        }
    }

    /// Before its program runs on `cpu`: the CPU's registers become the thread's.
    pub fn load_fpu(&self, cpu: &Cpu) {
        let mut fpu = self.fpu.lock();
        if fpu.live {
            return;
        }
        let owner = cpu.fpu_owner();
        if owner.load(Ordering::Relaxed) != self.serial || fpu.cpu != self.cpu() {
            host::load_fpu(&fpu.state);
            owner.store(self.serial, Ordering::Relaxed);
        }
        fpu.cpu = self.cpu();
        fpu.live = true;
    }

    /// Brings the saved registers up to date and shows them. Only on the thread's own CPU.
    pub fn store_fpu<R>(&self, look: impl FnOnce(&FpuState) -> R) -> R {
        let mut fpu = self.fpu.lock();
        if fpu.live {
            host::store_fpu(&mut fpu.state);
            fpu.live = false;
        }
        look(&fpu.state)
    }

    /// Replaces the registers by an image from the program. Only on the thread's own CPU.
    pub fn replace_fpu(&self, image: &[u8]) {
        let mut fpu = self.fpu.lock();
        fpu.state.set_from_program(image);
        fpu.live = false;
        fpu.cpu = usize::MAX;
    }

    /// Gives a new program the initial registers. Only on the thread's own CPU.
    pub fn reset_fpu(&self) {
        let mut fpu = self.fpu.lock();
        fpu.state = FpuState::new();
        fpu.live = false;
        fpu.cpu = usize::MAX;
    }
}

impl Wake for Thread {
    fn wake(self: Arc<Self>) {
        Thread::wake(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        Thread::wake(self);
    }
}
