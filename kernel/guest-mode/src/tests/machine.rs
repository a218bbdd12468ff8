//! What joins the invalidation protocol and the code under test to the fake hardware: shared words, a CPU, a lock.

use super::fault::{Fault, planted};
use super::hardware::Hardware;
use crate::{Border, Loader, Lock, Members};
use invalidation::{Cpu, Event, GuestEntry, GuestMachine, GuestTag, Local, Machine, Mailbox, Space, Word};
use page_table::FlushSet;
use shuttle::sync::atomic::AtomicU64;
use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// A word of shuttle's: every operation is a point at which another CPU may go on.
#[derive(Debug)]
pub struct SharedWord(AtomicU64);

impl Word for SharedWord {
    fn new(value: u64) -> Self {
        SharedWord(AtomicU64::new(value))
    }

    fn load(&self, order: Ordering) -> u64 {
        let value = self.0.load(order);
        match Core::try_here() {
            Some(core) => core.seen_early.take().unwrap_or(value),
            None => value,
        }
    }

    fn store(&self, value: u64, order: Ordering) {
        let gate_opens = order == Ordering::Release && value == 0;
        let gate_closes = order == Ordering::SeqCst && value == 1;
        if gate_opens && planted(Fault::NeverOpen) || gate_closes && planted(Fault::NeverClose) {
            return;
        }
        self.0.store(value, order);
    }

    fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.0.swap(value, order)
    }

    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_add(value, order)
    }

    fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        self.0.fetch_or(bits, order)
    }

    fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
        self.0.fetch_and(bits, order)
    }
}

/// What all CPUs share.
pub struct Machinery {
    hardware: Mutex<Hardware>,
    mailboxes: Vec<Mailbox<SharedWord>>,
    /// Work of each CPU.
    pub work: Vec<AtomicU64>,
}

impl Machinery {
    pub fn new(cpus: usize) -> Self {
        Machinery {
            hardware: Mutex::new(Hardware::new(cpus)),
            mailboxes: (0..cpus).map(|_| Mailbox::new()).collect(),
            work: (0..cpus).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The hardware, for one instant.
    pub fn hardware(&self) -> MutexGuard<'_, Hardware> {
        self.hardware.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One CPU.
pub struct Core {
    pub machinery: Arc<Machinery>,
    pub index: usize,
    local: RefCell<Local>,
    /// How many guards keep interrupts off.
    off: Cell<u32>,
    /// Planted: what the next load finds.
    seen_early: Cell<Option<u64>>,
}

shuttle::thread_local! {
    static HERE: RefCell<Option<Rc<Core>>> = RefCell::new(None);
}

impl Core {
    /// The calling shuttle thread is from now on this CPU.
    pub fn begin(machinery: &Arc<Machinery>, index: usize) -> Rc<Self> {
        let core = Rc::new(Core {
            machinery: Arc::clone(machinery),
            index,
            local: RefCell::new(Local::new()),
            off: Cell::new(0),
            seen_early: Cell::new(None),
        });
        HERE.with(|here| *here.borrow_mut() = Some(Rc::clone(&core)));
        core
    }

    fn try_here() -> Option<Rc<Core>> {
        HERE.with(|here| here.borrow().clone())
    }

    /// The CPU that runs this.
    pub fn here() -> Rc<Core> {
        Self::try_here().expect("a CPU runs this")
    }

    pub fn hardware(&self) -> MutexGuard<'_, Hardware> {
        self.machinery.hardware()
    }

    /// Another CPU may do something here.
    pub fn step(&self) {
        self.machinery.work[self.index].load(Ordering::Relaxed);
    }

    fn protocol<R>(&self, call: impl FnOnce(&mut Cpu<'_, Core>) -> R) -> R {
        let mut local = self.local.borrow_mut();
        call(&mut Cpu::new(
            self,
            &self.machinery.mailboxes,
            self.index,
            &mut local,
        ))
    }

    pub fn serve(&self) {
        self.protocol(|cpu| cpu.serve());
    }

    /// Has a structure released by `cpu`. Interrupts are off.
    pub fn ask_to_release(&self, cpu: usize, id: u64) {
        self.protocol(|this| this.ask_to_release(cpu, id));
    }

    /// Invalidates everything of a space. Interrupts are off.
    pub fn invalidate(&self, space: &Space<SharedWord>) {
        self.protocol(|cpu| cpu.invalidate(space, &FlushSet::everything()));
    }

    /// Turns interrupts off.
    pub fn interrupts_off(self: &Rc<Self>) -> Off {
        self.off.set(self.off.get() + 1);
        Off(Rc::clone(self))
    }

    /// Takes an interrupt, if interrupts are on.
    pub fn poll(&self) {
        self.step();
        if self.off.get() == 0 && self.hardware().take_interrupt(self.index) {
            self.serve();
        }
    }
}

/// Interrupts are off while it lives.
pub struct Off(pub Rc<Core>);

impl Drop for Off {
    fn drop(&mut self) {
        self.0.off.set(self.0.off.get() - 1);
        if !std::thread::panicking() {
            self.0.poll();
        }
    }
}

impl Machine for Core {
    type Word = SharedWord;

    fn load_root(&self, _root: u64, _tag: u16, _keep: bool) {
        unreachable!("CPUs keep their CR3");
    }
    fn flush_page(&self, _address: u64) {
        unreachable!("guests' spaces are never under CR3");
    }
    fn flush_tag(&self, _root: u64, _tag: u16) {
        unreachable!("guests' spaces are never under CR3");
    }
    fn interrupt(&self, cpu: usize) {
        self.step();
        self.hardware().interrupt(cpu);
    }
    fn release(&self, object: u64) {
        self.step();
        self.hardware().clear(self.index, object);
    }
    fn barrier(&self) {
        // Shuttle's words are sequentially consistent.
    }
    fn relax(&self) {
        shuttle::thread::yield_now();
    }
    fn note(&self, _event: Event) {}
}

impl GuestMachine for Core {
    fn flush_nested(&self, _root: u64) {
        self.step();
        if !planted(Fault::SkipNestedFlush) {
            self.hardware().flush_nested(self.index);
        }
    }
    fn flush_guest(&self, tag: u16) {
        self.step();
        if !planted(Fault::SkipGuestFlush) {
            self.hardware().flush_guest(self.index, tag);
        }
    }
    fn flush_guest_page(&self, tag: u16, _address: u64) {
        self.flush_guest(tag);
    }
}

/// One structure, on this CPU.
pub struct StructureHere<'core> {
    pub core: &'core Core,
    pub id: u64,
}

impl Loader for StructureHere<'_> {
    type Current = ();
    type Failure = ();

    fn cpu(&self) -> usize {
        self.core.index
    }
    fn ask_to_release(&self, cpu: usize) {
        if !planted(Fault::SkipRelease) {
            self.core.ask_to_release(cpu, self.id);
        }
    }
    fn load(&self) -> Result<(), ()> {
        self.core.step();
        self.core.hardware().load(self.core.index, self.id);
        Ok(())
    }
}

/// This CPU at the border of a guest whose gate is `gate`.
pub struct BorderHere<'core> {
    pub core: &'core Core,
    pub gate: &'core crate::Gate<SharedWord>,
    pub identifiers: bool,
}

impl Border for BorderHere<'_> {
    type Word = SharedWord;

    fn prepare(&self, entry: &GuestEntry<'_, SharedWord>) -> GuestTag {
        let early = planted(Fault::LookBeforeBit).then(|| u64::from(self.gate.is_closed()));
        let tag = self.core.protocol(|cpu| cpu.enter_guest(entry, self.identifiers));
        self.core.seen_early.set(early);
        tag
    }

    fn finish(&self, entry: &GuestEntry<'_, SharedWord>) {
        if planted(Fault::KeepBits) {
            self.core.serve();
        } else if !planted(Fault::LeaveBeforeExit) {
            self.core.protocol(|cpu| cpu.leave_guest(entry));
        }
    }
}

impl BorderHere<'_> {
    /// Planted: what must not be done between preparation and exit.
    pub fn misbehave(&self, entry: &GuestEntry<'_, SharedWord>) {
        if planted(Fault::ServeBeforeEntry) {
            for _ in 0..8 {
                self.core.step();
                if self.core.hardware().take_interrupt(self.core.index) {
                    self.core.serve();
                }
            }
        }
        if planted(Fault::LeaveBeforeExit) {
            self.core.protocol(|cpu| cpu.leave_guest(entry));
        }
    }
}

/// A spin lock like the kernel's: interrupts off, and who waits serves.
#[derive(Debug, Default)]
pub struct SpinLock<T>(Mutex<T>);

pub struct Held<'lock, T> {
    // Dropped in this order.
    inner: MutexGuard<'lock, T>,
    off: Off,
}

impl<T> SpinLock<T> {
    pub fn lock(&self) -> Held<'_, T> {
        let off = Core::here().interrupts_off();
        loop {
            off.0.step();
            match self.0.try_lock() {
                Ok(inner) => return Held { inner, off },
                Err(TryLockError::Poisoned(_)) => panic!("a CPU died with the lock"),
                Err(TryLockError::WouldBlock) => {}
            }
            if !planted(Fault::LockWithoutServing) {
                off.0.serve();
            }
            shuttle::thread::yield_now();
        }
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl Lock for SpinLock<Members> {
    type Word = SharedWord;
    type Held<'lock> = Held<'lock, Members>;

    fn lock(&self) -> Held<'_, Members> {
        self.lock()
    }

    fn invalidate(held: &Held<'_, Members>, linear: &Space<SharedWord>, set: &FlushSet) {
        if !planted(Fault::InvalidateHereOnly) {
            held.off.0.protocol(|cpu| cpu.invalidate_guest(linear, set));
        }
    }
}
