//! Ways to break a VMCS: for each, the field to change, the value, the field that the checker must blame, and how the entry fails.
//!
//! The host's tests apply the table to [`reference_image`]; tests inside the kernel apply it to a VMCS of its own and to the CPU, to see
//! that checker and CPU agree. It is written for a VMCS of a guest thread: 64-bit, CPL 3, under [`crate::controls::guest`]'s controls.

mod control;
mod guest;
mod guest_segment;
mod host;
mod injection;
mod list;
mod reference;

pub use reference::reference_image;

use crate::checker::Failure;
use crate::controls::{ControlSet, Group};
use crate::{Capabilities, Field, VmcsImage};

/// A value made of the old one.
pub type Change = fn(u64, &Capabilities) -> u64;

/// One way to break a VMCS.
#[derive(Clone, Copy, Debug)]
pub struct Mutation {
    /// What is done.
    pub name: &'static str,
    /// Changes that leave the VMCS valid and make the break possible.
    pub preparation: &'static [(Field, Change)],
    /// The field that is broken.
    pub field: Field,
    /// Its new value.
    pub change: Change,
    /// The field to blame, mostly the same.
    pub blame: Field,
    /// How the entry fails.
    pub failure: Failure,
    /// Whether it can be done on this CPU with these controls.
    pub applies: fn(&Capabilities, &ControlSet) -> bool,
    /// Whether Bochs 2.7 checks the rule. Where it does not, the entry succeeds there, so a test that enters must leave it out.
    pub bochs_checks: bool,
}

impl Mutation {
    const fn new(failure: Failure, name: &'static str, field: Field, change: Change) -> Mutation {
        Mutation {
            name,
            preparation: &[],
            field,
            change,
            blame: field,
            failure,
            applies: |_, _| true,
            bochs_checks: true,
        }
    }

    const fn after(mut self, preparation: &'static [(Field, Change)]) -> Mutation {
        self.preparation = preparation;
        self
    }

    const fn blames(mut self, field: Field) -> Mutation {
        self.blame = field;
        self
    }

    const fn when(mut self, applies: fn(&Capabilities, &ControlSet) -> bool) -> Mutation {
        self.applies = applies;
        self
    }

    const fn unchecked_by_bochs(mut self) -> Mutation {
        self.bochs_checks = false;
        self
    }

    /// Makes the preparation's changes.
    pub fn prepare(&self, image: &mut VmcsImage, capabilities: &Capabilities) {
        for &(field, change) in self.preparation {
            image.set(field, change(image.get(field), capabilities));
        }
    }

    /// Breaks a prepared image.
    pub fn apply(&self, image: &mut VmcsImage, capabilities: &Capabilities) {
        let value = (self.change)(image.get(self.field), capabilities);
        image.set(self.field, value);
    }
}

/// Every mutation: controls, host state, guest state.
pub fn all() -> impl Iterator<Item = &'static Mutation> {
    [
        control::MUTATIONS,
        list::MUTATIONS,
        injection::MUTATIONS,
        host::MUTATIONS,
        guest::REGISTERS,
        guest::STATE,
        guest_segment::MUTATIONS,
    ]
    .into_iter()
    .flatten()
}

/// An address that is canonical on no CPU.
const NOT_CANONICAL: u64 = 1 << 62;

/// The lowest bit beyond the physical-address width. 0 if there is none.
fn beyond_physical(capabilities: &Capabilities) -> u64 {
    1u64.checked_shl(u32::from(capabilities.cpu().physical_bits))
        .unwrap_or(0)
}

/// The highest control that must be 0.
fn forbidden(capabilities: &Capabilities, group: Group) -> u64 {
    let bits = !capabilities.allowed(group).may;
    u64::from(bits.checked_ilog2().map_or(0, |bit| 1u32 << bit))
}

/// The highest control that must be 1.
fn demanded(capabilities: &Capabilities, group: Group) -> u64 {
    let bits = capabilities.allowed(group).must;
    u64::from(bits.checked_ilog2().map_or(0, |bit| 1u32 << bit))
}

/// Whether controls can be 1.
fn can(capabilities: &Capabilities, group: Group, controls: u32) -> bool {
    capabilities.allowed(group).may & controls == controls
}
