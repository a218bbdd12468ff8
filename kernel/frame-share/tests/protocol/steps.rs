//! The steps of accesses, faults, forks and dropped pages, one at a time.

use super::world::{Action, At, Plant, World};

impl World {
    /// One step of a thread; false if it can do none.
    pub fn step(&mut self, id: usize) -> Result<bool, String> {
        let thread = &self.threads[id];
        let Some(&action) = thread.actions.get(thread.done) else {
            return Ok(false);
        };
        match action {
            Action::Store(space, ..)
            | Action::Load(space, _)
            | Action::Expect(space, ..)
            | Action::Still(space) => {
                if !self.spaces[space].exists {
                    return Ok(false);
                }
                self.access(id, action, space)
            }
            Action::Await(space) => {
                let exists = self.spaces[space].exists;
                if exists {
                    self.threads[id].finish();
                }
                Ok(exists)
            }
            Action::Fork(from, to) => Ok(self.fork(id, from, to)),
            Action::Drop(space) => Ok(self.drop_page(id, space)),
        }
    }

    /// An access through the translation, or a step of the fault that it needs.
    fn access(&mut self, id: usize, action: Action, space: usize) -> Result<bool, String> {
        let write = matches!(action, Action::Store(..));
        let at = self.threads[id].at;
        let next = match at {
            At::Begin => match self.spaces[space].translation {
                Some((frame, writable)) if writable || !write => {
                    self.perform(action, frame)?;
                    self.threads[id].finish();
                    return Ok(true);
                }
                _ => At::Stamp,
            },
            At::Stamp => {
                self.threads[id].stamp = self.spaces[space].raised;
                At::Slot
            }
            At::Slot => {
                if self.spaces[space].slot.is_none() {
                    let Some(fresh) = self.allocate([0; 2]) else {
                        return Ok(false);
                    };
                    self.spaces[space].slot = Some(fresh);
                }
                self.threads[id].page = self.spaces[space].slot;
                At::Shared
            }
            At::Shared => {
                let page = self.threads[id].page.unwrap();
                let shared = self.frames[page].count.real.is_shared();
                self.threads[id].shared = shared;
                if shared && write { At::CopyFirst } else { At::Enter }
            }
            At::Enter => {
                if self.spaces[space].pmap_lock.is_some() {
                    return Ok(false);
                }
                let thread = &self.threads[id];
                if self.spaces[space].admits(thread.stamp) {
                    self.spaces[space].translation = Some((thread.page.unwrap(), !thread.shared));
                }
                At::Begin
            }
            _ => return Ok(self.copy(id, space, at)),
        };
        self.threads[id].at = next;
        Ok(true)
    }

    /// The steps of a fault that copies.
    fn copy(&mut self, id: usize, space: usize, at: At) -> bool {
        let page = self.threads[id].page.unwrap();
        let next = match at {
            At::CopyFirst => {
                let Some(copy) = self.allocate([0; 2]) else {
                    return false;
                };
                self.frames[copy].words[0] = self.frames[page].words[0];
                self.threads[id].copy = Some(copy);
                At::CopySecond
            }
            At::CopySecond => {
                let copy = self.threads[id].copy.unwrap();
                self.frames[copy].words[1] = self.frames[page].words[1];
                At::Break
            }
            At::Break => {
                if self.spaces[space].pmap_lock.is_some() {
                    return false;
                }
                if !self.spaces[space].admits(self.threads[id].stamp) {
                    return self.give_up(id, space);
                }
                self.spaces[space].pmap_lock = Some(id);
                self.spaces[space].translation = None;
                At::Look
            }
            At::Look => {
                if self.spaces[space].tree_lock.is_some() {
                    return false;
                }
                if !self.frames[page].count.real.is_shared() && !self.planted(Plant::NoSecondLook) {
                    return self.give_up(id, space);
                }
                self.spaces[space].tree_lock = Some(id);
                At::Replace
            }
            At::Replace => {
                self.spaces[space].tree_lock = None;
                if self.spaces[space].slot != Some(page) && !self.planted(Plant::NoComparison) {
                    return self.give_up(id, space);
                }
                self.spaces[space].slot = self.threads[id].copy;
                At::RaiseForCopy
            }
            At::RaiseForCopy => {
                if !self.planted(Plant::NoRaiseByCopy) {
                    self.raise(space);
                }
                At::EnterCopy
            }
            At::EnterCopy => {
                self.spaces[space].translation = Some((self.threads[id].copy.unwrap(), true));
                self.spaces[space].pmap_lock = None;
                At::GiveBack
            }
            At::GiveBack => {
                self.release(page);
                At::Begin
            }
            other => unreachable!("{other:?} is no step of a copy"),
        };
        self.threads[id].at = next;
        true
    }

    /// The copy is of no use: start over.
    fn give_up(&mut self, id: usize, space: usize) -> bool {
        if self.spaces[space].pmap_lock == Some(id) {
            self.spaces[space].pmap_lock = None;
        }
        if let Some(copy) = self.threads[id].copy.take() {
            self.free(copy);
        }
        self.threads[id].at = At::Begin;
        true
    }

    /// A step of a fork of the one page.
    fn fork(&mut self, id: usize, from: usize, to: usize) -> bool {
        let next = match self.threads[id].at {
            At::Begin => {
                let source = &mut self.spaces[from];
                if source.map_lock.is_some() || source.pmap_lock.is_some() || source.tree_lock.is_some() {
                    return false;
                }
                (source.map_lock, source.pmap_lock, source.tree_lock) = (Some(id), Some(id), Some(id));
                self.threads[id].page = source.slot;
                if self.planted(Plant::RaiseBeforeCount) {
                    self.raise(from);
                }
                At::Count
            }
            At::Count => {
                if let Some(page) = self.threads[id].page
                    && !self.planted(Plant::NoCount)
                {
                    self.frames[page].count.apply(|count| count.share().unwrap());
                }
                At::Insert
            }
            At::Insert => {
                self.spaces[to].slot = self.threads[id].page;
                self.spaces[from].tree_lock = None;
                if self.planted(Plant::RaiseBeforeNarrowing) {
                    self.raise(from);
                }
                At::Narrow
            }
            At::Narrow => {
                if self.plant != Some(Plant::NoNarrowing) {
                    let translation = &mut self.spaces[from].translation;
                    *translation = translation.map(|(frame, _)| (frame, false));
                }
                At::RaiseForFork
            }
            At::RaiseForFork => {
                let early = [
                    Plant::NoRaiseByFork,
                    Plant::RaiseBeforeCount,
                    Plant::RaiseBeforeNarrowing,
                ];
                if !early.into_iter().any(|plant| self.planted(plant)) {
                    self.raise(from);
                }
                let source = &mut self.spaces[from];
                (source.map_lock, source.pmap_lock) = (None, None);
                self.spaces[to].exists = true;
                self.threads[id].finish();
                return true;
            }
            other => unreachable!("{other:?} is no step of a fork"),
        };
        self.threads[id].at = next;
        true
    }

    /// A step of dropping the page of a space.
    fn drop_page(&mut self, id: usize, space: usize) -> bool {
        let next = match self.threads[id].at {
            At::Begin => {
                let owner = &mut self.spaces[space];
                if owner.map_lock.is_some() || owner.tree_lock.is_some() {
                    return false;
                }
                owner.map_lock = Some(id);
                owner.still = None;
                self.threads[id].page = owner.slot.take();
                if let Some(page) = self.threads[id].page
                    && self.planted(Plant::EarlyRelease)
                {
                    self.release(page);
                }
                At::Remove
            }
            At::Remove => {
                if self.spaces[space].pmap_lock.is_some() {
                    return false;
                }
                self.raise(space);
                self.spaces[space].translation = None;
                self.spaces[space].map_lock = None;
                At::Free
            }
            At::Free => {
                if let Some(page) = self.threads[id].page
                    && !self.planted(Plant::EarlyRelease)
                {
                    self.release(page);
                }
                self.threads[id].finish();
                return true;
            }
            other => unreachable!("{other:?} is no step of dropping"),
        };
        self.threads[id].at = next;
        true
    }

    /// The access itself.
    fn perform(&mut self, action: Action, frame: usize) -> Result<(), String> {
        let words = self.frames[frame].words;
        match action {
            Action::Store(space, word, value) => {
                self.frames[frame].words[word] = value;
                if let Some(still) = &mut self.spaces[space].still {
                    still[word] = value;
                }
            }
            Action::Expect(_, word, value) if words[word] != value => {
                return Err(format!("a thread stored {value} and reads {}", words[word]));
            }
            Action::Still(space) => {
                let still = *self.spaces[space].still.get_or_insert(words);
                if still != words {
                    return Err(format!("a space shows {words:?} where it showed {still:?}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
