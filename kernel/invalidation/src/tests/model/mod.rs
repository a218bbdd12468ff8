//! The hardware: memory, and CPUs whose caches never forget anything by themselves.
//!
//! Everything here is instantaneous and exact; when things happen is up to the threads of [`super::driver`]. A rule that is broken
//! ends the run by a panic that says what a CPU did.

pub mod access;
pub mod cache;
pub mod format;
mod instructions;
mod interrupts;
pub mod memory;
mod reach;
mod rules;
mod structures;

use super::oracle::{Frame, Oracle};
use cache::{Cache, Tag};
use memory::{Memory, Use};
use std::collections::BTreeMap;

/// What a CPU does, as far as it matters for what it may access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The kernel, or nothing of anybody: no access to memory of programs.
    Kernel,
    /// A program, which may access anything at any time.
    User,
}

/// What CPUs have.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// Process-context identifiers.
    pub pcids: bool,
    /// Virtual-processor identifiers.
    pub vpids: bool,
    /// Process-context identifiers in guests.
    pub guest_pcids: bool,
    /// Accessed and dirty flags in nested page tables. Walks of a guest's own tables then count as stores (29.3.3.2).
    pub nested_dirty: bool,
}

/// A CPU in a guest.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    /// 0 while VPIDs are off.
    pub vpid: u16,
    /// The guest's process-context identifier: the low bits of its CR3, 0 if it has none.
    pub pcid: u16,
    /// Root of the nested page table, and the allocation that it is.
    pub nested: u64,
    pub nested_allocation: u64,
    /// Guest-physical address of the guest's own root table.
    pub root: u64,
    /// Id of the space that guest-physical addresses belong to, for the oracle.
    pub process: u64,
    /// Id of the space of this guest's linear addresses.
    pub linear: u64,
}

impl Guest {
    fn combined_tag(&self) -> Tag {
        Tag::Combined {
            vpid: self.vpid,
            pcid: Some(self.pcid),
            nested: self.nested,
        }
    }
}

#[derive(Debug)]
pub struct Processor {
    pub cache: Cache,
    /// CR3: root table, the allocation that it is, tag.
    root: u64,
    root_allocation: u64,
    pcid: u16,
    pub guest: Option<Guest>,
    pub mode: Mode,
    /// An interrupt was sent and not yet taken; the time at which it arrives.
    interrupt: Option<u64>,
    /// Spaces that it uses, with `None`, or until when it did.
    uses: BTreeMap<u64, Option<u64>>,
    /// The space of which it invalidates something, and since when.
    invalidates: Option<(u64, u64)>,
}

impl Processor {
    fn linear_tag(&self) -> Tag {
        Tag::Linear {
            vpid: 0,
            pcid: Some(self.pcid),
        }
    }

    /// Tags whose entries this CPU may use now.
    fn usable_tags(&self) -> impl Iterator<Item = Tag> + use<> {
        let tags = match self.guest {
            None => vec![self.linear_tag(), Tag::Linear { vpid: 0, pcid: None }],
            Some(guest) => {
                let (vpid, nested) = (guest.vpid, guest.nested);
                vec![
                    Tag::GuestPhysical { nested },
                    guest.combined_tag(),
                    Tag::Combined {
                        vpid,
                        pcid: None,
                        nested,
                    },
                ]
            }
        };
        tags.into_iter()
    }
}

#[derive(Debug)]
pub struct Hardware {
    pub memory: Memory,
    pub cpus: Vec<Processor>,
    pub oracle: Oracle,
    /// Steps that all CPUs together have made.
    pub time: u64,
    pub features: Features,
    /// Control structures that are active, by address, with the CPU that has them.
    structures: BTreeMap<u64, usize>,
    /// Harvests of dirty flags that have not returned.
    pub harvests: u32,
    traced: bool,
    /// Counts of what happened, so that a test can tell that everything did.
    pub events: BTreeMap<&'static str, u64>,
}

impl Hardware {
    /// CPUs with empty caches on a kernel's own table, the same for all, whose address is returned with them.
    pub fn new(cpus: usize, features: Features) -> (Self, u64) {
        let mut memory = Memory::default();
        let kernel = memory.allocate(Use::Table(0));
        let root_allocation = memory.page(kernel).allocation;
        let cpus = (0..cpus)
            .map(|_| Processor {
                cache: Cache::default(),
                root: kernel,
                root_allocation,
                pcid: 0,
                guest: None,
                mode: Mode::Kernel,
                interrupt: None,
                uses: BTreeMap::new(),
                invalidates: None,
            })
            .collect();
        let hardware = Hardware {
            memory,
            cpus,
            oracle: Oracle::default(),
            time: 0,
            features,
            structures: BTreeMap::new(),
            harvests: 0,
            events: BTreeMap::new(),
            traced: std::env::var_os("INVALIDATION_REPLAY").is_some(),
        };
        (hardware, kernel)
    }

    /// For a replay: says what happens.
    pub fn trace(&self, text: impl FnOnce() -> String) {
        if self.traced {
            eprintln!("{:6} {}", self.time, text());
        }
    }

    pub fn count(&mut self, event: &'static str) {
        *self.events.entry(event).or_default() += 1;
    }

    pub fn violation(&self, text: &str) -> ! {
        panic!("{text}");
    }

    /// A harvest returns: what is stored from now on is recorded anew.
    pub fn end_harvest(&mut self) {
        self.harvests -= 1;
        (0..self.cpus.len()).for_each(|cpu| self.check_cpu(cpu));
    }

    /// Id of the space whose root `cpu` has loaded, 0 for the kernel's own.
    pub fn loaded(&self, cpu: usize) -> u64 {
        match self.memory.page(self.cpus[cpu].root).state {
            Use::Table(space) => space,
            other => self.violation(&format!("CPU {cpu} runs on a root that is {other:?}")),
        }
    }

    /// Writes a word of a table or frame. CPUs see it at once.
    pub fn write(&mut self, page: u64, index: usize, value: u64) {
        self.trace(|| format!("{page:#x}[{index}] = {value:#x}"));
        self.memory.set_word(page, index, value);
        self.changed(page, index);
    }

    /// The frame at an address, as it is now.
    pub fn frame(&self, address: u64) -> Frame {
        Frame {
            address,
            allocation: self.memory.page(address).allocation,
        }
    }

    /// Writes a word of a frame, which may be part of a guest's or a virtual page table.
    pub fn write_frame(&mut self, frame: u64, index: usize, value: u64) {
        self.write(frame, index, value);
        let allocation = self.frame(frame).allocation;
        self.oracle.set_word(allocation, index, value);
    }

    /// A new frame with the words of another.
    pub fn copy_frame(&mut self, original: u64) -> u64 {
        let copy = self.memory.allocate(Use::Frame(1));
        let words = self.memory.page(original).words.clone();
        self.memory.page_mut(copy).stores = self.memory.page(original).stores;
        for (index, word) in words {
            self.write_frame(copy, index, word);
        }
        copy
    }

    pub fn set_frame(&mut self, object: u64, page: u64, frame: Option<u64>) {
        let frame = frame.map(|address| self.frame(address));
        self.oracle.set_frame(object, page, frame);
    }

    /// More or fewer address spaces share a frame.
    pub fn change_shares(&mut self, frame: u64, by: i32) {
        let shares = self
            .memory
            .shares(frame)
            .checked_add_signed(by)
            .expect("a frame has owners");
        self.memory.page_mut(frame).state = Use::Frame(shares);
        let allocation = self.frame(frame).allocation;
        self.oracle.set_shared(allocation, shares > 1);
    }

    /// Gives a page back. No walker may stand in it, and no program may be able to reach it.
    pub fn free(&mut self, page: u64) {
        if let Some(cpu) = self.walkers_in(page) {
            self.violation(&format!(
                "{page:#x}, {:?}, is freed while CPU {cpu} may walk through it",
                self.memory.page(page).state
            ));
        }
        self.trace(|| format!("{page:#x} is free"));
        self.memory.free(page);
        for cpu in 0..self.cpus.len() {
            self.check_cpu(cpu);
        }
    }
}
