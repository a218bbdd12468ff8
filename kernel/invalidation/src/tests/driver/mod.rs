//! A kernel in small that uses the protocol as the real one does, step by step: `pmap` like `kernel/src/pmap/space.rs`, `vmspace` like
//! `kernel/src/vm/vmspace.rs` and `advice.rs`, `page_fault` like `kernel/src/vm/fault.rs`, locks like `kernel/src/sync/spin_lock.rs`.
//!
//! Each CPU is a thread of shuttle's. It can be interrupted between any two steps while its interrupts are on; every access to a word
//! that others may change, and every instruction that touches a cache, is a step.

pub mod cpu;
pub mod guest;
mod memory;
mod object;
mod page_fault;
pub mod pmap;
mod resize;
pub mod structure;
pub mod vmspace;

use super::fault::{Fault, planted};
use super::machine::SharedWord;
use super::model::memory::{PAGE, Use};
use super::model::{Features, Hardware};
use super::universe::{KERNEL_PAGE, KERNEL_SLOT};
use crate::{Event, Mailbox};
use shuttle::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vmspace::Vmspace;

/// Address spaces that programs know by number.
pub const SLOTS: usize = 3;
/// Pages of the object with the virtual page tables.
pub const RAM_PAGES: usize = 12;

/// All that the CPUs share.
pub struct Rig {
    hardware: Mutex<Hardware>,
    pub mailboxes: Vec<Mailbox<SharedWord>>,
    pub kernel_root: u64,
    /// Frames of the object with the virtual page tables.
    pub ram: Vec<u64>,
    /// First page of a device, which has two large pages.
    pub device: u64,
    slots: Mutex<Vec<Option<Arc<Vmspace>>>>,
    /// Read at each step, so that shuttle may let another CPU go on.
    bus: AtomicU64,
    /// The CPU that has each control structure, known to its owner.
    structures: [shuttle::sync::Mutex<Option<usize>>; structure::STRUCTURES],
    /// CPUs that have not done all that they have to do.
    pub running: AtomicUsize,
    /// CPUs that have not left everything.
    pub leaving: AtomicUsize,
    ids: Mutex<Ids>,
}

#[derive(Debug, Default)]
struct Ids {
    last: u64,
    objects: u64,
    gone: Vec<u64>,
}

impl Rig {
    pub fn new(cpus: usize, features: Features) -> Self {
        let (mut hardware, kernel_root) = Hardware::new(cpus, features);
        let ram: Vec<u64> = (0..RAM_PAGES)
            .map(|_| hardware.memory.allocate(Use::Frame(1)))
            .collect();
        let frames = ram.iter().map(|&page| hardware.frame(page)).collect();
        hardware.oracle.set_ram(frames);
        let device = hardware.memory.allocate_block(2 * page_table::span(2) / PAGE);
        // The kernel's own page, global.
        let mut table = kernel_root;
        for level in (2..=4).rev() {
            let below = hardware.memory.allocate(Use::Table(0));
            hardware.write(table, page_table::index(KERNEL_PAGE, level), below | 3);
            table = below;
        }
        let page = hardware.memory.allocate(Use::Frame(1));
        hardware.write(table, page_table::index(KERNEL_PAGE, 1), page | 0x103);
        Rig {
            hardware: Mutex::new(hardware),
            mailboxes: (0..cpus).map(|_| Mailbox::new()).collect(),
            kernel_root,
            ram,
            device,
            slots: Mutex::new((0..SLOTS).map(|_| None).collect()),
            bus: AtomicU64::new(0),
            structures: Default::default(),
            running: AtomicUsize::new(cpus),
            leaving: AtomicUsize::new(cpus),
            ids: Mutex::default(),
        }
    }

    /// The model, for one instant: no step may be made meanwhile.
    pub fn hardware(&self) -> MutexGuard<'_, Hardware> {
        self.hardware.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another CPU may do something here.
    pub fn step(&self) {
        self.bus.load(Ordering::SeqCst);
        self.hardware().time += 1;
    }

    pub fn count(&self, event: Event) {
        let name = match event {
            Event::RootKept => "root kept",
            Event::RootFlushed => "root flushed",
            Event::PagesFlushed(_) => "pages flushed",
            Event::TagFlushed => "tag flushed",
            Event::TagEvicted => "tag evicted",
            Event::Shootdown(_) => "shootdown",
            Event::ShootdownAvoided => "shootdown avoided",
            Event::AnsweredEarly => "answered early",
            Event::NestedFlushed => "nested flushed",
            Event::GuestFlushed => "guest flushed",
        };
        self.hardware().count(name);
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Option<Arc<Vmspace>>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The space in a slot.
    pub fn slot(&self, slot: usize) -> Option<Arc<Vmspace>> {
        self.slots()[slot].clone()
    }

    /// Puts a space into a slot and returns the one that was there.
    pub fn replace_slot(&self, slot: usize, space: Option<Arc<Vmspace>>) -> Option<Arc<Vmspace>> {
        std::mem::replace(&mut self.slots()[slot], space)
    }

    /// An id that no object had.
    fn object_id(&self) -> u64 {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.objects += 1;
        ids.objects
    }

    /// An id that no space had.
    fn fresh_id(&self) -> u64 {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = ids.gone.pop() {
            return id;
        }
        ids.last += 1;
        ids.last
    }

    /// A space is gone.
    fn retire_id(&self, id: u64) {
        if planted(Fault::ReuseId) {
            self.ids
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .gone
                .push(id);
        }
    }

    /// A root table with the kernel's half.
    fn new_root(&self, id: u64) -> u64 {
        let mut hardware = self.hardware();
        let root = hardware.memory.allocate(Use::Table(id));
        let kernel = hardware.memory.word(self.kernel_root, KERNEL_SLOT);
        hardware.write(root, KERNEL_SLOT, kernel);
        root
    }
}
