//! An entry against the gate and against an invalidation, under a weak memory model: loom tries every order and every value that a load
//! may see. Loom takes sequentially consistent accesses for ones that only acquire and release; what needs a full barrier has one,
//! `Machine::barrier`, here a fence. Each case must fail with each of the weaknesses that it names.

use crate::{Border, GuestProcess, Lock, Members, cross};
use invalidation::{Cpu, Event, GuestEntry, GuestMachine, GuestTag, Local, Machine, Mailbox, Space, Word};
use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::atomic::{AtomicU64, fence};
use page_table::FlushSet;
use std::cell::{Cell, RefCell, RefMut};
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// What is weaker than it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weakness {
    /// No barrier between a write and the look at the other side's word.
    Barriers,
    /// The gate opens without a release.
    Open,
    /// The gate is looked at before the bits are set.
    LookBeforeBit,
    /// Answers do not release what was before.
    Answer,
    /// Who asks does not acquire what was before the answers.
    Await,
    /// What a guest has is not dropped before the entry.
    SkipGuestFlush,
}

thread_local! {
    // All threads of a model live on one thread.
    static WEAKNESS: Cell<Option<Weakness>> = const { Cell::new(None) };
}

fn is_weak(weakness: Weakness) -> bool {
    WEAKNESS.get() == Some(weakness)
}

fn unless(weak: bool, order: Ordering) -> Ordering {
    if weak { Ordering::Relaxed } else { order }
}

#[derive(Debug)]
struct LoomWord(AtomicU64);

impl Word for LoomWord {
    fn new(value: u64) -> Self {
        LoomWord(AtomicU64::new(value))
    }
    fn load(&self, order: Ordering) -> u64 {
        let weak = order == Ordering::Acquire && is_weak(Weakness::Await);
        self.0.load(unless(weak, order))
    }
    fn store(&self, value: u64, order: Ordering) {
        let opens = order == Ordering::Release && value == 0;
        self.0
            .store(value, unless(opens && is_weak(Weakness::Open), order));
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
        let weak = order == Ordering::AcqRel && is_weak(Weakness::Answer);
        self.0.fetch_and(bits, unless(weak, order))
    }
}

/// What both CPUs share.
struct Shared {
    mailboxes: [Mailbox<LoomWord>; 2],
    nested: Space<LoomWord>,
    interrupts: [AtomicU64; 2],
    /// 1 while the guest's page table leads to the frame.
    entry: AtomicU64,
    /// What guests access; loom reports accesses that are not ordered.
    frame: UnsafeCell<u64>,
    done: AtomicU64,
}

struct LoomCpu {
    shared: Rc<Shared>,
    index: usize,
    local: RefCell<Local>,
    /// The TLB has the translation.
    cached: Cell<bool>,
}

impl LoomCpu {
    fn protocol<R>(&self, call: impl FnOnce(&mut Cpu<'_, LoomCpu>) -> R) -> R {
        let mut local = self.local.borrow_mut();
        call(&mut Cpu::new(
            self,
            &self.shared.mailboxes,
            self.index,
            &mut local,
        ))
    }
}

impl Machine for LoomCpu {
    type Word = LoomWord;

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
        self.shared.interrupts[cpu].store(1, Ordering::Release);
    }
    fn release(&self, _object: u64) {
        unreachable!("nothing is loaded");
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

impl GuestMachine for LoomCpu {
    fn flush_nested(&self, _root: u64) {}
    fn flush_guest(&self, _tag: u16) {
        self.cached
            .set(self.cached.get() && is_weak(Weakness::SkipGuestFlush));
    }
    fn flush_guest_page(&self, tag: u16, _address: u64) {
        self.flush_guest(tag);
    }
}

/// The lock, which only one of the two CPUs takes.
struct LoomLock {
    members: RefCell<Members>,
    cpu: LoomCpu,
}

struct Held<'lock>(RefMut<'lock, Members>, &'lock LoomCpu);

impl Deref for Held<'_> {
    type Target = Members;
    fn deref(&self) -> &Members {
        &self.0
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Members {
        &mut self.0
    }
}

impl Lock for LoomLock {
    type Word = LoomWord;
    type Held<'lock> = Held<'lock>;

    fn lock(&self) -> Held<'_> {
        Held(self.members.borrow_mut(), &self.cpu)
    }
    fn invalidate(held: &Held<'_>, linear: &Space<LoomWord>, set: &FlushSet) {
        held.1.protocol(|cpu| cpu.invalidate_guest(linear, set));
    }
}

struct LoomBorder<'cpu>(&'cpu LoomCpu);

impl Border for LoomBorder<'_> {
    type Word = LoomWord;

    fn prepare(&self, entry: &GuestEntry<'_, LoomWord>) -> GuestTag {
        self.0.protocol(|cpu| cpu.enter_guest(entry, false))
    }
    fn finish(&self, entry: &GuestEntry<'_, LoomWord>) {
        self.0.protocol(|cpu| cpu.leave_guest(entry));
    }
}

type Process = GuestProcess<LoomLock>;

/// Enters the guest once, where it does `inside`.
fn enter(cpu: &LoomCpu, process: &Process, inside: impl Fn()) {
    let entry = GuestEntry {
        nested: &cpu.shared.nested,
        nested_root: 0x2000,
        linear: process.linear(),
        root: 0x1000,
    };
    if is_weak(Weakness::LookBeforeBit) {
        if !process.gate().is_closed() {
            let border = LoomBorder(cpu);
            border.prepare(&entry);
            inside();
            border.finish(&entry);
        }
        return;
    }
    cross(&LoomBorder(cpu), &entry, process.gate(), |_| inside());
}

/// CPU 0 does `guest`, CPU 1 `host`.
fn two_cpus(guest: fn(&LoomCpu, &Process), host: fn(&Shared, &Process)) {
    let shared = Rc::new(Shared {
        mailboxes: [Mailbox::new(), Mailbox::new()],
        nested: Space::new(1),
        interrupts: [AtomicU64::new(0), AtomicU64::new(0)],
        entry: AtomicU64::new(1),
        frame: UnsafeCell::new(0),
        done: AtomicU64::new(0),
    });
    let [cpu, other] = [0, 1].map(|index| LoomCpu {
        shared: Rc::clone(&shared),
        index,
        local: RefCell::new(Local::new()),
        cached: Cell::new(false),
    });
    let lock = LoomLock {
        members: RefCell::default(),
        cpu: other,
    };
    let process = Rc::new(Process::new(lock, 1));
    let thread = {
        let (shared, process) = (Rc::clone(&shared), Rc::clone(&process));
        loom::thread::spawn(move || {
            host(&shared, &process);
            shared.done.store(1, Ordering::Release);
        })
    };
    guest(&cpu, &process);
    while shared.done.load(Ordering::Acquire) == 0 {
        let interrupt = &shared.interrupts[0];
        // The load first, since loom remembers only a few stores.
        if interrupt.load(Ordering::Relaxed) != 0 && interrupt.swap(0, Ordering::AcqRel) != 0 {
            cpu.protocol(|cpu| cpu.serve());
        }
        loom::thread::yield_now();
    }
    thread.join().expect("the host ends");
}

/// The case is right, and wrong with each of these weaknesses.
fn check(needed: &[Weakness], case: fn()) {
    let explore = || {
        let mut builder = Builder::new();
        builder.preemption_bound = Some(2);
        builder.max_branches = 2_000;
        builder.check(case);
    };
    WEAKNESS.set(None);
    explore();
    for &weakness in needed {
        WEAKNESS.set(Some(weakness));
        let result = catch_unwind(AssertUnwindSafe(explore));
        WEAKNESS.set(None);
        assert!(result.is_err(), "{weakness:?} makes no difference");
    }
}

#[test]
fn what_is_done_alone_is_ordered_with_all_that_guests_do() {
    let needed = [
        Weakness::Barriers,
        Weakness::Open,
        Weakness::LookBeforeBit,
        Weakness::Answer,
        Weakness::Await,
    ];
    check(&needed, || {
        two_cpus(
            |cpu, process| enter(cpu, process, || cpu.shared.frame.with_mut(|_| ())),
            |shared, process| process.alone(|| shared.frame.with_mut(|_| ())),
        );
    });
}

#[test]
fn a_guest_that_comes_finds_the_raised_generation_or_is_told() {
    let needed = [
        Weakness::Barriers,
        Weakness::Answer,
        Weakness::Await,
        Weakness::SkipGuestFlush,
    ];
    check(&needed, || {
        two_cpus(
            |cpu, process| {
                for _ in 0..2 {
                    enter(cpu, process, || {
                        if cpu.shared.entry.load(Ordering::Relaxed) == 1 {
                            cpu.cached.set(true);
                        }
                        if cpu.cached.get() {
                            cpu.shared.frame.with_mut(|_| ());
                        }
                    });
                }
            },
            |shared, process| {
                shared.entry.store(0, Ordering::Relaxed);
                let mut set = FlushSet::nothing();
                set.add(0x5000);
                process.invalidate(&set);
                shared.frame.with_mut(|_| ());
            },
        );
    });
}
