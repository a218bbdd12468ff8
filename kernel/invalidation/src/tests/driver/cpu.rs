//! A CPU: interrupts, locks, and the protocol as the kernel calls it.

use super::Rig;
use super::vmspace::Vmspace;
use crate::tests::fault::{Fault, Phase, planted, set_phase};
use crate::tests::machine::{SharedWord, SimulatedCpu};
use crate::tests::model::Mode;
use crate::{Cpu, Loaded, Local, Space};
use page_table::FlushSet;
use shuttle::rand::Rng;
use shuttle::sync::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

pub struct Core {
    pub rig: Arc<Rig>,
    pub index: usize,
    local: Local,
    /// Interrupts are on if it is 0.
    irqs_off: u32,
    /// The space that it runs.
    pub space: Option<Arc<Vmspace>>,
    /// The root under which it last ran each guest, by the id of its linear addresses.
    guest_roots: BTreeMap<u64, usize>,
}

impl Core {
    pub fn new(rig: Arc<Rig>, index: usize) -> Self {
        Core {
            rig,
            index,
            local: Local::new(),
            irqs_off: 0,
            space: None,
            guest_roots: BTreeMap::new(),
        }
    }

    pub fn random(&self) -> u64 {
        shuttle::rand::thread_rng().r#gen()
    }

    /// Calls the protocol, with interrupts off.
    pub fn protocol<R>(&mut self, phase: Phase, call: impl FnOnce(&mut Cpu<'_, SimulatedCpu<'_>>) -> R) -> R {
        let before = set_phase(phase);
        let machine = SimulatedCpu {
            rig: &self.rig,
            cpu: self.index,
        };
        let result = call(&mut Cpu::new(
            &machine,
            &self.rig.mailboxes,
            self.index,
            &mut self.local,
        ));
        set_phase(before);
        result
    }

    /// Notes the root of a guest; true if this CPU last ran that guest under another one.
    pub fn change_guest_root(&mut self, linear: u64, root: usize) -> bool {
        let before = self.guest_roots.insert(linear, root);
        before.is_some_and(|before| before != root)
    }

    pub fn local(&mut self) -> &mut Local {
        &mut self.local
    }

    pub fn serve(&mut self) {
        self.protocol(Phase::Serve, |cpu| cpu.serve());
    }

    pub fn set_mode(&mut self, mode: Mode) {
        self.rig.hardware().set_mode(self.index, mode);
    }

    /// What runs while the kernel does nothing.
    pub fn idle_mode(&self) -> Mode {
        if self.space.is_some() {
            Mode::User
        } else {
            Mode::Kernel
        }
    }

    /// Takes an interrupt if one has arrived and interrupts are on.
    pub fn deliver(&mut self) {
        if self.irqs_off == 0 && self.rig.hardware().is_interrupted(self.index) {
            self.take_interrupt();
        }
    }

    /// `on_shootdown`.
    fn take_interrupt(&mut self) {
        let mode = {
            let mut hardware = self.rig.hardware();
            hardware.take_interrupt(self.index);
            let mode = hardware.cpus[self.index].mode;
            hardware.set_mode(self.index, Mode::Kernel);
            mode
        };
        self.irqs_off += 1;
        self.serve();
        self.irqs_off -= 1;
        self.set_mode(mode);
    }

    /// Another CPU may go on, and an interrupt may come.
    pub fn step(&mut self) {
        self.rig.step();
        self.deliver();
    }

    /// Does nothing while `goes_on`; only interrupts wake it for a moment.
    pub fn idle_while(&mut self, goes_on: impl Fn() -> bool) {
        while goes_on() {
            self.step();
            shuttle::thread::yield_now();
        }
    }

    pub fn irqs_off(&mut self) {
        self.irqs_off += 1;
    }

    pub fn irqs_on(&mut self) {
        self.irqs_off -= 1;
        self.deliver();
    }

    /// `SpinLock::lock` and what is done under it.
    pub fn with_lock<T, R>(&mut self, lock: &Mutex<T>, work: impl FnOnce(&mut Core, &mut T) -> R) -> R {
        assert_eq!(self.rig.hardware().cpus[self.index].mode, Mode::Kernel);
        self.step();
        self.irqs_off();
        let mut guard = loop {
            if let Ok(guard) = lock.try_lock() {
                break guard;
            }
            if !planted(Fault::LockWithoutServing) {
                self.serve();
            }
            shuttle::thread::yield_now();
        };
        let result = work(self, &mut guard);
        drop(guard);
        self.irqs_on();
        result
    }

    /// `active::switch_to`.
    pub fn switch_to(&mut self, next: Option<Arc<Vmspace>>) {
        let before = self.space.take();
        let same = match (&before, &next) {
            (Some(before), Some(next)) => before.id() == next.id(),
            (None, None) => true,
            _ => false,
        };
        if same && !planted(Fault::SwitchToSame) {
            self.space = before;
            if let Some(next) = next {
                self.put(next);
            }
            return;
        }
        self.set_mode(Mode::Kernel);
        self.irqs_off();
        self.load(before.as_deref(), next.as_deref(), same);
        self.irqs_on();
        self.space = next;
        if let Some(before) = before {
            self.put(before);
        }
    }

    fn load(&mut self, before: Option<&Vmspace>, next: Option<&Vmspace>, same: bool) {
        let (rig, index) = (Arc::clone(&self.rig), self.index);
        let before_space = before.map(|before| &before.pmap.space);
        let loaded = next.map(|next| Loaded {
            space: &next.pmap.space,
            root: next.pmap.root,
        });
        if same {
            // Planted: no load, but the bit goes.
            if let Some(space) = before_space {
                space.deactivate(index);
            }
            return;
        }
        if let Some(loaded) = &loaded {
            rig.hardware().note_use(index, loaded.space.id(), true);
        }
        if let Some(space) = before_space.filter(|_| planted(Fault::DeactivateBeforeLoad)) {
            space.deactivate(index);
            (0..16).for_each(|_| rig.step());
        }
        self.protocol(Phase::Switch, |cpu| {
            cpu.switch(before_space, loaded.as_ref(), rig.kernel_root)
        });
        if let Some(loaded) = loaded.filter(|_| planted(Fault::ActivateWrongCpu)) {
            loaded.space.deactivate(index);
            loaded.space.activate((index + 1) % rig.mailboxes.len());
        }
        if let Some(before) = before {
            rig.hardware().note_use(index, before.id(), false);
        }
    }

    /// `Cpu::invalidate`, as `pmap` discharges a flush.
    pub fn invalidate(&mut self, space: &Space<SharedWord>, set: &FlushSet) {
        self.rig.hardware().note_invalidation(self.index, space.id());
        let strip =
            planted(Fault::AnswerBeforeFlush) || planted(Fault::AnswerBeforeResize) && !set.tables_detached();
        let stripped = strip.then(|| delayable(set));
        let set = stripped.as_ref().unwrap_or(set);
        self.protocol(Phase::Invalidate, |cpu| cpu.invalidate(space, set));
    }

    /// Gives a reference to a space back; the last one ends it.
    pub fn put(&mut self, space: Arc<Vmspace>) {
        if let Some(space) = Arc::into_inner(space) {
            self.set_mode(Mode::Kernel);
            space.end(self);
        }
    }
}

/// The same pages, as if the flush could be delayed.
fn delayable(set: &FlushSet) -> FlushSet {
    let mut stripped = FlushSet::nothing();
    match set.pages() {
        Some(pages) => pages.iter().for_each(|&page| stripped.add(page)),
        None => (0..=FlushSet::MAX_PAGES as u64).for_each(|page| stripped.add(page << 12)),
    }
    stripped
}
