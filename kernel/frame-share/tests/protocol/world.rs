//! One page in several address spaces, and threads that go through the kernel's steps.

use frame_share::ShareCount;
use page_table::{Interlock, Stamp};
use std::hash::{Hash, Hasher};

const PAGE: u64 = 0x1000;
/// What is in a free frame.
const POISON: u8 = 0xee;

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plant {
    /// A copy takes the page's place without another look at the count.
    NoSecondLook,
    /// A copy takes the page's place without another look at the slot.
    NoComparison,
    /// A fork does not raise the interlock.
    NoRaiseByFork,
    /// A fork leaves translations writable.
    NoNarrowing,
    /// A fork raises the interlock before the count.
    RaiseBeforeCount,
    /// A fork raises the interlock before the translations are narrowed: somebody copies while another one still stores.
    RaiseBeforeNarrowing,
    /// A copy does not raise the interlock.
    NoRaiseByCopy,
    /// A dropped page is given back before its translations are gone.
    EarlyRelease,
    /// A fork does not count.
    NoCount,
}

impl Plant {
    pub const ALL: [Plant; 9] = [
        Plant::NoSecondLook,
        Plant::NoComparison,
        Plant::NoRaiseByFork,
        Plant::NoNarrowing,
        Plant::RaiseBeforeCount,
        Plant::RaiseBeforeNarrowing,
        Plant::NoRaiseByCopy,
        Plant::EarlyRelease,
        Plant::NoCount,
    ];
}

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Stores a value to a word of a space.
    Store(usize, usize, u8),
    /// Loads a word.
    Load(usize, usize),
    /// Loads a word, which must be that.
    Expect(usize, usize, u8),
    /// Loads both words, which from then on must stay unless a thread of that space stores.
    Still(usize),
    /// Copies one space into another.
    Fork(usize, usize),
    /// Waits for a fork into a space.
    Await(usize),
    /// Drops the page of a space.
    Drop(usize),
}

/// Where a thread is in an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Begin,
    // A fault.
    Stamp,
    Slot,
    Shared,
    Enter,
    CopyFirst,
    CopySecond,
    Break,
    Look,
    Replace,
    RaiseForCopy,
    EnterCopy,
    GiveBack,
    // A fork.
    Count,
    Insert,
    Narrow,
    RaiseForFork,
    // A dropped page.
    Remove,
    Free,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Thread {
    actions: Vec<Action>,
    done: usize,
    at: At,
    stamp: u64,
    page: Option<usize>,
    copy: Option<usize>,
    shared: bool,
}

impl Thread {
    pub fn new(actions: Vec<Action>) -> Self {
        Thread {
            actions,
            done: 0,
            at: At::Begin,
            stamp: 0,
            page: None,
            copy: None,
            shared: false,
        }
    }

    fn finish(&mut self) {
        *self = Thread {
            done: self.done + 1,
            ..Thread::new(std::mem::take(&mut self.actions))
        };
    }
}

/// A share count that can be compared: the real one, with what was done to it.
#[derive(Debug, Default)]
struct Count {
    real: ShareCount,
    history: Vec<fn(&ShareCount)>,
}

impl Count {
    fn apply(&mut self, operation: fn(&ShareCount)) {
        operation(&self.real);
        self.history.push(operation);
    }

    fn value(&self) -> String {
        format!("{:?}", self.real)
    }
}

impl Clone for Count {
    fn clone(&self) -> Self {
        let mut copy = Count::default();
        for operation in &self.history {
            copy.apply(*operation);
        }
        copy
    }
}

#[derive(Clone, Debug)]
struct Frame {
    words: [u8; 2],
    free: bool,
    count: Count,
}

impl Frame {
    fn key(&self) -> ([u8; 2], bool, String) {
        (self.words, self.free, self.count.value())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Space {
    exists: bool,
    slot: Option<usize>,
    /// Frame, and whether it can be written.
    translation: Option<(usize, bool)>,
    /// Times that the interlock was raised; the stamp that threads take.
    raised: u64,
    map_lock: Option<usize>,
    pmap_lock: Option<usize>,
    tree_lock: Option<usize>,
    /// What both words must show, once somebody has looked.
    still: Option<[u8; 2]>,
}

impl Space {
    /// The real interlock after as many invalidations of the page.
    fn admits(&self, stamp: u64) -> bool {
        let mut interlock = Interlock::new();
        for _ in 0..self.raised {
            interlock.invalidate(&(PAGE..2 * PAGE));
        }
        interlock.admits(Stamp(stamp), PAGE)
    }
}

#[derive(Clone, Debug)]
pub struct World {
    frames: Vec<Frame>,
    spaces: [Space; 3],
    threads: Vec<Thread>,
    plant: Option<Plant>,
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.spaces == other.spaces
            && self.threads == other.threads
            && self
                .frames
                .iter()
                .map(Frame::key)
                .eq(other.frames.iter().map(Frame::key))
    }
}

impl Eq for World {}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spaces.hash(state);
        self.threads.hash(state);
        for frame in &self.frames {
            frame.key().hash(state);
        }
    }
}

impl World {
    /// One space with a page of zeroes that is mapped for stores, and `frames` frames.
    pub fn new<const THREADS: usize>(frames: usize, threads: [Thread; THREADS]) -> Self {
        let free = Frame {
            words: [POISON; 2],
            free: true,
            count: Count::default(),
        };
        let mut world = World {
            frames: vec![free; frames],
            spaces: Default::default(),
            threads: threads.into(),
            plant: None,
        };
        world.frames[0].free = false;
        world.frames[0].words = [0; 2];
        world.spaces[0] = Space {
            exists: true,
            slot: Some(0),
            translation: Some((0, true)),
            ..Space::default()
        };
        world
    }

    /// The same after a fork into space 1.
    pub fn forked<const THREADS: usize>(frames: usize, threads: [Thread; THREADS]) -> Self {
        let mut world = Self::new(frames, threads);
        world.frames[0].count.apply(|count| count.share().unwrap());
        world.spaces[0].translation = Some((0, false));
        world.spaces[1] = Space {
            exists: true,
            slot: Some(0),
            ..Space::default()
        };
        world
    }

    pub fn with(self, plant: Plant) -> Self {
        World {
            plant: Some(plant),
            ..self
        }
    }

    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    fn planted(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    /// Takes a free frame with what a new page has. With none left the thread waits, which the situations avoid.
    fn allocate(&mut self, words: [u8; 2]) -> Option<usize> {
        let frame = self.frames.iter().position(|frame| frame.free)?;
        self.frames[frame].free = false;
        self.frames[frame].words = words;
        Some(frame)
    }

    fn free(&mut self, frame: usize) {
        self.frames[frame].free = true;
        self.frames[frame].words = [POISON; 2];
    }

    /// Gives an owner's part in a frame back.
    fn release(&mut self, frame: usize) {
        let shared = self.frames[frame].count.real.is_shared();
        self.frames[frame].count.apply(|count| {
            let _last = count.release();
        });
        if !shared {
            self.free(frame);
        }
    }

    fn raise(&mut self, space: usize) {
        self.spaces[space].raised += 1;
    }

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

    /// What must hold all the time.
    pub fn check(&self) -> Result<(), String> {
        for (number, space) in self.spaces.iter().enumerate() {
            if space.slot.is_some_and(|frame| self.frames[frame].free) {
                return Err(format!("space {number} owns a free frame"));
            }
            if space
                .translation
                .is_some_and(|(frame, _)| self.frames[frame].free)
            {
                return Err(format!("space {number} reaches a free frame"));
            }
            if let Some(still) = space.still
                && let Some(frame) = space.slot
                && self.frames[frame].words != still
            {
                let shown = self.frames[frame].words;
                return Err(format!("space {number} has {shown:?} where it had {still:?}"));
            }
        }
        Ok(())
    }

    /// What must hold when no thread can go on.
    pub fn check_end(&self) -> Result<(), String> {
        if let Some(id) = self
            .threads
            .iter()
            .position(|thread| thread.done < thread.actions.len())
        {
            return Err(format!("thread {id} waits for ever"));
        }
        for (number, frame) in self.frames.iter().enumerate() {
            let owners = self
                .spaces
                .iter()
                .filter(|space| space.slot == Some(number))
                .count();
            if frame.free != (owners == 0) {
                return Err(format!(
                    "frame {number} has {owners} owners and is free: {}",
                    frame.free
                ));
            }
            if frame.count.real.is_shared() != (owners > 1) {
                return Err(format!("frame {number} has {owners} owners and another count"));
            }
        }
        Ok(())
    }
}
