//! Private memory: frames by page, each perhaps shared with other address spaces until one of them stores.

use super::Rig;
use crate::tests::fault::{Fault, planted};
use crate::tests::model::memory::Use;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A memory object of one address space, by the addresses of its pages there.
#[derive(Debug)]
pub struct Object {
    pub id: u64,
    frames: Mutex<BTreeMap<u64, u64>>,
}

impl Object {
    pub fn new(rig: &Rig) -> Arc<Self> {
        Arc::new(Object {
            id: rig.object_id(),
            frames: Mutex::default(),
        })
    }

    fn frames(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The frame of `page`, and whether others share it; made now if there is none.
    pub fn frame(&self, rig: &Rig, page: u64) -> (u64, bool) {
        rig.step();
        let mut hardware = rig.hardware();
        let frame = *self.frames().entry(page).or_insert_with(|| {
            let frame = hardware.memory.allocate(Use::Frame(1));
            hardware.set_frame(self.id, page, Some(frame));
            frame
        });
        (frame, hardware.memory.shares(frame) > 1)
    }

    /// The frame of `page` if there is one, and whether others share it.
    pub fn resident(&self, rig: &Rig, page: u64) -> Option<(u64, bool)> {
        rig.step();
        let frame = *self.frames().get(&page)?;
        let shared = rig.hardware().memory.shares(frame) > 1;
        Some((frame, shared))
    }

    /// Puts `copy` in the place of `original`; false if that is not what is there, or not shared any more.
    pub fn replace(&self, rig: &Rig, page: u64, original: u64, copy: u64) -> bool {
        rig.step();
        let mut frames = self.frames();
        let alone = || rig.hardware().memory.shares(original) == 1 && !planted(Fault::SkipSecondLook);
        if frames.get(&page) != Some(&original) || alone() {
            return false;
        }
        frames.insert(page, copy);
        let mut hardware = rig.hardware();
        hardware.check_copy(original, copy);
        hardware.set_frame(self.id, page, Some(copy));
        hardware.promise_frame(self.id, page, original);
        true
    }

    /// Takes the frames of a range out.
    pub fn take(&self, rig: &Rig, range: &Range<u64>) -> Vec<u64> {
        rig.step();
        let mut frames = self.frames();
        let pages: Vec<u64> = frames.range(range.clone()).map(|(&page, _)| page).collect();
        let taken = pages.iter().filter_map(|page| frames.remove(page)).collect();
        for page in pages {
            rig.hardware().set_frame(self.id, page, None);
        }
        taken
    }

    /// An object with the same frames, which are shared from now on.
    pub fn share(&self, rig: &Rig, range: &Range<u64>) -> Arc<Object> {
        rig.step();
        let twin = Object::new(rig);
        for (&page, &frame) in self.frames().range(range.clone()) {
            rig.hardware().change_shares(frame, 1);
            twin.frames().insert(page, frame);
            rig.hardware().set_frame(twin.id, page, Some(frame));
        }
        twin
    }

    /// Gives all frames back: nobody can reach them any more.
    pub fn end(self, rig: &Rig) {
        for frame in self.take(rig, &(0..u64::MAX)) {
            release(rig, frame);
        }
    }
}

/// One owner less; the last one frees the frame.
pub fn release(rig: &Rig, frame: u64) {
    rig.step();
    let mut hardware = rig.hardware();
    if hardware.memory.shares(frame) == 1 {
        hardware.free(frame);
    } else {
        hardware.change_shares(frame, -1);
    }
}
