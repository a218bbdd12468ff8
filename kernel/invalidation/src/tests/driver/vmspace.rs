//! `kernel/src/vm/vmspace.rs` and `advice.rs`: the map of an address space and the operations on ranges of it.
//!
//! Each operation tells the oracle what becomes true, at the moment at which it does, and at its end promises that what
//! was true before is over.

use super::Rig;
use super::cpu::Core;
use super::guest::GuestAddresses;
use super::object::{self, Object};
use super::page_fault::large;
use super::pmap::Pmap;
use crate::tests::fault::{Fault, planted};
use crate::tests::model::Hardware;
use crate::tests::oracle;
use crate::tests::universe::{self, DEVICE_RANGE, LIMITS};
use shuttle::sync::Mutex;
use std::ops::Range;
use std::sync::Arc;
use vm_map::{Entry, Map, Payload};

/// What a range is mapped to.
#[derive(Clone, Debug)]
pub enum Region {
    /// Private memory.
    Private { object: Arc<Object>, write: bool },
    /// Translated by a virtual page table with this root entry; the index at which the range begins.
    Virtual { root: u64, index: u64 },
    /// A device, from this page on.
    Device { frame: u64, write: bool },
}

impl Payload for Region {
    fn advance(&mut self, bytes: u64) {
        match self {
            Region::Private { .. } => {}
            Region::Virtual { index, .. } => *index += bytes,
            Region::Device { frame, .. } => *frame += bytes,
        }
    }

    fn retreat(&mut self, _bytes: u64) -> bool {
        // Nothing grows downwards here.
        false
    }
}

impl Region {
    fn for_oracle(&self, hardware: &Hardware, distance: u64) -> oracle::Region {
        match self {
            Region::Device { frame, write } => oracle::Region::Device {
                frame: hardware.frame(frame + distance),
                write: *write,
            },
            Region::Private { object, write } => oracle::Region::Private {
                object: object.id,
                write: *write,
            },
            Region::Virtual { root, index } => oracle::Region::Virtual {
                root: *root,
                index: index + distance,
            },
        }
    }
}

pub struct Vmspace {
    pub map: Mutex<Map<Region>>,
    pub pmap: Pmap,
    pub guests: GuestAddresses,
}

/// Tells the oracle what `range` is mapped to from now on, and returns the moment.
fn tell(rig: &Rig, space: u64, map: &Map<Region>, range: &Range<u64>) -> u64 {
    let mut hardware = rig.hardware();
    let regions: Vec<_> = universe::pages_in(range)
        .map(|page| {
            let entry = map.find(page)?;
            Some(entry.payload.for_oracle(&hardware, page - entry.start))
        })
        .collect();
    hardware.oracle.set_regions(space, range, &regions);
    hardware.oracle.now()
}

impl Vmspace {
    /// An address space with private memory and a virtual page table, `root`.
    pub fn new(rig: &Rig, root: u64) -> Arc<Self> {
        let pmap = Pmap::new(rig);
        let mut map = Map::new(LIMITS, 64);
        let private = universe::range(universe::PRIVATE.start, universe::PRIVATE.len());
        let object = Object::new(rig);
        let write = true;
        map.insert(private, Region::Private { object, write })
            .expect("the map is empty");
        let table = universe::range(universe::VIRTUAL.start, universe::VIRTUAL.len());
        map.insert(table, Region::Virtual { root, index: 0 })
            .expect("the map is empty there");
        let (frame, write) = (rig.device, true);
        map.insert(DEVICE_RANGE, Region::Device { frame, write })
            .expect("the map is empty there too");
        tell(rig, pmap.space.id(), &map, &LIMITS);
        let guests = GuestAddresses::new(rig, pmap.space.id());
        Arc::new(Vmspace {
            map: Mutex::new(map),
            pmap,
            guests,
        })
    }

    pub fn id(&self) -> u64 {
        self.pmap.space.id()
    }

    fn promise(&self, core: &Core, range: &Range<u64>, since: u64) {
        core.rig.hardware().promise(self.id(), range, since);
    }

    /// `Vmspace::forget`.
    fn forget(&self, core: &mut Core, map: &Map<Region>, range: &Range<u64>) {
        let gap = map.gap_around(range.clone());
        self.pmap.remove(core, range, &gap);
    }

    /// New private memory takes the place of what is there.
    pub fn map(&self, core: &mut Core, range: &Range<u64>) {
        let object = Object::new(&core.rig);
        self.replace(core, range, Some(Region::Private { object, write: true }));
    }

    /// The device is mapped again.
    pub fn map_device(&self, core: &mut Core, write: bool) {
        let frame = core.rig.device;
        self.replace(core, &DEVICE_RANGE, Some(Region::Device { frame, write }));
    }

    /// `Vmspace::unmap`.
    pub fn unmap(&self, core: &mut Core, range: &Range<u64>) {
        self.replace(core, range, None);
    }

    /// `Vmspace::unmap_range`, and with `instead` `Vmspace::place`.
    fn replace(&self, core: &mut Core, range: &Range<u64>, instead: Option<Region>) {
        if planted(Fault::ChangeTruthLate) {
            self.pmap.remove(core, range, range);
        }
        let (since, objects) = core.with_lock(&self.map, |core, map| {
            let rig = Arc::clone(&core.rig);
            let removed = map.remove(range.clone()).expect("few entries");
            let since = tell(&rig, self.id(), map, range);
            let objects: Vec<Arc<Object>> = removed
                .iter()
                .filter_map(|entry| match entry.payload {
                    Region::Private { object, .. } => Some(Arc::clone(object)),
                    Region::Virtual { .. } | Region::Device { .. } => None,
                })
                .collect();
            if planted(Fault::FreePagesEarly) {
                let mut frames = objects
                    .iter()
                    .flat_map(|object| object.take(&rig, range))
                    .collect();
                free(&rig, &mut frames);
            }
            let any = !removed.is_empty();
            drop(removed);
            if any && !planted(Fault::ChangeTruthLate) {
                self.forget(core, map, range);
            }
            if let Some(region) = instead {
                map.insert(range.clone(), region).expect("the range is free");
                tell(&rig, self.id(), map, range);
            }
            (since, objects)
        });
        end_objects(core, objects);
        self.promise(core, range, since);
    }

    /// `Vmspace::protect`.
    pub fn protect(&self, core: &mut Core, range: &Range<u64>, allow: bool) {
        let since = core.with_lock(&self.map, |core, map| {
            let mut lost = false;
            map.update(range.clone(), |region| {
                if let Region::Private { write, .. } | Region::Device { write, .. } = region {
                    lost |= *write && !allow;
                    *write = allow;
                }
            })
            .expect("few entries");
            let since = tell(&core.rig, self.id(), map, range);
            if lost {
                self.pmap.narrow_after(core, range, || ());
            }
            since
        });
        self.promise(core, range, since);
    }

    /// `Vmspace::advise(DontNeed)`.
    pub fn discard(&self, core: &mut Core, range: &Range<u64>) {
        let (since, mut frames) = core.with_lock(&self.map, |core, map| {
            let rig = Arc::clone(&core.rig);
            let mut frames = Vec::new();
            for entry in map.overlapping(range.clone()) {
                if let Region::Private { object, .. } = entry.payload {
                    let part = range.start.max(entry.start)..range.end.min(entry.end);
                    frames.extend(object.take(&rig, &part));
                }
            }
            let since = rig.hardware().oracle.now();
            if planted(Fault::FreePagesEarly) {
                free(&rig, &mut frames);
            }
            self.pmap.remove(core, range, range);
            (since, frames)
        });
        free(&core.rig, &mut frames);
        self.promise(core, range, since);
    }

    /// `Vmspace::advise(Invalidate)`: what the virtual page table said before this call is over at its end.
    pub fn invalidate(&self, core: &mut Core, range: &Range<u64>) {
        let since = core.rig.hardware().oracle.now();
        if planted(Fault::InvalidateBesideFaults) {
            self.pmap.remove(core, range, range);
        } else {
            core.with_lock(&self.map, |core, _| self.pmap.remove(core, range, range));
        }
        self.promise(core, range, since);
    }

    /// `Vmspace::control(SetMap)`.
    pub fn set_root(&self, core: &mut Core, root: u64) {
        let range = universe::range(universe::VIRTUAL.start, universe::VIRTUAL.len());
        let since = core.with_lock(&self.map, |core, map| {
            map.update(range.clone(), |region| {
                if let Region::Virtual { root: old, .. } = region {
                    *old = root;
                }
            })
            .expect("few entries");
            let since = tell(&core.rig, self.id(), map, &range);
            if !planted(Fault::SetRootWithoutFlush) {
                self.pmap.remove(core, &range, &range);
            }
            since
        });
        self.promise(core, &range, since);
    }

    /// `Fork`, in one step: a copy that shares all private pages until one side stores.
    pub fn fork(&self, core: &mut Core) -> Arc<Vmspace> {
        let rig = Arc::clone(&core.rig);
        let child = Vmspace::new(&rig, 0);
        let since = core.with_lock(&self.map, |core, map| {
            let share = || {
                let share_one = |entry: Entry<&Region>| match entry.payload {
                    Region::Private { object, write } => Region::Private {
                        object: object.share(&rig, &entry.range()),
                        write: *write,
                    },
                    region => region.clone(),
                };
                let copies = map
                    .overlapping(LIMITS)
                    .map(|entry| (entry.range(), share_one(entry)));
                (copies.collect(), rig.hardware().oracle.now())
            };
            let (copies, since): (Vec<_>, u64) = if planted(Fault::ForkWithoutNarrow) {
                share()
            } else {
                self.pmap.narrow_after(core, &LIMITS, share)
            };
            core.with_lock(&child.map, |_, map| {
                drop(map.remove(LIMITS));
                for (range, region) in copies {
                    map.insert(range, region).expect("the map is empty");
                }
                tell(&rig, child.id(), map, &LIMITS);
            });
            since
        });
        // What the virtual page table says is nobody's business here.
        let private = universe::range(universe::PRIVATE.start, universe::PRIVATE.len());
        self.promise(core, &private, since);
        child
    }

    /// Splits, or puts together, one of the device's large pages.
    pub fn resize(&self, core: &mut Core, which: u64, larger: bool) {
        let address = DEVICE_RANGE.start + which * page_table::span(2);
        if !larger {
            return self.pmap.split(core, address);
        }
        let stamp = self.pmap.stamp();
        let found = core.with_lock(&self.map, |_, map| {
            let entry = map.find(address)?;
            match entry.payload {
                Region::Device { frame, write } => large(*frame, *write, &entry.range(), address),
                _ => None,
            }
        });
        if let Some((start, target)) = found {
            self.pmap.promote(core, start, target, stamp);
        }
    }

    /// The end of a space that nobody runs: `Drop for Vmspace` and `Drop for Pmap`.
    pub fn end(self, core: &mut Core) {
        self.unmap(core, &LIMITS);
        let rig = Arc::clone(&core.rig);
        self.guests.end(&rig);
        self.pmap.end(&rig);
    }
}

fn free(rig: &Rig, frames: &mut Vec<u64>) {
    for frame in frames.drain(..) {
        object::release(rig, frame);
    }
}

/// Gives back objects that may have no owner left. What a fault that comes late put into them goes now.
pub fn end_objects(core: &Core, objects: Vec<Arc<Object>>) {
    for object in objects {
        if let Some(object) = Arc::into_inner(object) {
            object.end(&core.rig);
        }
    }
}
