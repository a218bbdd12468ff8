//! Virtual interrupts of host threads: pending bits, a mask, a timer, and a signal for the traced process that is running.

use crate::linux::Errno;
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::boxed::Box;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

/// Sent to a traced process to make it stop.
pub(super) const KICK: i32 = libc::SIGUSR1;

/// What others may do with a thread.
pub(super) struct State {
    pending: AtomicU64,
    enabled: AtomicU64,
    /// The traced process that the thread is about to run or runs; 0 = none.
    pub running: AtomicI32,
    sleep: Mutex<()>,
    woken: Condvar,
}

std::thread_local! {
    static OWN: OnceCell<Arc<State>> = const { OnceCell::new() };
}

/// The calling thread's.
pub(super) fn own() -> Arc<State> {
    OWN.with(|own| own.get_or_init(State::new).clone())
}

impl State {
    fn new() -> Arc<Self> {
        Arc::new(State {
            pending: AtomicU64::new(0),
            enabled: AtomicU64::new(0),
            running: AtomicI32::new(0),
            sleep: Mutex::new(()),
            woken: Condvar::new(),
        })
    }

    /// True if a bit is pending and enabled.
    pub fn is_due(&self) -> bool {
        self.pending.load(Ordering::SeqCst) & self.enabled.load(Ordering::SeqCst) != 0
    }

    fn post(&self, bits: u64) {
        self.pending.fetch_or(bits, Ordering::SeqCst);
        let running = self.running.load(Ordering::SeqCst);
        if running != 0 {
            kick(running);
        }
        drop(self.sleep.lock());
        self.woken.notify_all();
    }
}

/// Makes a traced process stop.
pub(super) fn kick(process: i32) {
    // SAFETY: no memory is involved. The process is a child of ours that nobody has waited for.
    unsafe { libc::kill(process, KICK) };
}

/// A host thread that interrupts can be posted to.
pub struct Thread {
    state: Arc<State>,
}

impl Thread {
    /// Posts virtual interrupts to the thread.
    pub fn post(&self, bits: u64) {
        self.state.post(bits);
    }
}

/// Starts a host thread.
pub fn spawn_thread(body: impl FnOnce() + Send + 'static) -> Result<Thread, Errno> {
    let state = State::new();
    let own = state.clone();
    let begin = move || {
        OWN.with(|place| place.set(own).is_ok());
        body();
    };
    std::thread::Builder::new()
        .spawn(begin)
        .map_err(|_| Errno::EAGAIN)?;
    Ok(Thread { state })
}

/// From now on these bits end runs and waits of the calling thread. Returns those that did so far.
pub fn enable_interrupts(mask: u64) -> u64 {
    own().enabled.swap(mask, Ordering::SeqCst)
}

/// Takes pending bits of the calling thread.
pub fn take_interrupts(mask: u64) -> u64 {
    own().pending.fetch_and(!mask, Ordering::SeqCst) & mask
}

/// Waits for bits of the calling thread and takes them; 0 when the time has passed.
pub fn wait_for_interrupt(mask: u64, timeout: u64) -> u64 {
    let state = own();
    let nothing = |_: &mut ()| state.pending.load(Ordering::SeqCst) & mask == 0;
    let guard = state.sleep.lock().expect("lock");
    // An hour is as good as for ever: the caller looks around and sleeps again.
    let timeout = Duration::from_nanos(timeout).min(Duration::from_secs(3600));
    drop(
        state
            .woken
            .wait_timeout_while(guard, timeout, nothing)
            .expect("lock"),
    );
    take_interrupts(mask)
}

type Alarms = BTreeMap<(u64, usize), (Arc<State>, u32)>;

static ALARMS: OnceLock<&'static (Mutex<Alarms>, Condvar)> = OnceLock::new();

/// Arms the calling thread's timer: posts `bit` at the monotonic time `deadline`. It has one, so this replaces an earlier one.
pub fn set_timer(deadline: u64, bit: u32) {
    let (alarms, changed) = ALARMS.get_or_init(|| {
        let shared: &'static _ = Box::leak(Box::new((Mutex::new(Alarms::new()), Condvar::new())));
        std::thread::spawn(move || serve_alarms(shared));
        shared
    });
    let state = own();
    let who = Arc::as_ptr(&state).expose_provenance();
    let mut alarms = alarms.lock().expect("lock");
    alarms.retain(|&(_, owner), _| owner != who);
    alarms.insert((deadline, who), (state, bit));
    changed.notify_all();
}

fn serve_alarms((alarms, changed): &(Mutex<Alarms>, Condvar)) {
    let mut guard = alarms.lock().expect("lock");
    loop {
        let now = crate::clock::monotonic();
        guard = match guard.first_entry() {
            Some(first) if first.key().0 <= now => {
                let (state, bit) = first.remove();
                state.post(1 << bit);
                guard
            }
            Some(first) => {
                let wait = Duration::from_nanos(first.key().0 - now);
                changed.wait_timeout(guard, wait).expect("lock").0
            }
            None => changed.wait(guard).expect("lock"),
        };
    }
}
