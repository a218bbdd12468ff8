//! The handle table of a process.

use super::Object;
use crate::sync::{Rank, SpinLock};
use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use dragonet_abi::layout::MAX_HANDLES;
use dragonet_abi::{Errno, Handle, Rights};

/// An object with the rights that its holder has.
#[derive(Clone)]
pub struct Entry {
    /// The object.
    pub object: Object,
    /// What may be done with it.
    pub rights: Rights,
}

struct Slot {
    /// Counts how often the slot was given out, so that an old handle does not name a new object.
    generation: u32,
    entry: Option<Entry>,
}

struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    closed: bool,
}

impl Slots {
    /// Makes room for one more slot, and for it in the list of free ones, so that closing a handle needs no memory.
    fn reserve(&mut self) -> Result<(), TryReserveError> {
        self.slots.try_reserve(1)?;
        let slots = self.slots.len() + 1;
        self.free.try_reserve(slots - self.free.len())
    }
}

/// Handles of one process.
pub struct HandleTable {
    slots: SpinLock<Slots>,
    open: AtomicU32,
}

/// Open handles of all processes.
static OPEN: AtomicU32 = AtomicU32::new(0);

const GENERATIONS: u32 = 1 << (32 - Handle::INDEX_BITS);

impl HandleTable {
    /// An empty table.
    pub const fn new() -> Self {
        let slots = Slots {
            slots: Vec::new(),
            free: Vec::new(),
            closed: false,
        };
        HandleTable {
            slots: SpinLock::new(Rank::Handles, slots),
            open: AtomicU32::new(0),
        }
    }

    /// Open handles of this process.
    pub fn len(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Open handles of all processes.
    pub fn open_in_all() -> u32 {
        OPEN.load(Ordering::Relaxed)
    }

    /// Adds an object.
    ///
    /// # Errors
    /// EMFILE when the table is full; ENOMEM when it cannot grow; ESRCH when the process is ending. The entry is dropped, outside of the lock.
    pub fn insert(&self, entry: Entry) -> Result<Handle, Errno> {
        let mut table = self.slots.lock();
        if table.closed {
            drop(table);
            return Err(Errno::ESRCH);
        }
        let index = match table.free.pop() {
            Some(index) => index as usize,
            None if table.slots.len() < MAX_HANDLES => {
                if table.reserve().is_err() {
                    drop(table);
                    return Err(Errno::ENOMEM);
                }
                table.slots.push(Slot {
                    generation: 0,
                    entry: None,
                });
                table.slots.len() - 1
            }
            None => {
                drop(table);
                return Err(Errno::EMFILE);
            }
        };
        let slot = &mut table.slots[index];
        slot.entry = Some(entry);
        let handle = Handle(slot.generation << Handle::INDEX_BITS | (index as u32 + 1));
        drop(table);
        self.open.fetch_add(1, Ordering::Relaxed);
        OPEN.fetch_add(1, Ordering::Relaxed);
        Ok(handle)
    }

    /// The object that a handle names, with its rights.
    ///
    /// # Errors
    /// EBADF when it names none.
    pub fn get(&self, handle: Handle) -> Result<Entry, Errno> {
        let table = self.slots.lock();
        let index = Self::index(&table, handle)?;
        table.slots[index].entry.clone().ok_or(Errno::EBADF)
    }

    /// The object that a handle names, if the handle has all of `rights`.
    ///
    /// # Errors
    /// EBADF when it names none; EPERM when a right is missing.
    pub fn get_with(&self, handle: Handle, rights: Rights) -> Result<Object, Errno> {
        let entry = self.get(handle)?;
        if entry.rights.contains(rights) {
            Ok(entry.object)
        } else {
            Err(Errno::EPERM)
        }
    }

    /// Takes a handle out of the table. The caller drops the entry when it holds no lock.
    ///
    /// # Errors
    /// EBADF when it names no object; EPERM when a right is missing (nothing is taken).
    pub fn take(&self, handle: Handle, rights: Rights) -> Result<Entry, Errno> {
        let mut table = self.slots.lock();
        let index = Self::index(&table, handle)?;
        let slot = &mut table.slots[index];
        match &slot.entry {
            Some(entry) if !entry.rights.contains(rights) => return Err(Errno::EPERM),
            None => return Err(Errno::EBADF),
            Some(_) => {}
        }
        let entry = slot.entry.take().ok_or(Errno::EBADF)?;
        // The all-ones generation is skipped: the handles up there are `SELF_PROCESS` and `SELF_THREAD`.
        slot.generation = (slot.generation + 1) % (GENERATIONS - 1);
        table.free.push(index as u32);
        drop(table);
        self.open.fetch_sub(1, Ordering::Relaxed);
        OPEN.fetch_sub(1, Ordering::Relaxed);
        Ok(entry)
    }

    /// Closes every handle and refuses new ones: the process ends.
    pub fn close_all(&self) {
        let slots = {
            let mut table = self.slots.lock();
            table.closed = true;
            table.free = Vec::new();
            core::mem::take(&mut table.slots)
        };
        let open = slots.iter().filter(|slot| slot.entry.is_some()).count() as u32;
        self.open.fetch_sub(open, Ordering::Relaxed);
        OPEN.fetch_sub(open, Ordering::Relaxed);
        // Dropped here, with no lock held: the end of an object may take locks of its own.
        drop(slots);
    }

    fn index(table: &Slots, handle: Handle) -> Result<usize, Errno> {
        let index = (handle.0 & ((1 << Handle::INDEX_BITS) - 1))
            .checked_sub(1)
            .ok_or(Errno::EBADF)? as usize;
        let slot = table.slots.get(index).ok_or(Errno::EBADF)?;
        let generation = handle.0 >> Handle::INDEX_BITS;
        if slot.generation == generation {
            Ok(index)
        } else {
            Err(Errno::EBADF)
        }
    }
}
