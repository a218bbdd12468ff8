//! Programs: what each CPU does, one operation after the other.

mod operate;
mod strategy;

pub use strategy::program;

use crate::tests::model::Features;
use dragonet_abi::memory::Vpte;
use std::fmt;

/// A word of the virtual page tables, or of the last tables of guests: page, or number of the table, and index.
pub type Place = (usize, usize);

/// One operation of a program or of the kernel of virtual machines that manages it. Spaces are named by slot.
#[derive(Clone, Debug)]
pub enum Operation {
    /// The CPU runs the space, or with an empty slot the kernel's own table.
    Run(usize),
    /// The CPU runs the kernel's own table.
    Rest,
    /// A new space takes the slot; the one that was there goes when nobody runs it any more.
    Replace(usize),
    /// The slot becomes empty.
    Destroy(usize),
    /// A copy of the first space takes the second slot.
    Fork(usize, usize),
    /// Loads, or stores, of the program that runs.
    Access(usize, usize, bool),
    Unmap(usize, usize, usize),
    /// New memory takes the place of what is there.
    Map(usize, usize, usize),
    Protect(usize, usize, usize, bool),
    Discard(usize, usize, usize),
    /// `MADV_INVAL`.
    Invalidate(usize, usize, usize),
    /// `MADV_SETMAP`.
    SetRoot(usize, u64),
    /// The device is mapped anew, for stores or not.
    MapDevice(usize, bool),
    /// One of its large pages is split or put together.
    Resize(usize, u64, bool),
    /// Dirty flags of the page table are collected.
    Collect(usize, usize, usize),
    /// A virtual page table is changed, without an invalidation.
    Edit(Place, u64),
    /// Dirty flags are taken from some entries, and their pages invalidated in one space.
    Harvest(usize, usize),
    /// A process writes a page table for its guests.
    BuildGuest,
    /// A process changes an entry of one of its guests' last tables.
    EditGuest(Place, usize, bool, bool),
    /// A process changes an entry of a last table and invalidates its page for one guest.
    InvalidateGuest(usize, Place, usize),
    /// A root of the guests gets another table, without an invalidation.
    EditGuestRoot(usize, usize),
    /// A root of the guests becomes one with another table: everything is invalidated for one guest.
    RenewGuestRoot(usize, usize, usize),
    /// A control structure comes to this CPU.
    Load(usize),
    /// A process runs a guest under one of its roots, where it makes these accesses.
    Guest(usize, usize, Vec<(usize, bool)>),
}

/// What all CPUs do, and what CPUs there are.
#[derive(Clone, Debug)]
pub struct Program {
    pub features: Features,
    pub cpus: Vec<Vec<Operation>>,
}

const ALLOW: u64 = Vpte::VALID | Vpte::WRITE | Vpte::USER;
/// A virtual page table as it is at first: root in page 0, then 1, 2, and for the two last tables 3 and 4.
pub const ROOT: u64 = ALLOW;
/// First page that is no table.
const FIRST_DATA: u64 = 7;

/// The words of the first virtual page table.
pub fn first_table() -> Vec<(Place, u64)> {
    let mut words = vec![
        ((0, 0), 1 << 12 | ALLOW),
        ((1, 0), 2 << 12 | ALLOW),
        ((2, 0), 3 << 12 | ALLOW),
        ((2, 1), 4 << 12 | ALLOW),
        // Another root, which shares all but one table.
        ((5, 0), 6 << 12 | ALLOW),
        ((6, 0), 2 << 12 | ALLOW),
    ];
    for index in 0..4 {
        words.push(((3, index), (FIRST_DATA + index as u64) << 12 | ALLOW));
        words.push(((4, index), (FIRST_DATA + 4 - index as u64) << 12 | ALLOW));
    }
    words
}

/// What programs are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Private memory.
    Memory,
    /// Forks, and stores to what they share.
    Copies,
    /// Virtual page tables.
    Virtual,
    /// Guests and the memory of their processes.
    Guests,
    /// Guests that change their page tables, and little else.
    Roots,
    /// Large pages, and dirty flags.
    Sizes,
}

impl Subject {
    pub const ALL: [Subject; 6] = [
        Subject::Memory,
        Subject::Copies,
        Subject::Virtual,
        Subject::Guests,
        Subject::Roots,
        Subject::Sizes,
    ];

    /// By its name in small letters.
    pub fn named(name: &str) -> Option<Subject> {
        Self::ALL
            .into_iter()
            .find(|subject| format!("{subject:?}").eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Program {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{:?}", self.features)?;
        for (cpu, operations) in self.cpus.iter().enumerate() {
            writeln!(formatter, "CPU {cpu}: {operations:?}")?;
        }
        Ok(())
    }
}
