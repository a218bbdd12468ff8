//! What is said about a guest that cannot go on: the reason, every field of its VMCS, and which of them our own checker blames.

use super::capability::Machine;
use crate::arch::vmx::Current;
use crate::pmap::Table;
use vmx_model::checker;
use vmx_model::exit::{ExitReason, Reason};
use vmx_model::{Field, instruction_error};

/// The entry instruction failed.
pub(super) fn entry_failed(vmcs: &Current<'_>, machine: &Machine) {
    let error = vmcs.read(Field::InstructionError) as u32;
    log::error!("a guest cannot be entered: {}", instruction_error(error));
    all(vmcs, machine);
}

/// The entry failed while guest state was loaded.
pub(super) fn entry_refused(vmcs: &Current<'_>, machine: &Machine, reason: ExitReason) {
    log::error!(
        "a guest cannot be entered: {reason}, qualification {:#x}",
        vmcs.read(Field::ExitQualification)
    );
    all(vmcs, machine);
}

/// An exit that nothing foresees.
pub(super) fn unforeseen(vmcs: &Current<'_>, machine: &Machine, reason: ExitReason, nested: &Table) {
    log::error!(
        "a guest left for {reason} at {:#x}, qualification {:#x}, guest-physical {:#x}",
        vmcs.read(Field::GuestRip),
        vmcs.read(Field::ExitQualification),
        vmcs.read(Field::GuestPhysicalAddress)
    );
    if let Some(Reason::EptMisconfiguration | Reason::EptViolation) = reason.reason() {
        nested.trace(vmcs.read(Field::GuestPhysicalAddress), |level, entry| {
            log::error!("  nested table, level {level}: {entry:#018x}");
        });
    }
    all(vmcs, machine);
}

/// Every field, those that the checker blames marked.
fn all(vmcs: &Current<'_>, machine: &Machine) {
    let read = |field| vmcs.try_read(field).unwrap_or(0);
    let complaints = checker::check(&read, machine.capabilities);
    for complaint in complaints.iter() {
        log::error!("  {complaint}");
    }
    for &field in Field::ALL {
        if let Some(value) = vmcs.try_read(field) {
            let mark = if complaints.blame(field) { "  <--" } else { "" };
            log::error!("  {:28} {value:#018x}{mark}", field.name());
        }
    }
}
