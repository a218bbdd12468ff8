//! A machine for page tables: memory, and a CPU that uses the table between any two accesses of ours.

use super::cpu::{Access, Cpu, Pages};
use crate::*;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

pub const ROOT: u64 = 0x1000;

/// Memory, and the CPU if there is one.
pub struct Machine {
    pages: RefCell<Pages>,
    cpu: RefCell<Option<Cpu>>,
    /// Entries that were loaded.
    pub touched: Cell<usize>,
    next: Cell<u64>,
}

impl Machine {
    /// Nothing but an empty root.
    pub fn new() -> Self {
        Machine {
            pages: RefCell::new(BTreeMap::from([(ROOT, vec![0; ENTRIES])])),
            cpu: RefCell::new(None),
            touched: Cell::new(0),
            next: Cell::new(ROOT + PAGE_SIZE),
        }
    }

    /// The same with a CPU.
    pub fn with(cpu: Cpu) -> Self {
        let machine = Self::new();
        machine.attach(cpu);
        machine
    }

    pub fn attach(&self, cpu: Cpu) {
        *self.cpu.borrow_mut() = Some(cpu);
    }

    /// Tables that are not freed, the root included.
    pub fn count(&self) -> usize {
        self.pages.borrow().len()
    }

    pub fn free(&self, table: u64) {
        assert!(self.pages.borrow_mut().remove(&table).is_some(), "freed twice");
    }

    /// An entry, without the CPU noticing.
    pub fn peek(&self, table: u64, index: usize) -> u64 {
        self.pages.borrow()[&table][index]
    }

    /// Lets `use_` have the CPU, which meanwhile does nothing of its own.
    pub fn cpu<T>(&self, use_: impl FnOnce(&mut Cpu) -> T) -> T {
        let mut cpu = self.cpu.borrow_mut().take().expect("a CPU");
        let result = use_(&mut cpu);
        self.attach(cpu);
        result
    }

    /// One access of the CPU.
    pub fn access(&self, page: u64, access: Access) {
        let pages = &mut self.pages.borrow_mut();
        self.cpu(|cpu| cpu.access(pages, page, access));
    }

    /// What the owed flush makes the CPU do.
    pub fn flush(&self, set: &FlushSet) {
        self.act();
        let pages = &self.pages.borrow();
        self.cpu(|cpu| cpu.flush(pages, set));
    }

    fn act(&self) {
        if let Some(cpu) = self.cpu.borrow_mut().as_mut() {
            cpu.act(&mut self.pages.borrow_mut());
        }
    }
}

impl TableMemory for Machine {
    fn load(&self, table: u64, index: usize) -> u64 {
        self.act();
        self.touched.set(self.touched.get() + 1);
        self.pages.borrow()[&table][index]
    }
    fn store(&self, table: u64, index: usize, entry: u64) {
        self.swap(table, index, entry);
    }
    fn swap(&self, table: u64, index: usize, entry: u64) -> u64 {
        self.act();
        let mut pages = self.pages.borrow_mut();
        core::mem::replace(&mut pages.get_mut(&table).unwrap()[index], entry)
    }
    fn compare_exchange(&self, table: u64, index: usize, old: u64, new: u64) -> Result<(), u64> {
        self.act();
        let mut pages = self.pages.borrow_mut();
        let entry = &mut pages.get_mut(&table).unwrap()[index];
        if *entry != old {
            return Err(*entry);
        }
        *entry = new;
        Ok(())
    }
}

/// At most `left` tables.
pub struct Source<'machine> {
    pub machine: &'machine Machine,
    pub left: usize,
}

impl<'machine> Source<'machine> {
    pub fn plenty(machine: &'machine Machine) -> Self {
        Source {
            machine,
            left: usize::MAX,
        }
    }
}

impl TableSource for Source<'_> {
    fn allocate(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        let address = self.machine.next.get();
        self.machine.next.set(address + PAGE_SIZE);
        self.machine.pages.borrow_mut().insert(address, vec![0; ENTRIES]);
        Some(address)
    }
}

/// All that a removal found.
#[derive(Debug, Default)]
pub struct Collected {
    /// Table and level.
    pub tables: Vec<(u64, u8)>,
    /// Address, entry and level.
    pub leaves: Vec<(u64, u64, u8)>,
}

impl Detached for Collected {
    fn table(&mut self, table: u64, level: u8) {
        self.tables.push((table, level));
    }
    fn leaf(&mut self, address: u64, entry: u64, level: u8) {
        self.leaves.push((address, entry, level));
    }
}

/// All that a harvest told: address, level, usage.
#[derive(Debug, Default)]
pub struct Harvested(pub Vec<(u64, u8, Usage)>);

impl Harvest for Harvested {
    fn leaf(&mut self, address: u64, level: u8, usage: Usage) {
        self.0.push((address, level, usage));
    }
}
