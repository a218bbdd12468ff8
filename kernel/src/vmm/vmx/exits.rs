//! Why a guest came back, and what that means. What is done about each exit is the table of `vmx_model::exit`; here it is done.

use super::capability::Machine;
use super::dump;
use super::vcpu::write;
use crate::arch::irq::IrqsOff;
use crate::arch::trap::TrapFrame;
use crate::arch::vmx::Current;
use crate::arch::vmx::host;
use crate::arch::vmx::recorded::NativeCpuid;
use crate::debug::counters;
use crate::vm::Access;
use crate::vmm::{Exit, NestedFault};
use dragonet_abi::counters::Counter;
use vmx_model::exit::{Action, EptViolation, Event, EventKind, ExitReason, Reason, of_event, of_reason};
use vmx_model::{Field, cpuid};

const DEBUG: u8 = 1;
const UNDEFINED_OPCODE: u8 = 6;
const GENERAL_PROTECTION: u8 = 13;
const PAGE_FAULT: u8 = 14;
/// RFLAGS.TF.
const TRAP_FLAG: u64 = 1 << 8;
/// Pending debug exceptions: a single step is over (SDM 3C 25.4.2).
const SINGLE_STEP: u64 = 1 << 14;

/// An exception that the guest did not have, but would have had.
pub(super) const fn exception(vector: u8) -> Exit {
    Exit::Exception {
        vector,
        error_code: 0,
        address: 0,
    }
}

/// What hardware does to a program that goes on at an address that is none; an entry there would fail (SDM 3C 27.3.1.4).
pub(super) const fn bad_instruction_pointer() -> Exit {
    exception(GENERAL_PROTECTION)
}

/// The entry failed while guest state was loaded.
pub(super) fn refused_entry(
    irqs: &IrqsOff,
    vmcs: &Current<'_>,
    machine: &Machine,
    reason: ExitReason,
) -> Exit {
    counters::count(Counter::ExitFatal);
    if reason.reason() == Some(Reason::EntryMachineCheck) {
        host::take_machine_check(irqs);
    }
    dump::entry_refused(vmcs, machine, reason);
    Exit::Dead
}

/// An exit that is to be served.
pub(super) struct Reported<'exit> {
    pub irqs: &'exit IrqsOff,
    pub vmcs: &'exit Current<'exit>,
    pub machine: &'exit Machine,
    pub reason: ExitReason,
    /// The guest was stepping, before the last instruction or after it.
    pub traced: bool,
}

impl Reported<'_> {
    /// Does what the exit asks for, with the guest's registers in `frame`.
    pub fn serve(&self, policy: &cpuid::Guest, frame: &mut TrapFrame) -> Exit {
        let &Reported {
            irqs,
            vmcs,
            machine,
            reason,
            traced,
        } = self;
        let (action, event) = match reason.reason() {
            Some(Reason::ExceptionOrNmi) => {
                let event = Event::from_field(vmcs.read(Field::ExitInterruptionInfo) as u32);
                (event.map_or(Action::EndProcess, of_event), event)
            }
            other => (of_reason(other), None),
        };
        let step_is_pending = traced && take_pending_step(vmcs);
        match (action, event) {
            (Action::Host, event) => {
                counters::count(Counter::ExitInterrupt);
                if let Some(event) = event {
                    host_event(irqs, event);
                }
                if step_is_pending {
                    exception(DEBUG)
                } else {
                    Exit::Resume
                }
            }
            (Action::Exception, Some(event)) => {
                counters::count(Counter::ExitException);
                guest_exception(vmcs, event, frame)
            }
            (Action::HostCall, _) => {
                counters::count(Counter::ExitHostCall);
                Exit::HostCall(vmcs.read(Field::ExitInstructionLength))
            }
            (Action::Cpuid, _) => {
                counters::count(Counter::ExitCpuid);
                frame.rip = frame.rip.wrapping_add(vmcs.read(Field::ExitInstructionLength));
                answer_cpuid(policy, frame);
                // The step over the instruction, which the CPU did not make.
                if frame.rflags & TRAP_FLAG != 0 {
                    return exception(DEBUG);
                }
                Exit::Resume
            }
            (Action::AddressSpaceFault, _) => {
                counters::count(Counter::ExitNestedFault);
                nested_fault(vmcs)
            }
            (Action::UndefinedOpcode, _) => {
                counters::count(Counter::ExitInstruction);
                exception(UNDEFINED_OPCODE)
            }
            (Action::GeneralProtection, _) => {
                counters::count(Counter::ExitInstruction);
                exception(GENERAL_PROTECTION)
            }
            (Action::Exception | Action::EndProcess, _) => {
                counters::count(Counter::ExitFatal);
                dump::unforeseen(vmcs, machine, reason);
                Exit::Dead
            }
        }
    }
}

/// An event for the host that does not stay pending: its handler is called.
fn host_event(irqs: &IrqsOff, event: Event) {
    match event.kind {
        EventKind::Nmi => host::take_non_maskable_interrupt(irqs),
        _ => host::take_machine_check(irqs),
    }
}

/// Takes a pending single-step trap out of the VMCS; true if there was one. What stays there is delivered at the next entry, when another
/// user of the vkernel may run.
///
/// SDM 3C 28.3.4 lists the few exits that leave one, a machine check among them: then it is the guest's, and still to come. Bochs 2.7 leaves one
/// at other exits too, for the instruction that did not end; there it means nothing.
fn take_pending_step(vmcs: &Current<'_>) -> bool {
    let pending = vmcs.read(Field::GuestPendingDebug);
    if pending != 0 {
        write(vmcs, Field::GuestPendingDebug, 0);
    }
    pending & SINGLE_STEP != 0
}

fn answer_cpuid(policy: &cpuid::Guest, frame: &mut TrapFrame) {
    let (leaf, subleaf) = (frame.rax as u32, frame.rcx as u32);
    let answer = cpuid::answer(&NativeCpuid, policy, leaf, subleaf);
    frame.rax = u64::from(answer.eax);
    frame.rbx = u64::from(answer.ebx);
    frame.rcx = u64::from(answer.ecx);
    frame.rdx = u64::from(answer.edx);
}

fn guest_exception(vmcs: &Current<'_>, event: Event, frame: &mut TrapFrame) -> Exit {
    // INT3, INTO, INT1: the exit comes instead of the instruction, but whoever handles the exception expects to find
    // the instruction behind him (SDM 3A 6.15).
    if let EventKind::SoftwareException | EventKind::PrivilegedSoftwareException = event.kind {
        frame.rip = frame.rip.wrapping_add(vmcs.read(Field::ExitInstructionLength));
    }
    Exit::Exception {
        vector: event.vector,
        error_code: if event.has_error_code {
            vmcs.read(Field::ExitInterruptionErrorCode)
        } else {
            0
        },
        address: if event.vector == PAGE_FAULT {
            vmcs.read(Field::ExitQualification)
        } else {
            0
        },
    }
}

/// An access that the nested table does not translate.
fn nested_fault(vmcs: &Current<'_>) -> Exit {
    let violation = EptViolation(vmcs.read(Field::ExitQualification));
    Exit::Nested(NestedFault {
        address: vmcs.read(Field::GuestPhysicalAddress),
        access: Access {
            write: violation.is_write(),
            execute: violation.is_fetch(),
            user: true,
        },
        linear: violation
            .has_linear_address()
            .then(|| vmcs.read(Field::GuestLinearAddress)),
    })
}
