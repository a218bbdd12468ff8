//! The handle table of a process.

use super::{Object, bury};
use crate::sync::{Rank, SpinLock};
use alloc::vec::Vec;
use arrayvec::ArrayVec;
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
    /// Index of a slot without an entry. The table grows to many pages in one piece, which memory may not have however much of it is free:
    /// that is the caller's error. The list of free slots grows along, so that closing a handle needs no memory.
    fn free_slot(&mut self) -> Result<usize, Errno> {
        if let Some(index) = self.free.pop() {
            return Ok(index as usize);
        }
        let length = self.slots.len();
        if length >= MAX_HANDLES {
            return Err(Errno::EMFILE);
        }
        self.slots.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.free.try_reserve(length + 1).map_err(|_| Errno::ENOMEM)?;
        self.slots.push(Slot {
            generation: 0,
            entry: None,
        });
        Ok(length)
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
        let found = table.free_slot();
        let index = match found {
            Ok(index) => index,
            Err(errno) => {
                drop(table);
                return Err(errno);
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

    /// What `choose` makes of the first object at `position` or above of which it makes something, and the position above.
    pub fn find_from<T>(
        &self,
        position: u64,
        mut choose: impl FnMut(&Object) -> Option<T>,
    ) -> Option<(u64, T)> {
        let table = self.slots.lock();
        let rest = table.slots.get(usize::try_from(position).ok()?..)?;
        (position + 1..).zip(rest).find_map(|(next, slot)| {
            let entry = slot.entry.as_ref()?;
            choose(&entry.object).map(|chosen| (next, chosen))
        })
    }

    /// Takes a handle out of the table. The caller drops the entry when it holds no lock.
    ///
    /// # Errors
    /// EBADF when it names no object; EPERM when a right is missing (nothing is taken).
    pub fn take(&self, handle: Handle, rights: Rights) -> Result<Entry, Errno> {
        self.take_all::<1>(&[handle], rights)?.pop().ok_or(Errno::EBADF)
    }

    /// Takes up to `N` handles out of the table, all or none. The caller drops the entries when it holds no lock.
    ///
    /// # Errors
    /// EBADF when one names no object, or the same as another one; EPERM when a right is missing (nothing is taken).
    pub fn take_all<const N: usize>(
        &self,
        handles: &[Handle],
        rights: Rights,
    ) -> Result<ArrayVec<Entry, N>, Errno> {
        let mut table = self.slots.lock();
        for (position, &handle) in handles.iter().enumerate() {
            let index = Self::index(&table, handle)?;
            match &table.slots[index].entry {
                Some(entry) if !entry.rights.contains(rights) => return Err(Errno::EPERM),
                Some(_) if !handles[..position].contains(&handle) => {}
                _ => return Err(Errno::EBADF),
            }
        }
        let mut taken = ArrayVec::new();
        for &handle in handles.iter().take(N) {
            let index = Self::index(&table, handle)?;
            let slot = &mut table.slots[index];
            taken.extend(slot.entry.take());
            // The all-ones generation is skipped: the handles up there are `SELF_PROCESS` and `SELF_THREAD`.
            slot.generation = (slot.generation + 1) % (GENERATIONS - 1);
            table.free.push(index as u32);
        }
        drop(table);
        self.open.fetch_sub(taken.len() as u32, Ordering::Relaxed);
        OPEN.fetch_sub(taken.len() as u32, Ordering::Relaxed);
        Ok(taken)
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
        // With no lock held: the end of an object may take locks of its own.
        bury(slots.into_iter().filter_map(|slot| slot.entry));
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

impl Drop for HandleTable {
    /// A process that was never started has not closed its handles.
    fn drop(&mut self) {
        self.close_all();
    }
}
