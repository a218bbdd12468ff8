//! `kernel/src/vm/fault.rs`: from an address and an access to a translation.

use super::cpu::Core;
use super::memory::RigRam;
use super::object::{self, Object};
use super::pmap::{Stale, Which};
use super::vmspace::{Region, Vmspace, end_objects};
use crate::tests::fault::{Fault, planted};
use page_table::Stamp;
use page_table::vpagetable::{self, Refusal};
use std::sync::Arc;

/// The access is not allowed.
#[derive(Debug)]
pub struct Refused;

/// Attempts that one fault makes.
const ATTEMPTS: u32 = 64;

impl Vmspace {
    /// `Vmspace::handle_fault`.
    pub fn handle_fault(&self, core: &mut Core, which: Which, page: u64, write: bool) -> Result<(), Refused> {
        for _ in 0..ATTEMPTS {
            if self.attempt(core, which, page, write)?.is_ok() {
                break;
            }
        }
        Ok(())
    }

    /// `Vmspace::attempt`.
    fn attempt(&self, core: &mut Core, which: Which, page: u64, write: bool) -> Result<Result<(), Stale>, Refused> {
        let stamp = self.pmap.stamp();
        core.step();
        let (region, distance) = core
            .with_lock(&self.map, |_, map| {
                let entry = map.find(page)?;
                Some((entry.payload.clone(), page - entry.start))
            })
            .ok_or(Refused)?;
        match region {
            Region::Virtual { root, index } => {
                self.attempt_virtual(core, which, page, write, root, index + distance, stamp)
            }
            Region::Private {
                object,
                write: allowed,
            } => {
                let result = if write && !allowed {
                    Err(Refused)
                } else {
                    Ok(self.attempt_private(core, which, page, write, &object, allowed, stamp))
                };
                end_objects(core, vec![object]);
                result
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn attempt_virtual(
        &self,
        core: &mut Core,
        which: Which,
        page: u64,
        write: bool,
        root: u64,
        index: u64,
        stamp: Stamp,
    ) -> Result<Result<(), Stale>, Refused> {
        let rig = Arc::clone(&core.rig);
        let memory = RigRam {
            rig: &rig,
            pretend_dirty: planted(Fault::WritableWhileClean),
        };
        let access = vpagetable::Access {
            write,
            execute: false,
        };
        let found = match vpagetable::walk(&memory, root, index, access) {
            Ok(found) => found,
            Err(Refusal::Busy) => return Ok(Err(Stale)),
            Err(_) => return Err(Refused),
        };
        core.deliver();
        let stamp = self.late(stamp);
        Ok(self
            .pmap
            .enter(core, which, page, rig.ram[found.page as usize], found.writable, stamp))
    }

    /// A private page: the frame as it is, or a copy if it is shared and stored to.
    #[allow(clippy::too_many_arguments)]
    fn attempt_private(
        &self,
        core: &mut Core,
        which: Which,
        page: u64,
        write: bool,
        object: &Object,
        allowed: bool,
        stamp: Stamp,
    ) -> Result<(), Stale> {
        let rig = Arc::clone(&core.rig);
        let (frame, shared) = object.frame(&rig, page);
        core.step();
        if !write || !shared {
            let stamp = self.late(stamp);
            return self
                .pmap
                .enter(core, which, page, frame, allowed && !shared, stamp);
        }
        let copy = rig.hardware().copy_frame(frame);
        let stamp = self.late(stamp);
        let insert = || object.replace(&rig, page, frame, copy);
        let result = self.pmap.commit_copy(core, which, page, copy, stamp, insert);
        // The one that is not used any more.
        object::release(&rig, if result.is_ok() { frame } else { copy });
        result
    }

    fn late(&self, stamp: Stamp) -> Stamp {
        if planted(Fault::StampLate) { self.pmap.stamp() } else { stamp }
    }
}
