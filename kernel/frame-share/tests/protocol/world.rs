//! One page in several address spaces, and threads that go through the kernel's steps.

use frame_share::ShareCount;
use page_table::{Interlock, Stamp};

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
pub enum At {
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
    pub actions: Vec<Action>,
    pub done: usize,
    pub at: At,
    pub stamp: u64,
    pub page: Option<usize>,
    pub copy: Option<usize>,
    pub shared: bool,
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

    pub fn finish(&mut self) {
        *self = Thread {
            done: self.done + 1,
            ..Thread::new(std::mem::take(&mut self.actions))
        };
    }
}

/// A share count that can be compared: the real one, with what was done to it.
#[derive(Debug, Default)]
pub struct Count {
    pub real: ShareCount,
    pub history: Vec<fn(&ShareCount)>,
}

impl Count {
    pub fn apply(&mut self, operation: fn(&ShareCount)) {
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
pub struct Frame {
    pub words: [u8; 2],
    pub free: bool,
    pub count: Count,
}

impl Frame {
    fn key(&self) -> ([u8; 2], bool, String) {
        (self.words, self.free, self.count.value())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Space {
    pub exists: bool,
    pub slot: Option<usize>,
    /// Frame, and whether it can be written.
    pub translation: Option<(usize, bool)>,
    /// Times that the interlock was raised; the stamp that threads take.
    pub raised: u64,
    pub map_lock: Option<usize>,
    pub pmap_lock: Option<usize>,
    pub tree_lock: Option<usize>,
    /// What both words must show, once somebody has looked.
    pub still: Option<[u8; 2]>,
}

impl Space {
    /// The real interlock after as many invalidations of the page.
    pub fn admits(&self, stamp: u64) -> bool {
        let mut interlock = Interlock::new();
        for _ in 0..self.raised {
            interlock.invalidate(&(PAGE..2 * PAGE));
        }
        interlock.admits(Stamp(stamp), PAGE)
    }
}

#[derive(Clone, Debug)]
pub struct World {
    pub frames: Vec<Frame>,
    pub spaces: [Space; 3],
    pub threads: Vec<Thread>,
    pub plant: Option<Plant>,
}

/// What tells two states of a world apart.
pub type Key = (Vec<([u8; 2], bool, String)>, [Space; 3], Vec<Thread>);

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

    pub fn key(&self) -> Key {
        let frames = self.frames.iter().map(Frame::key).collect();
        (frames, self.spaces.clone(), self.threads.clone())
    }

    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    pub fn planted(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    /// Takes a free frame with what a new page has. With none left the thread waits, which the situations avoid.
    pub fn allocate(&mut self, words: [u8; 2]) -> Option<usize> {
        let frame = self.frames.iter().position(|frame| frame.free)?;
        self.frames[frame].free = false;
        self.frames[frame].words = words;
        Some(frame)
    }

    pub fn free(&mut self, frame: usize) {
        self.frames[frame].free = true;
        self.frames[frame].words = [POISON; 2];
    }

    /// Gives an owner's part in a frame back.
    pub fn release(&mut self, frame: usize) {
        let shared = self.frames[frame].count.real.is_shared();
        self.frames[frame].count.apply(|count| {
            let _last = count.release();
        });
        if !shared {
            self.free(frame);
        }
    }

    pub fn raise(&mut self, space: usize) {
        self.spaces[space].raised += 1;
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
