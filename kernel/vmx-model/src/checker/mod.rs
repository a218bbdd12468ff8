//! The rules for VM entries (SDM 3C chapter 27), applied to the contents of a VMCS: which field is wrong, and by which rule.
//!
//! The CPU says only that an entry failed: error 7 (control fields), error 8 (host state) or exit 33 (guest state). [`check`] names the
//! field. It knows the rules for a guest in IA-32e mode on a host in IA-32e mode. Left out is what this kernel never has: guests in other
//! modes (27.3.1.6 and the rules for virtual-8086 mode), unrestricted guests, posted interrupts, SMM monitors, tracing.

mod complaint;
mod control_fields;
mod event_injection;
mod guest_registers;
mod guest_segments;
mod guest_state;
mod host_state;

pub use complaint::{Complaint, Complaints, Failure};

use crate::capability::{Cpu, FixedBits};
use crate::controls::{
    ControlSet, EntryControls, ExitControls, Group, PinControls, PrimaryControls, SecondaryControls,
};
use crate::{Capabilities, Field, Vmcs};

/// Everything that the CPU would object to if it were told to enter `vmcs` now, in the order in which it checks: controls, host state,
/// guest state.
#[must_use]
pub fn check(vmcs: &(impl Vmcs + ?Sized), capabilities: &Capabilities) -> Complaints {
    let read = |field: Field| vmcs.read(field);
    let mut check = Check {
        read: &read,
        capabilities,
        controls: ControlSet::from_groups(|group| vmcs.read(group.field()) as u32),
        complaints: Complaints::new(),
    };
    if !check
        .controls
        .primary
        .contains(PrimaryControls::SECONDARY_CONTROLS)
    {
        // The field may not exist, and counts as 0 (27.2.1.1).
        check.controls.secondary = SecondaryControls::empty();
    }
    check.control_fields();
    check.event_injection();
    check.host_state();
    check.guest_registers();
    check.guest_segments();
    check.guest_state();
    check.complaints
}

/// A check under way.
struct Check<'a> {
    read: &'a dyn Fn(Field) -> u64,
    capabilities: &'a Capabilities,
    controls: ControlSet,
    complaints: Complaints,
}

/// A rule: the section that states it, and what is wrong if it is broken.
#[derive(Clone, Copy)]
struct Rule {
    section: &'static str,
    text: &'static str,
}

const fn rule(section: &'static str, text: &'static str) -> Rule {
    Rule { section, text }
}

impl Check<'_> {
    fn get(&self, field: Field) -> u64 {
        (self.read)(field) & field.width().mask()
    }

    fn cpu(&self) -> &Cpu {
        self.capabilities.cpu()
    }

    fn pin(&self, control: PinControls) -> bool {
        self.controls.pin.contains(control)
    }

    fn primary(&self, control: PrimaryControls) -> bool {
        self.controls.primary.contains(control)
    }

    fn secondary(&self, control: SecondaryControls) -> bool {
        self.controls.secondary.contains(control)
    }

    fn exit(&self, control: ExitControls) -> bool {
        self.controls.exit.contains(control)
    }

    fn entry(&self, control: EntryControls) -> bool {
        self.controls.entry.contains(control)
    }

    /// Complains about `field` unless `holds`.
    fn demand(&mut self, holds: bool, field: Field, rule: Rule) {
        if !holds {
            self.complaints.push(Complaint {
                field,
                value: self.get(field),
                section: rule.section,
                text: rule.text,
            });
        }
    }

    fn demand_canonical(&mut self, field: Field, section: &'static str) {
        let canonical = self.cpu().is_canonical(self.get(field));
        self.demand(canonical, field, rule(section, "the address is not canonical"));
    }

    /// The address of a page.
    fn demand_page(&mut self, field: Field, section: &'static str) {
        self.demand_structure(field, 0xfff, section);
    }

    /// A physical address with the bits of `low` clear.
    fn demand_structure(&mut self, field: Field, low: u64, section: &'static str) {
        let address = self.get(field);
        self.demand(
            address & low == 0,
            field,
            rule(section, "the address is not aligned"),
        );
        let physical = self.cpu().is_physical(address);
        self.demand(
            physical,
            field,
            rule(section, "the address is beyond the physical-address width"),
        );
    }

    fn demand_fixed_bits(&mut self, field: Field, fixed: FixedBits, section: &'static str) {
        let value = self.get(field);
        self.demand(
            fixed.wrongly_clear(value) == 0,
            field,
            rule(section, "bits are 0 that must be 1 in VMX operation"),
        );
        self.demand(
            fixed.wrongly_set(value) == 0,
            field,
            rule(section, "bits are 1 that must be 0 in VMX operation"),
        );
    }

    /// Bits 63:52 and those beyond the physical-address width.
    fn demand_cr3(&mut self, field: Field, section: &'static str) {
        let physical = self.cpu().is_physical(self.get(field));
        self.demand(
            physical,
            field,
            rule(section, "bits beyond the physical-address width are set"),
        );
    }

    /// Every byte of IA32_PAT is a memory type: UC, WC, WT, WP, WB or UC-.
    fn demand_pat(&mut self, field: Field, section: &'static str) {
        let types = self.get(field).to_le_bytes();
        let valid = types.iter().all(|kind| matches!(kind, 0 | 1 | 4..=7));
        self.demand(valid, field, rule(section, "a byte is no memory type"));
    }

    fn demand_allowed(&mut self, group: Group, section: &'static str) {
        let (allowed, setting) = (self.capabilities.allowed(group), self.controls.bits(group));
        let field = group.field();
        self.demand(
            allowed.wrongly_clear(setting) == 0,
            field,
            rule(section, "controls are 0 that must be 1"),
        );
        self.demand(
            allowed.wrongly_set(setting) == 0,
            field,
            rule(section, "controls are 1 that must be 0"),
        );
    }
}
