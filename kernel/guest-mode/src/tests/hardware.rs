//! CPUs, control structures and translations. Everything is instantaneous, nothing is forgotten by itself, and what the architecture forbids,
//! or the kernel must not do, ends the run by a panic.

use std::collections::{BTreeMap, BTreeSet};

/// What a CPU has at hand while it is in a guest.
#[derive(Clone, Copy, Debug)]
struct Entered {
    structure: u64,
    /// Tag and identifier.
    tag: (u16, u16),
    root: u64,
}

#[derive(Debug, Default)]
struct Processor {
    current: Option<u64>,
    guest: Option<Entered>,
    interrupt: bool,
    /// Linear translations under a tag: the root that they come from, the version of its page table.
    linear: BTreeMap<(u16, u16), BTreeSet<(u64, u64)>>,
    /// Versions of the nested table from which there is something.
    nested: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct Structure {
    active: Option<usize>,
    launched: bool,
    /// The CPU whose state an exit loads.
    host: Option<usize>,
}

/// A page table, as often as it was changed.
#[derive(Debug, Default)]
pub struct Table {
    now: u64,
    /// Nobody uses an older version.
    floor: u64,
}

impl Table {
    /// Changes it and returns the new version.
    pub fn change(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    /// From this moment on nobody uses what was before `version`.
    pub fn promise(&mut self, version: u64) {
        self.floor = self.floor.max(version);
    }
}

#[derive(Debug)]
pub struct Hardware {
    cpus: Vec<Processor>,
    structures: BTreeMap<u64, Structure>,
    last: u64,
    /// The guests' page tables.
    pub linear: Table,
    /// The nested page table.
    pub nested: Table,
    alone: bool,
    /// Entries, and accesses of guests.
    pub entries: u64,
    pub accesses: u64,
    pub moves: u64,
}

impl Hardware {
    pub fn new(cpus: usize) -> Self {
        Hardware {
            cpus: (0..cpus).map(|_| Processor::default()).collect(),
            structures: BTreeMap::new(),
            last: 0,
            linear: Table::default(),
            nested: Table::default(),
            alone: false,
            entries: 0,
            accesses: 0,
            moves: 0,
        }
    }

    /// Memory for a structure.
    pub fn allocate(&mut self) -> u64 {
        self.last += 1;
        self.structures.insert(self.last, Structure::default());
        self.last
    }

    /// The memory goes.
    pub fn free(&mut self, id: u64) {
        let gone = self.structures.remove(&id).expect("it is there");
        assert_eq!(gone.active, None, "structure {id} is freed while it is active");
    }

    /// Structures there are.
    pub fn structures(&self) -> usize {
        self.structures.len()
    }

    fn structure(&mut self, id: u64) -> &mut Structure {
        self.structures
            .get_mut(&id)
            .unwrap_or_else(|| panic!("structure {id} is gone"))
    }

    /// VMPTRLD.
    pub fn load(&mut self, cpu: usize, id: u64) {
        let structure = self.structure(id);
        if structure.active.is_none() {
            structure.active = Some(cpu);
            self.moves += 1;
        }
        let active = self.structure(id).active;
        assert_eq!(active, Some(cpu), "structure {id} is loaded on CPU {cpu}");
        self.cpus[cpu].current = Some(id);
    }

    /// VMCLEAR.
    pub fn clear(&mut self, cpu: usize, id: u64) {
        let structure = self.structure(id);
        assert!(
            structure.active.is_none_or(|active| active == cpu),
            "structure {id} is cleared on CPU {cpu}: {structure:?}"
        );
        structure.active = None;
        structure.launched = false;
        if self.cpus[cpu].current == Some(id) {
            self.cpus[cpu].current = None;
        }
    }

    /// Writes the state of `cpu` into the current structure.
    pub fn write_host(&mut self, cpu: usize) {
        let id = self.cpus[cpu].current.expect("a structure is current");
        self.structure(id).host = Some(cpu);
    }

    /// VMLAUNCH or VMRESUME.
    pub fn enter(&mut self, cpu: usize, launch: bool, tag: (u16, u16), root: u64) {
        assert!(!self.alone, "CPU {cpu} enters while another one is alone");
        let id = self.cpus[cpu].current.expect("a structure is current");
        let structure = self.structure(id);
        assert_eq!(
            structure.active,
            Some(cpu),
            "structure {id} is current on CPU {cpu}"
        );
        assert_eq!(
            structure.host,
            Some(cpu),
            "an exit on CPU {cpu} loads another one's state"
        );
        assert_ne!(
            structure.launched, launch,
            "VMLAUNCH is for clear structures only"
        );
        structure.launched = true;
        self.entries += 1;
        self.cpus[cpu].guest = Some(Entered {
            structure: id,
            tag,
            root,
        });
        self.walk(cpu);
    }

    /// The exit.
    pub fn leave(&mut self, cpu: usize) {
        let guest = self.cpus[cpu].guest.take().expect("in a guest");
        assert_eq!(self.cpus[cpu].current, Some(guest.structure));
    }

    /// The CPU takes in what it finds, as it may at any time.
    fn walk(&mut self, cpu: usize) -> Entered {
        let (linear, nested) = (self.linear.now, self.nested.now);
        let processor = &mut self.cpus[cpu];
        let guest = processor.guest.expect("in a guest");
        processor
            .linear
            .entry(guest.tag)
            .or_default()
            .insert((guest.root, linear));
        processor.nested.insert(nested);
        guest
    }

    /// An access of the guest, by the oldest translations that there are.
    pub fn access(&mut self, cpu: usize) {
        let guest = self.walk(cpu);
        assert!(
            !self.alone,
            "CPU {cpu} is in the guest while another one is alone"
        );
        self.accesses += 1;
        for &(root, version) in &self.cpus[cpu].linear[&guest.tag] {
            assert_eq!(
                root, guest.root,
                "CPU {cpu} has another page table's under the same tag"
            );
            assert!(
                version >= self.linear.floor,
                "CPU {cpu} uses a linear translation that was taken away"
            );
        }
        let nested = self.cpus[cpu].nested.first();
        assert!(
            nested.is_none_or(|&version| version >= self.nested.floor),
            "CPU {cpu} uses a nested translation that was taken away"
        );
    }

    /// INVVPID.
    pub fn flush_guest(&mut self, cpu: usize, tag: u16) {
        self.cpus[cpu].linear.retain(|&(other, _), _| other != tag);
    }

    /// INVEPT.
    pub fn flush_nested(&mut self, cpu: usize) {
        self.cpus[cpu].nested.clear();
    }

    /// An interrupt for `cpu`.
    pub fn interrupt(&mut self, cpu: usize) {
        self.cpus[cpu].interrupt = true;
    }

    pub fn is_interrupted(&self, cpu: usize) -> bool {
        self.cpus[cpu].interrupt
    }

    /// The CPU takes the interrupt, if there is one.
    pub fn take_interrupt(&mut self, cpu: usize) -> bool {
        std::mem::take(&mut self.cpus[cpu].interrupt)
    }

    /// Nobody is to be in the guest until this is said to be over.
    pub fn set_alone(&mut self, alone: bool) {
        assert_ne!(self.alone, alone, "two CPUs are alone");
        let inside = self.cpus.iter().position(|cpu| cpu.guest.is_some());
        assert_eq!(inside, None, "a CPU is in the guest while another one is alone");
        self.alone = alone;
    }
}
