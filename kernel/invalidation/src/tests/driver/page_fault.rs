//! `kernel/src/vm/fault.rs`: from an address and an access to a translation.

use super::Rig;
use super::cpu::Core;
use super::memory::RigRam;
use super::object::{self, Object};
use super::pmap::{Stale, Target, Which};
use super::vmspace::{Region, Vmspace, end_objects};
use crate::tests::fault::{Fault, planted};
use crate::tests::universe;
use page_table::vpagetable::{self, Refusal};
use page_table::{Interlock, PAGE_SIZE, Stamp, span};
use std::ops::Range;
use std::sync::Arc;

/// The access is not allowed.
#[derive(Debug)]
pub struct Refused;

/// Bytes in which a fault also maps neighbours.
const WINDOW: u64 = 4 * PAGE_SIZE;

/// Steps that the copy of a page takes.
const COPY_STEPS: u32 = 32;

fn end_region(core: &mut Core, region: Region) {
    if let Region::Private { object, .. } = region {
        end_objects(core, vec![object]);
    }
}

/// One attempt to resolve a fault.
struct Attempt {
    which: Which,
    page: u64,
    write: bool,
    stamp: Stamp,
}

/// Attempts that one fault makes before the last one; few, so that it is often needed.
const ATTEMPTS: u32 = 2;

/// `page` of `kernel/src/vm/large.rs`: the large page that `page` lies in, if the range has all of it.
pub(super) fn large(frame: u64, write: bool, range: &Range<u64>, page: u64) -> Option<(u64, Target)> {
    let start = page & !(span(2) - 1);
    let inside = range.start <= start && start + span(2) <= range.end;
    let frame = frame + start.checked_sub(range.start)?;
    let level = 2;
    (inside && frame.is_multiple_of(span(2))).then_some((start, Target { frame, level, write }))
}

impl Vmspace {
    /// `Vmspace::handle_fault`.
    pub fn handle_fault(&self, core: &mut Core, which: Which, page: u64, write: bool) -> Result<(), Refused> {
        for _ in 0..ATTEMPTS {
            if self.attempt(core, which, page, write)?.is_ok() {
                return Ok(());
            }
        }
        self.alone(core, which, page, write)
    }

    /// `Vmspace::resolve_alone`.
    fn alone(&self, core: &mut Core, which: Which, page: u64, write: bool) -> Result<(), Refused> {
        core.with_lock(&self.map, |core, map| {
            core.rig.hardware().count("alone");
            let entry = map.find(page).ok_or(Refused)?;
            let (region, range) = (entry.payload.clone(), entry.range());
            // Other CPUs' copies that were begun before may refuse this one; and a page may be found to have lost its other owners.
            let most = match region {
                Region::Private { .. } => core.rig.mailboxes.len() + 1,
                Region::Virtual { .. } => 1,
                // Pages change their size without this lock, which the kernel's do not.
                Region::Device { .. } => ATTEMPTS as usize,
            };
            for _ in 0..most {
                let fault = Attempt {
                    which,
                    page,
                    write,
                    stamp: self.pmap.stamp(),
                };
                core.step();
                let result = self.attempt_in(core, &fault, region.clone(), &range);
                if result?.is_ok() {
                    end_region(core, region);
                    return Ok(());
                }
            }
            if !matches!(region, Region::Device { .. }) {
                core.rig
                    .hardware()
                    .violation("a fault that keeps others from changing the map was refused");
            }
            Ok(())
        })
    }

    /// `Vmspace::attempt`.
    fn attempt(
        &self,
        core: &mut Core,
        which: Which,
        page: u64,
        write: bool,
    ) -> Result<Result<(), Stale>, Refused> {
        let stamp = self.pmap.stamp();
        core.step();
        let (region, range) = core
            .with_lock(&self.map, |_, map| {
                let entry = map.find(page)?;
                Some((entry.payload.clone(), entry.range()))
            })
            .ok_or(Refused)?;
        let fault = Attempt {
            which,
            page,
            write,
            stamp,
        };
        self.attempt_in(core, &fault, region, &range)
    }

    /// `Vmspace::attempt_in`.
    fn attempt_in(
        &self,
        core: &mut Core,
        fault: &Attempt,
        region: Region,
        range: &Range<u64>,
    ) -> Result<Result<(), Stale>, Refused> {
        let Attempt {
            which,
            page,
            write,
            stamp,
        } = *fault;
        match region {
            Region::Virtual { root, index } => {
                self.attempt_virtual(core, fault, root, index + (page - range.start))
            }
            Region::Device { write: allowed, .. } if write && !allowed => Err(Refused),
            Region::Device { frame, write } => {
                let (start, target) = large(frame, write, range, page)
                    .unwrap_or((page, Target::small(frame + (page - range.start), write)));
                core.step();
                Ok(self.pmap.enter(core, which, start, target, &[], self.late(stamp)))
            }
            Region::Private {
                object,
                write: allowed,
            } => {
                let result = if write && !allowed {
                    Err(Refused)
                } else {
                    Ok(self.attempt_private(core, fault, &object, allowed, range))
                };
                end_objects(core, vec![object]);
                result
            }
        }
    }

    fn attempt_virtual(
        &self,
        core: &mut Core,
        fault: &Attempt,
        root: u64,
        index: u64,
    ) -> Result<Result<(), Stale>, Refused> {
        let Attempt {
            which,
            page,
            write,
            stamp,
        } = *fault;
        let rig = Arc::clone(&core.rig);
        let access = vpagetable::Access {
            write,
            execute: false,
        };
        let began = rig.hardware().oracle.now();
        core.step();
        let memory = RigRam {
            rig: &rig,
            pretend_dirty: planted(Fault::WritableWhileClean),
            walk: (self.id(), page, began),
        };
        let walk = |interlock: &Interlock| {
            vpagetable::walk_since(interlock, stamp, page, &memory, root, index, access)
        };
        let outcome = if planted(Fault::WalkUnlocked) {
            Some(vpagetable::walk(&memory, root, index, access))
        } else {
            self.pmap.with_interlock(core, walk)
        };
        let found = match outcome {
            Some(Ok(found)) => found,
            None | Some(Err(Refusal::Busy)) => return Ok(Err(Stale)),
            Some(Err(_)) => return Err(Refused),
        };
        rig.hardware().count("found by a walk");
        core.step();
        let stamp = self.late(stamp);
        let target = Target::small(rig.ram[found.page as usize], found.writable);
        Ok(self.pmap.enter(core, which, page, target, &[], stamp))
    }

    /// A private page: the frame as it is, or a copy if it is shared and stored to.
    fn attempt_private(
        &self,
        core: &mut Core,
        fault: &Attempt,
        object: &Object,
        allowed: bool,
        range: &Range<u64>,
    ) -> Result<(), Stale> {
        let Attempt {
            which,
            page,
            write,
            stamp,
        } = *fault;
        let rig = Arc::clone(&core.rig);
        let (frame, shared) = object.frame(&rig, page);
        core.step();
        if !write || !shared {
            let mut neighbours = Vec::new();
            if !write {
                neighbours = self.neighbours(&rig, object, allowed, page, range);
            }
            core.step();
            let stamp = self.late(stamp);
            let target = Target::small(frame, allowed && !shared);
            return self.pmap.enter(core, which, page, target, &neighbours, stamp);
        }
        let copy = rig.hardware().copy_frame(frame);
        // It takes its time.
        (0..COPY_STEPS).for_each(|_| core.step());
        let stamp = self.late(stamp);
        let insert = || object.replace(&rig, page, frame, copy);
        let result = self.pmap.commit_copy(core, which, page, copy, stamp, insert);
        // The one that is not used any more.
        object::release(&rig, if result.is_ok() { frame } else { copy });
        result
    }

    /// `neighbours` of `kernel/src/vm/around.rs`: what is there beside a page, with the rights that a load would give.
    fn neighbours(
        &self,
        rig: &Rig,
        object: &Object,
        allowed: bool,
        page: u64,
        range: &Range<u64>,
    ) -> Vec<(u64, Target)> {
        let window = page & !(WINDOW - 1)..(page & !(WINDOW - 1)) + WINDOW;
        universe::pages_in(&window)
            .filter(|other| *other != page && range.contains(other))
            .filter_map(|other| {
                let (frame, shared) = object.resident(rig, other)?;
                Some((other, Target::small(frame, allowed && !shared)))
            })
            .collect()
    }

    fn late(&self, stamp: Stamp) -> Stamp {
        if planted(Fault::StampLate) {
            self.pmap.stamp()
        } else {
            stamp
        }
    }
}
