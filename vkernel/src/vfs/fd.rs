//! File descriptors: numbers for open files. Shared by the threads of a process (`CLONE_FILES`).

use crate::linux::Errno;
use crate::sync::Lock;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Descriptors of one process at most.
pub const MAX_FILES: usize = 1024;

/// A table of descriptors. Generic so that it can be tested without files.
pub struct FileTable<F = super::OpenFile> {
    slots: Lock<Vec<Option<Slot<F>>>>,
}

struct Slot<F> {
    file: Arc<F>,
    close_on_exec: bool,
}

impl<F> Clone for Slot<F> {
    fn clone(&self) -> Self {
        Slot {
            file: self.file.clone(),
            close_on_exec: self.close_on_exec,
        }
    }
}

impl<F> FileTable<F> {
    /// An empty table.
    pub const fn new() -> Self {
        FileTable {
            slots: Lock::new(Vec::new()),
        }
    }

    /// A copy for a new process: the same open files under the same numbers.
    pub fn duplicate(&self) -> Self {
        FileTable {
            slots: Lock::new(self.slots.lock().clone()),
        }
    }

    /// The file with this number.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn get(&self, number: i32) -> Result<Arc<F>, Errno> {
        let index = usize::try_from(number).map_err(|_| Errno::EBADF)?;
        let slots = self.slots.lock();
        slots
            .get(index)
            .and_then(Option::as_ref)
            .map(|slot| slot.file.clone())
            .ok_or(Errno::EBADF)
    }

    /// Gives a file the lowest free number from `lowest` on.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn add(&self, file: Arc<F>, lowest: usize, close_on_exec: bool) -> Result<i32, Errno> {
        let mut slots = self.slots.lock();
        let index = (lowest..MAX_FILES)
            .find(|&index| slots.get(index).is_none_or(Option::is_none))
            .ok_or(Errno::EMFILE)?;
        put(&mut slots, index, Slot { file, close_on_exec });
        Ok(index as i32)
    }

    /// Gives a file this number; what had it before is returned, to be closed with no lock held.
    ///
    /// # Errors
    /// `EBADF` for a number out of range.
    pub fn replace(&self, number: i32, file: Arc<F>, close_on_exec: bool) -> Result<Option<Arc<F>>, Errno> {
        let index = usize::try_from(number).map_err(|_| Errno::EBADF)?;
        if index >= MAX_FILES {
            return Err(Errno::EBADF);
        }
        let mut slots = self.slots.lock();
        let old = slots.get_mut(index).and_then(Option::take);
        put(&mut slots, index, Slot { file, close_on_exec });
        Ok(old.map(|slot| slot.file))
    }

    /// Takes a number away. The file is returned, to be closed with no lock held.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn remove(&self, number: i32) -> Result<Arc<F>, Errno> {
        let index = usize::try_from(number).map_err(|_| Errno::EBADF)?;
        let mut slots = self.slots.lock();
        let slot = slots.get_mut(index).and_then(Option::take).ok_or(Errno::EBADF)?;
        Ok(slot.file)
    }

    /// Takes every number in the range away, up to both ends. The files are returned, to be closed with no lock held.
    pub fn remove_range(&self, first: usize, last: usize) -> Vec<Arc<F>> {
        let mut slots = self.slots.lock();
        let chosen = slots
            .iter_mut()
            .enumerate()
            .filter(|(index, _)| (first..=last).contains(index));
        chosen
            .filter_map(|(_, slot)| slot.take())
            .map(|slot| slot.file)
            .collect()
    }

    /// Whether the number goes away when a program is executed.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn closes_on_exec(&self, number: i32) -> Result<bool, Errno> {
        self.with_slot(number, |slot| slot.close_on_exec)
    }

    /// Changes that.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn set_close_on_exec(&self, number: i32, value: bool) -> Result<(), Errno> {
        self.with_slot(number, |slot| slot.close_on_exec = value)
    }

    fn with_slot<R>(&self, number: i32, operate: impl FnOnce(&mut Slot<F>) -> R) -> Result<R, Errno> {
        let index = usize::try_from(number).map_err(|_| Errno::EBADF)?;
        let mut slots = self.slots.lock();
        slots
            .get_mut(index)
            .and_then(Option::as_mut)
            .map(operate)
            .ok_or(Errno::EBADF)
    }

    /// A program is executed: takes the numbers away that are marked so.
    pub fn close_on_exec(&self) {
        let closed: Vec<_> = {
            let mut slots = self.slots.lock();
            let marked = |slot: &&mut Option<Slot<F>>| slot.as_ref().is_some_and(|slot| slot.close_on_exec);
            slots.iter_mut().filter(marked).map(Option::take).collect()
        };
        drop(closed);
    }
}

fn put<F>(slots: &mut Vec<Option<Slot<F>>>, index: usize, slot: Slot<F>) {
    if slots.len() <= index {
        slots.resize_with(index + 1, || None);
    }
    slots[index] = Some(slot);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_given() {
        let table = FileTable::new();
        assert_eq!(table.add(Arc::new('a'), 0, false), Ok(0));
        assert_eq!(table.add(Arc::new('b'), 0, false), Ok(1));
        assert_eq!(table.add(Arc::new('c'), 10, false), Ok(10));
        assert_eq!(*table.remove(0).unwrap(), 'a');
        assert_eq!(table.add(Arc::new('d'), 0, false), Ok(0));
        assert_eq!(table.add(Arc::new('e'), 0, false), Ok(2));
        assert_eq!(
            table.replace(1, Arc::new('f'), false).unwrap().as_deref(),
            Some(&'b')
        );
        assert_eq!(*table.get(1).unwrap(), 'f');
    }

    #[test]
    fn bad_numbers_are_refused() {
        let table = FileTable::new();
        for number in [-1, 0, 5, MAX_FILES as i32, i32::MIN, i32::MAX] {
            assert_eq!(table.get(number).err(), Some(Errno::EBADF));
            assert_eq!(table.remove(number).err(), Some(Errno::EBADF));
            assert_eq!(table.closes_on_exec(number).err(), Some(Errno::EBADF));
        }
        assert_eq!(
            table.replace(MAX_FILES as i32, Arc::new('x'), false).err(),
            Some(Errno::EBADF)
        );
        for expected in 0..MAX_FILES as i32 {
            assert_eq!(table.add(Arc::new('x'), 0, false), Ok(expected));
        }
        assert_eq!(table.add(Arc::new('x'), 0, false), Err(Errno::EMFILE));
    }

    #[test]
    fn exec_closes_what_is_marked_in_its_own_table_only() {
        let table = FileTable::new();
        table.add(Arc::new('a'), 0, false).unwrap();
        table.add(Arc::new('b'), 0, true).unwrap();
        let copy = table.duplicate();
        copy.close_on_exec();
        assert!(copy.get(0).is_ok() && copy.get(1).is_err());
        assert!(table.get(1).is_ok());
        assert_eq!(table.remove_range(1, usize::MAX).len(), 1);
    }
}
