//! For a test: a VMCS with one broken field at a time is entered, and must fail as our checker says.

use super::capability::Machine;
use super::vcpu::Vcpu;
use crate::arch::irq::{IrqGuard, IrqsOff};
use crate::arch::trap::TrapFrame;
use crate::arch::vmx::{self, Current, GuestRegisters, host};
use vmx_model::checker::{Failure, check};
use vmx_model::controls::ControlSet;
use vmx_model::exit::{ExitReason, Reason};
use vmx_model::mutation::{self, Mutation};
use vmx_model::{Field, VmcsImage};

/// What came of all attempts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Failed as the checker says.
    pub agreed: u32,
    /// Failed otherwise, or did not fail, or the checker blames another field.
    pub disagreed: u32,
    /// Cannot be tried on this CPU, or Bochs does not check it.
    pub left_out: u32,
}

/// VM-instruction errors (SDM 3C 31.4).
const INVALID_CONTROL_FIELDS: u64 = 7;
const INVALID_HOST_STATE: u64 = 8;

/// Tries all mutations on a virtual CPU that has been entered before and will be entered again.
pub(super) fn try_all(vcpu: &mut Vcpu, frame: &TrapFrame) -> Option<Tally> {
    let mut tally = Tally::default();
    for mutation in mutation::all() {
        let interrupts = IrqGuard::new();
        let irqs = interrupts.witness();
        let result = vcpu.with_vmcs(irqs, |vmcs, host_stack, machine| {
            attempt(irqs, vmcs, machine, mutation, *frame, host_stack)
        })?;
        match result {
            None => tally.left_out += 1,
            Some(true) => tally.agreed += 1,
            Some(false) => tally.disagreed += 1,
        }
    }
    Some(tally)
}

fn attempt(
    irqs: &IrqsOff,
    vmcs: &Current<'_>,
    machine: &Machine,
    mutation: &Mutation,
    mut frame: TrapFrame,
    host_stack: &mut u64,
) -> Option<bool> {
    let capabilities = machine.capabilities;
    let sound = VmcsImage::of(&|field| vmcs.try_read(field).unwrap_or(0));
    let setting = ControlSet::from_groups(|group| sound.get(group.field()) as u32);
    if !mutation.bochs_checks || !(mutation.applies)(capabilities, &setting) {
        return None;
    }
    let mut broken = sound.clone();
    mutation.prepare(&mut broken, capabilities);
    mutation.apply(&mut broken, capabilities);
    let complaints = check(&broken, capabilities);
    let blamed = complaints.blame(mutation.blame) && complaints.failure() == Some(mutation.failure);

    let stack = *host_stack;
    write_differences(vmcs, &sound, &broken);
    let registers = GuestRegisters {
        frame: &mut frame,
        host_stack,
        launched: true,
    };
    // SAFETY: the host's state is this CPU's, or wrong in a field that the CPU checks before it enters. If the CPU enters after
    // all, the guest is the test's, which calls the host, under its nested table.
    let entered = unsafe { vmx::enter(vmcs, registers) };
    host::restore_descriptor_table(irqs);
    let reason = ExitReason(vmcs.read(Field::ExitReason) as u32);
    let failure = match (entered.is_ok(), reason.reason()) {
        (true, Some(Reason::InvalidGuestState)) if reason.is_entry_failure() => Some(Failure::GuestState),
        (true, _) => None,
        (false, _) => match vmcs.read(Field::InstructionError) {
            INVALID_CONTROL_FIELDS => Some(Failure::ControlFields),
            INVALID_HOST_STATE => Some(Failure::HostState),
            _ => None,
        },
    };
    let now = VmcsImage::of(&|field| vmcs.try_read(field).unwrap_or(0));
    write_differences(vmcs, &now, &sound);
    *host_stack = stack;
    let agreed = blamed && failure == Some(mutation.failure);
    if !agreed {
        log::error!(
            "{}: the CPU says {failure:?}, the checker:\n{complaints}",
            mutation.name
        );
    }
    Some(agreed)
}

/// Writes the fields of `to` that are others in `from`, but for those that only the CPU writes.
fn write_differences(vmcs: &Current<'_>, from: &VmcsImage, to: &VmcsImage) {
    for &field in Field::ALL {
        if from.get(field) != to.get(field) && field.kind() != vmx_model::Kind::ExitInformation {
            // SAFETY: values that are wrong in a way that the CPU checks, or those that were there before.
            unsafe { vmcs.write(field, to.get(field)) };
        }
    }
}
