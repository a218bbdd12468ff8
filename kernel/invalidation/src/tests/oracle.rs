//! What programs may access, worked out from the truth and not from any page table.
//!
//! Whatever decides where an access goes (map entries, frames of objects, words of virtual and guests' page tables) is kept
//! with its past: for how long it was what it was. While an operation runs that changes some of it, the old and the new are
//! both right, also mixed, since no walk is one instant. When the operation returns it *promises* that for certain pages all that
//! ended before a certain moment is over; an access that needs it is a violation from then on.

use super::universe;
use dragonet_abi::memory::Vpte;
use page_table::index;
use std::collections::BTreeMap;
use std::ops::Range;

/// A value and what it was before, with the moments at which that ended.
#[derive(Clone, Debug)]
struct Log<T> {
    now: Option<T>,
    before: Vec<(T, u64)>,
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Log {
            now: None,
            before: Vec::new(),
        }
    }
}

impl<T: Copy + PartialEq> Log<T> {
    fn turn_to(&mut self, value: Option<T>, clock: u64) {
        if self.now != value {
            self.before.extend(self.now.map(|old| (old, clock)));
            self.now = value;
        }
    }

    /// All that it was after `floor`.
    fn since(&self, floor: u64) -> impl Iterator<Item = T> {
        let before = self.before.iter().filter(move |&&(_, end)| end > floor);
        self.now.into_iter().chain(before.map(|&(value, _)| value))
    }
}

/// What a page of a space is mapped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// Private memory: the frame that its object has for the page.
    Private { object: u64, write: bool },
    /// By a virtual page table with this root entry, at this index.
    Virtual { root: u64, index: u64 },
    /// A page of a device.
    Device { frame: Frame, write: bool },
}

/// A frame, as one of its allocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub address: u64,
    pub allocation: u64,
}

/// Where an access goes.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    pub frame: Frame,
    pub write: bool,
}

#[derive(Debug, Default)]
pub struct Oracle {
    clock: u64,
    /// By space and page.
    regions: BTreeMap<(u64, u64), Log<Region>>,
    /// What ended up to here is over, by space and page.
    floors: BTreeMap<(u64, u64), u64>,
    /// By object and page.
    frames: BTreeMap<(u64, u64), Log<Frame>>,
    /// Frames, by allocation, that one address space has for itself.
    unshared: BTreeMap<u64, Log<()>>,
    /// Words of frames, by allocation and index.
    words: BTreeMap<(u64, usize), Log<u64>>,
    /// Frames of the object with the virtual page tables.
    ram: Vec<Frame>,
    /// Process of each space of a guest's linear addresses, and the root tables under which the guest may run.
    linears: BTreeMap<u64, (u64, Vec<u64>)>,
}

const NEEDED: u64 = Vpte::VALID | Vpte::USER;

impl Oracle {
    /// The present: what ends from now on ends later.
    pub fn now(&self) -> u64 {
        self.clock
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub fn set_ram(&mut self, frames: Vec<Frame>) {
        self.ram = frames;
    }

    /// What the pages of `range` are mapped to from now on.
    pub fn set_regions(&mut self, space: u64, range: &Range<u64>, regions: &[Option<Region>]) {
        let clock = self.tick();
        for (page, region) in universe::pages_in(range).zip(regions) {
            let log = self.regions.entry((space, page)).or_default();
            log.turn_to(*region, clock);
        }
    }

    pub fn set_frame(&mut self, object: u64, page: u64, frame: Option<Frame>) {
        let clock = self.tick();
        let log = self.frames.entry((object, page)).or_default();
        log.turn_to(frame, clock);
    }

    /// No CPU can use this frame for this page any more, from this moment.
    pub fn promise_frame(&mut self, object: u64, page: u64, frame: Frame) {
        if let Some(log) = self.frames.get_mut(&(object, page)) {
            log.before.retain(|&(before, _)| before != frame);
        }
    }

    pub fn set_shared(&mut self, allocation: u64, shared: bool) {
        let clock = self.tick();
        let log = self.unshared.entry(allocation).or_insert_with(|| Log {
            now: Some(()),
            before: Vec::new(),
        });
        log.turn_to((!shared).then_some(()), clock);
    }

    pub fn set_word(&mut self, allocation: u64, index: usize, word: u64) {
        let clock = self.tick();
        let log = self.words.entry((allocation, index)).or_default();
        log.turn_to(Some(word), clock);
    }

    pub fn add_linear(&mut self, linear: u64, process: u64, roots: Vec<u64>) {
        self.linears.insert(linear, (process, roots));
    }

    /// For these pages all that ended up to the moment `since` is over.
    pub fn promise(&mut self, space: u64, range: &Range<u64>, since: u64) {
        for page in universe::pages_in(range) {
            let floor = self.floors.entry((space, page)).or_default();
            *floor = since.max(*floor);
        }
    }

    /// The moment up to which all is over for a page.
    pub fn floor(&self, space: u64, page: u64) -> u64 {
        self.floors.get(&(space, page)).copied().unwrap_or(0)
    }

    /// True if the access to `page` of a space is right, or was not yet said to be over.
    pub fn allows(&self, space: u64, page: u64, access: Access) -> bool {
        let floor = self.floor(space, page);
        self.regions.get(&(space, page)).is_some_and(|log| {
            log.since(floor)
                .any(|region| self.leads(region, page, access, floor))
        })
    }

    fn leads(&self, region: Region, page: u64, access: Access, floor: u64) -> bool {
        match region {
            Region::Private { object, write } => {
                let allocation = access.frame.allocation;
                self.frames
                    .get(&(object, page))
                    .is_some_and(|log| log.since(floor).any(|frame| frame == access.frame))
                    && (!access.write || write && self.was_unshared(allocation, floor))
            }
            Region::Device { frame, write } => access.frame == frame && (!access.write || write),
            Region::Virtual { root, index } => {
                let write = root & Vpte::WRITE != 0;
                if Vpte(root).has(Vpte::VALID | Vpte::USER | Vpte::LARGE) {
                    return self.is_ram((Vpte(root).offset() + index) >> 12, access)
                        && (!access.write || write);
                }
                Vpte(root).has(NEEDED)
                    && self.virtual_leads(Vpte(root).offset() >> 12, 4, write, index, access, floor)
            }
        }
    }

    fn was_unshared(&self, allocation: u64, floor: u64) -> bool {
        self.unshared
            .get(&allocation)
            .is_none_or(|log| log.since(floor).next().is_some())
    }

    fn is_ram(&self, page: u64, access: Access) -> bool {
        self.ram.get(page as usize) == Some(&access.frame)
    }

    fn words_since(&self, allocation: u64, index: usize, floor: u64) -> impl Iterator<Item = Vpte> {
        let log = self.words.get(&(allocation, index));
        log.into_iter()
            .flat_map(move |log| log.since(floor))
            .map(Vpte)
            .filter(|entry| entry.has(NEEDED))
    }

    /// The MMU's reading of a virtual page table, and stores only where the dirty flag is set already.
    fn virtual_leads(
        &self,
        table: u64,
        level: u8,
        write: bool,
        address: u64,
        access: Access,
        floor: u64,
    ) -> bool {
        let Some(table) = self.ram.get(table as usize) else {
            return false;
        };
        let within = page_table::span(level) - 1;
        self.words_since(table.allocation, index(address, level), floor)
            .any(|entry| {
                let write = write && entry.has(Vpte::WRITE);
                if level > 1 && !entry.has(Vpte::LARGE) {
                    return self.virtual_leads(
                        entry.offset() >> 12,
                        level - 1,
                        write,
                        address,
                        access,
                        floor,
                    );
                }
                let reserved = level == 4 || entry.offset() & within != 0;
                !reserved
                    && self.is_ram((entry.offset() | address & within) >> 12, access)
                    && (!access.write || write && entry.has(Vpte::DIRTY))
            })
    }

    /// True if the guest's own table at `root` may lead from `page` to the guest-physical page `target`. Without a root any of the
    /// guest's tables will do: a global translation serves under all, and that they agree is the guest's affair.
    pub fn guest_allows(&self, linear: u64, root: Option<u64>, page: u64, target: u64, write: bool) -> bool {
        let Some((process, roots)) = self.linears.get(&linear) else {
            return false;
        };
        let floor = self.floor(linear, page);
        roots
            .iter()
            .filter(|&&known| root.is_none_or(|root| root == known))
            .any(|&root| self.guest_leads(*process, root, 4, page, target, write, floor))
    }

    #[allow(clippy::too_many_arguments)]
    fn guest_leads(
        &self,
        process: u64,
        table: u64,
        level: u8,
        page: u64,
        target: u64,
        write: bool,
        floor: u64,
    ) -> bool {
        self.frames_of(process, table).any(|frame| {
            self.words_since(frame.allocation, index(page, level), floor)
                .filter(|entry| !write || entry.has(Vpte::WRITE))
                .any(|entry| match level {
                    1 => entry.offset() == target,
                    _ => self.guest_leads(process, entry.offset(), level - 1, page, target, write, floor),
                })
        })
    }

    /// Frames that a private page of a process may be.
    fn frames_of(&self, space: u64, page: u64) -> impl Iterator<Item = Frame> {
        let floor = self.floor(space, page);
        self.regions
            .get(&(space, page))
            .into_iter()
            .flat_map(move |log| log.since(floor))
            .filter_map(move |region| match region {
                Region::Private { object, .. } => self.frames.get(&(object, page)),
                Region::Virtual { .. } | Region::Device { .. } => None,
            })
            .flat_map(move |log| log.since(floor))
    }

    /// The frame that a private page is now, if stores are allowed.
    pub fn writable_frame(&self, space: u64, page: u64) -> Option<Frame> {
        let Region::Private { object, write: true } = self.regions.get(&(space, page))?.now? else {
            return None;
        };
        let frame = self.frames.get(&(object, page))?.now?;
        let shared = self
            .unshared
            .get(&frame.allocation)
            .is_some_and(|log| log.now.is_none());
        (!shared).then_some(frame)
    }

    /// For messages.
    pub fn describe(&self, space: u64, page: u64) -> String {
        let floor = self.floor(space, page);
        let regions = self.regions.get(&(space, page));
        let frames: Vec<_> = regions
            .into_iter()
            .flat_map(|log| log.since(0))
            .filter_map(|region| match region {
                Region::Private { object, .. } => self.frames.get(&(object, page)),
                Region::Virtual { .. } | Region::Device { .. } => None,
            })
            .collect();
        format!("after {floor}: {regions:x?} {frames:x?}")
    }
}
