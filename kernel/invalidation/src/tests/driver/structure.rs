//! Control structures that move between CPUs, as `kernel/guest-mode/src/place.rs` moves them. Where one is, only its owner knows: here who
//! has its lock.

use super::cpu::Core;
use crate::tests::fault::Phase;
use std::sync::Arc;

/// Control structures that there are.
pub const STRUCTURES: usize = 2;

/// Address of a structure: no other object nor the id of any space is like it.
fn address(which: usize) -> u64 {
    (STRUCTURES + which) as u64 * 0x0100_0000_0000
}

impl Core {
    /// `Place::load`, on a CPU that stays in the kernel.
    pub fn load_structure(&mut self, which: usize) {
        let rig = Arc::clone(&self.rig);
        self.with_lock(&rig.structures[which], |core, place| {
            let structure = address(which);
            if *place != Some(core.index) {
                let holder = place.unwrap_or(core.index);
                if place.is_some() {
                    core.rig.hardware().count("structure moved");
                }
                core.rig.hardware().note_invalidation(core.index, structure);
                core.protocol(Phase::Invalidate, |cpu| cpu.ask_to_release(holder, structure));
            }
            core.rig.step();
            core.rig.hardware().load_structure(core.index, structure);
            *place = Some(core.index);
        });
    }
}
