//! A machine for loom: one page, which each CPU may have in its TLB, and interrupts.

use super::{Weakness, is_weak};
use crate::{Cpu, Event, Loaded, Local, Machine, Mailbox, Space, Word};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, fence};
use page_table::FlushSet;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// Address of the page.
pub const PAGE: u64 = 0x5000;
/// Root of the space.
pub const ROOT: u64 = 0x1000;
/// Address of the control structure.
pub const STRUCTURE: u64 = 0x9000;

#[derive(Debug)]
pub struct LoomWord(AtomicU64);

/// `order`, or none if that is the weakness.
fn unless(weakness: Weakness, order: Ordering) -> Ordering {
    if is_weak(weakness) {
        Ordering::Relaxed
    } else {
        order
    }
}

impl Word for LoomWord {
    fn new(value: u64) -> Self {
        LoomWord(AtomicU64::new(value))
    }
    fn load(&self, order: Ordering) -> u64 {
        let order = match order {
            Ordering::Acquire => unless(Weakness::Await, order),
            Ordering::SeqCst => unless(Weakness::Look, order),
            other => other,
        };
        self.0.load(order)
    }
    fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, order);
    }
    fn swap(&self, value: u64, order: Ordering) -> u64 {
        let all = self.0.swap(value, unless(Weakness::Take, order));
        if is_weak(Weakness::LoseNotes) {
            all & all.wrapping_neg()
        } else {
            all
        }
    }
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_add(value, unless(Weakness::Raise, order))
    }
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        self.0.fetch_or(bits, unless(Weakness::Put, order))
    }
    fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
        let order = if order == Ordering::AcqRel {
            unless(Weakness::Answer, order)
        } else {
            order
        };
        self.0.fetch_and(bits, order)
    }
}

/// What CPUs share.
pub struct Shared {
    pub space: Space<LoomWord>,
    pub mailboxes: Vec<Mailbox<LoomWord>>,
    /// 1 while the page is mapped, to `frame`.
    pub entry: AtomicU64,
    /// The frame; loom reports accesses that are not ordered.
    pub frame: UnsafeCell<u64>,
    /// A control structure, which a CPU accesses when it loads it and when it releases it.
    structure: UnsafeCell<u64>,
    /// Interrupts under way, by CPU.
    interrupts: Vec<AtomicU64>,
    /// Invalidators that have finished.
    pub done: AtomicU64,
}

impl Shared {
    pub fn new(cpus: usize) -> Self {
        Shared {
            space: Space::new(1),
            mailboxes: (0..cpus).map(|_| Mailbox::new()).collect(),
            entry: AtomicU64::new(1),
            frame: UnsafeCell::new(0),
            structure: UnsafeCell::new(0),
            interrupts: (0..cpus).map(|_| AtomicU64::new(0)).collect(),
            done: AtomicU64::new(0),
        }
    }

    /// The access of a CPU to the frame: loom reports any two that are not ordered.
    pub fn touch(&self) {
        self.frame.with_mut(|_| ());
    }
}

/// One CPU.
pub struct LoomCpu {
    pub shared: Rc<Shared>,
    index: usize,
    local: RefCell<Local>,
    /// Tags under which the TLB has the page.
    cached: Cell<u64>,
    tag: Cell<u16>,
    holds_structure: Cell<bool>,
}

impl LoomCpu {
    pub fn new(shared: &Rc<Shared>, index: usize) -> Self {
        LoomCpu {
            shared: Rc::clone(shared),
            index,
            local: RefCell::new(Local::new()),
            cached: Cell::new(0),
            tag: Cell::new(0),
            holds_structure: Cell::new(false),
        }
    }

    fn protocol<R>(&self, call: impl FnOnce(&mut Cpu<'_, LoomCpu>) -> R) -> R {
        let mut local = self.local.borrow_mut();
        call(&mut Cpu::new(
            self,
            &self.shared.mailboxes,
            self.index,
            &mut local,
        ))
    }

    /// Runs the space.
    pub fn run(&self) {
        let loaded = Loaded {
            space: &self.shared.space,
            root: ROOT,
        };
        self.protocol(|cpu| cpu.switch(None, Some(&loaded), 0));
    }

    /// Runs the kernel's own table.
    pub fn rest(&self) {
        self.protocol(|cpu| cpu.switch(Some(&self.shared.space), None, 0));
    }

    pub fn serve(&self) {
        self.protocol(|cpu| cpu.serve());
    }

    /// Takes an interrupt that has come.
    pub fn poll(&self) {
        let interrupt = &self.shared.interrupts[self.index];
        // The load first, since loom remembers only a few stores.
        if interrupt.load(Ordering::Relaxed) != 0 && interrupt.swap(0, Ordering::AcqRel) != 0 {
            self.serve();
        }
    }

    /// Unmaps the page and uses its frame for something else.
    pub fn unmap(&self, set: &FlushSet) {
        self.shared.entry.store(0, Ordering::Relaxed);
        self.protocol(|cpu| cpu.invalidate(&self.shared.space, set));
        self.shared.touch();
    }

    pub fn invalidate(&self, space: &Space<LoomWord>, set: &FlushSet) {
        self.protocol(|cpu| cpu.invalidate(space, set));
    }

    /// Loads the control structure, which no other CPU has.
    pub fn load_structure(&self) {
        self.shared.structure.with_mut(|_| ());
        self.holds_structure.set(true);
    }

    pub fn holds_structure(&self) -> bool {
        self.holds_structure.get()
    }

    /// Loads the control structure, which CPU number `from` may have.
    pub fn take_structure(&self, from: usize) {
        self.protocol(|cpu| cpu.ask_to_release(from, STRUCTURE));
        self.load_structure();
    }

    /// The TLB takes in what it finds, whenever there is something.
    fn walk(&self) {
        let tag = self.tag.get();
        if tag != 0 && self.shared.entry.load(Ordering::Relaxed) == 1 {
            self.cached.set(self.cached.get() | 1 << tag);
        }
    }

    fn drop_tag(&self, tag: u16) {
        self.cached.set(self.cached.get() & !(1 << tag));
    }

    /// A store of the program, if it is possible. True if it was.
    pub fn store(&self) -> bool {
        self.walk();
        let possible = self.cached.get() >> self.tag.get() & 1 != 0;
        if possible {
            self.shared.touch();
        }
        possible
    }

    /// Waits with interrupts off, as for a lock, until so many invalidators have finished.
    pub fn wait_for_lock(&self, finished: u64) {
        while self.shared.done.load(Ordering::Acquire) != finished {
            self.serve();
            loom::thread::yield_now();
        }
    }

    /// Waits as a program until so many invalidators have finished.
    pub fn wait(&self, finished: u64) {
        while self.shared.done.load(Ordering::Acquire) != finished {
            self.poll();
            loom::thread::yield_now();
        }
    }
}

impl Machine for LoomCpu {
    type Word = LoomWord;

    fn load_root(&self, _root: u64, tag: u16, keep: bool) {
        if !keep {
            self.drop_tag(tag);
        }
        self.tag.set(tag);
        self.walk();
    }
    fn flush_page(&self, address: u64) {
        if address == PAGE {
            self.drop_tag(self.tag.get());
        }
        self.walk();
    }
    fn flush_tag(&self, _root: u64, tag: u16) {
        self.drop_tag(tag);
        self.walk();
    }
    fn interrupt(&self, cpu: usize) {
        self.shared.interrupts[cpu].store(1, Ordering::Release);
    }
    fn release(&self, object: u64) {
        assert_eq!(object, STRUCTURE);
        self.shared.structure.with_mut(|_| ());
        self.holds_structure.set(false);
    }
    fn barrier(&self) {
        if !is_weak(Weakness::Barriers) {
            fence(Ordering::SeqCst);
        }
    }
    fn relax(&self) {
        loom::thread::yield_now();
    }
    fn note(&self, _event: Event) {}
}

/// The page, by address.
pub fn page() -> FlushSet {
    let mut set = FlushSet::nothing();
    set.add(PAGE);
    set
}

/// The page, with a table that was detached: no early answer.
pub fn page_with_table() -> FlushSet {
    let mut set = FlushSet::nothing();
    set.add_table(&(PAGE..PAGE + 0x1000));
    set
}
