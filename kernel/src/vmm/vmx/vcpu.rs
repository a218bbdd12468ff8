//! One thread's virtual CPU: entering it, and what its exits mean.

use super::capability::Machine;
use super::dump;
use super::operation;
use super::state;
use super::vmcs::Vmcs;
use crate::arch::fpu;
use crate::arch::irq::IrqsOff;
use crate::arch::trap::TrapFrame;
use crate::arch::vmx::host::{self, CommonHostState, CpuHostState, ThreadHostState};
use crate::arch::vmx::recorded::NativeCpuid;
use crate::arch::vmx::{self, Current, GuestRegisters};
use crate::debug::counters;
use crate::pmap::{self, Table};
use crate::vm::Access;
use crate::vmm::{Exit, NestedFault};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use dragonet_abi::Errno;
use dragonet_abi::counters::Counter;
use dragonet_abi::vmm::MAX_GUEST_THREADS;
use invalidation::{GuestEntry, Space};
use vmx_model::Field;
use vmx_model::controls::SecondaryControls;
use vmx_model::cpuid;
use vmx_model::exit::table::{Action, of_reason};
use vmx_model::exit::{EptViolation, Event, EventKind, ExitReason, Reason};

const DEBUG: u8 = 1;
const UNDEFINED_OPCODE: u8 = 6;
const GENERAL_PROTECTION: u8 = 13;
const PAGE_FAULT: u8 = 14;
const MACHINE_CHECK: u8 = 18;
/// RFLAGS.TF.
const TRAP_FLAG: u64 = 1 << 8;

/// What an entry needs besides the registers in the frame.
#[derive(Debug)]
pub struct Context<'guest> {
    /// Root of the guest's page table: an address in the process, page-aligned.
    pub root: u64,
    /// Bases of FS and GS; after the exit of a user those that it left.
    pub bases: (u64, u64),
    /// The vkernel's user runs, not the vkernel.
    pub user: bool,
    /// The nested table.
    pub nested: &'guest Space<AtomicU64>,
    /// The guest's linear addresses.
    pub linear: &'guest Space<AtomicU64>,
    /// Closed: the guest must not be entered now.
    pub gate: &'guest AtomicBool,
}

/// Fields whose value is known, because this wrote them or the last exit left them.
#[derive(Debug, Default)]
struct Known {
    instruction: u64,
    stack: u64,
    flags: u64,
    cr3: u64,
    bases: (u64, u64),
    tag: u16,
    host: ThreadHostState,
    host_stack: u64,
}

/// A thread's virtual CPU.
#[derive(Debug)]
pub struct Vcpu {
    machine: &'static Machine,
    vmcs: Vmcs,
    /// The extended-page-table pointer.
    nested: u64,
    known: Known,
    /// What the CPU on which the VMCS is must have after an exit.
    cpu: CpuHostState,
    /// What CPUID shows.
    cpuid: cpuid::Guest,
    /// The constant fields are written.
    ready: bool,
}

impl Vcpu {
    /// One that has not been entered, in the memory of a nested table, which must live longer. `number` tells it from the
    /// others of its process.
    ///
    /// # Errors
    /// ENODEV where the machine has no guest mode; ENOMEM.
    pub fn new(nested: &Table, number: u32) -> Result<Self, Errno> {
        let machine = operation::turn_on_everywhere()?;
        Ok(Vcpu {
            machine,
            vmcs: Vmcs::new(machine.support.revision)?,
            nested: nested.ept_pointer(),
            known: Known::default(),
            cpu: CpuHostState::default(),
            cpuid: cpuid::Guest {
                cpu: number,
                cpus: MAX_GUEST_THREADS as u32,
                cr4: state::guest_cr4(&CommonHostState::now(), machine.identifiers),
                xcr0: fpu::components(),
                rdtscp: machine
                    .support
                    .controls
                    .setting()
                    .secondary
                    .contains(SecondaryControls::RDTSCP),
            },
            ready: false,
        })
    }

    /// Runs the guest with the registers in `frame` until its next exit, which leaves them there.
    pub fn enter(&mut self, irqs: &IrqsOff, frame: &mut TrapFrame, context: &mut Context<'_>) -> Exit {
        // An instruction that was skipped may have been the last before the hole: the next one is a fault, not a failed entry.
        if !is_canonical(frame.rip) {
            return Exit::Exception {
                vector: GENERAL_PROTECTION,
                error_code: 0,
                address: 0,
            };
        }
        let Some(on) = vmx::on(irqs) else {
            log::error!("a guest without VMX");
            return Exit::Dead;
        };
        let loaded = match self.vmcs.load(irqs, &on) {
            Ok(loaded) => loaded,
            Err(failure) => {
                log::error!("the VMCS cannot be loaded: {failure:?}");
                return Exit::Dead;
            }
        };
        let vmcs = loaded.vmcs;
        if !self.ready {
            // SAFETY: the pointer is of the nested table of the process, which holds it for as long as this guest lives.
            unsafe {
                state::write_constant(
                    &vmcs,
                    self.machine.capabilities,
                    &self.machine.support.controls,
                    self.nested,
                    self.machine.identifiers,
                );
            }
            self.write_first(&vmcs);
            self.ready = true;
        }
        if loaded.moved {
            self.cpu = CpuHostState::now(irqs);
            state::write_cpu(&vmcs, &self.cpu);
        }
        let entry = GuestEntry {
            nested: context.nested,
            nested_root: self.nested,
            linear: context.linear,
            root: context.root,
        };
        let tag = pmap::enter_guest(irqs, &entry, self.machine.identifiers);
        // After this CPU's bit was set: whoever closed the gate before has seen the bit, or this sees the closed gate.
        if context.gate.load(Ordering::SeqCst) {
            pmap::leave_guest(irqs, &entry);
            return Exit::Resume;
        }
        self.write_changed(irqs, &vmcs, frame, context, tag);
        let registers = GuestRegisters {
            frame,
            host_stack: &mut self.known.host_stack,
            launched: self.vmcs.is_launched(),
        };
        // SAFETY: host state and confinement are as `state` wrote them, and the host's changing part was just compared.
        let entered = unsafe { vmx::enter(&vmcs, registers) };
        host::restore_descriptor_table(irqs);
        pmap::leave_guest(irqs, &entry);
        if cfg!(debug_assertions) {
            host::check(irqs, &self.cpu, &self.known.host);
        }
        if entered.is_err() {
            dump::entry_failed(&vmcs, self.machine);
            return Exit::Dead;
        }
        self.vmcs.note_launched();
        counters::count(Counter::GuestExit);
        self.after_exit(irqs, &vmcs, frame, context)
    }

    /// Fields that are compared from now on.
    fn write_first(&self, vmcs: &Current<'_>) {
        let known = &self.known;
        for (field, value) in [
            (Field::GuestRip, known.instruction),
            (Field::GuestRsp, known.stack),
            (Field::GuestRflags, known.flags),
            (Field::GuestCr3, known.cr3),
            (Field::GuestFsBase, known.bases.0),
            (Field::GuestGsBase, known.bases.1),
            (Field::HostCr3, known.host.cr3),
            (Field::HostFsBase, known.host.fs_base),
        ] {
            write(vmcs, field, value);
        }
        if self.machine.support.invvpid.is_some() {
            write(vmcs, Field::Vpid, u64::from(known.tag));
        }
    }

    /// Writes what differs from what the fields contain.
    fn write_changed(
        &mut self,
        irqs: &IrqsOff,
        vmcs: &Current<'_>,
        frame: &TrapFrame,
        context: &Context<'_>,
        tag: invalidation::GuestTag,
    ) {
        let known = &mut self.known;
        let update = |field, known: &mut u64, value| {
            if *known != value {
                *known = value;
                write(vmcs, field, value);
            }
        };
        update(Field::GuestRip, &mut known.instruction, frame.rip);
        update(Field::GuestRsp, &mut known.stack, frame.rsp);
        update(Field::GuestRflags, &mut known.flags, frame.rflags);
        update(
            Field::GuestCr3,
            &mut known.cr3,
            context.root | u64::from(tag.identifier),
        );
        update(Field::GuestFsBase, &mut known.bases.0, context.bases.0);
        update(Field::GuestGsBase, &mut known.bases.1, context.bases.1);
        // The thread may have come back from another CPU, or have changed them by a call: what the exit loads must be what is here now.
        let host = ThreadHostState::now(irqs);
        update(Field::HostCr3, &mut known.host.cr3, host.cr3);
        update(Field::HostFsBase, &mut known.host.fs_base, host.fs_base);
        if self.machine.support.invvpid.is_some() && known.tag != tag.tag {
            known.tag = tag.tag;
            write(vmcs, Field::Vpid, u64::from(tag.tag));
        }
    }

    /// Takes the registers that the VMCS has over into the frame and finds out what the exit wants.
    fn after_exit(
        &mut self,
        irqs: &IrqsOff,
        vmcs: &Current<'_>,
        frame: &mut TrapFrame,
        context: &mut Context<'_>,
    ) -> Exit {
        let reason = ExitReason(vmcs.read(Field::ExitReason) as u32);
        if reason.is_entry_failure() {
            dump::entry_refused(vmcs, self.machine, reason);
            return Exit::Dead;
        }
        frame.rip = vmcs.read(Field::GuestRip);
        frame.rsp = vmcs.read(Field::GuestRsp);
        let traced = frame.rflags & TRAP_FLAG != 0;
        frame.rflags = vmcs.read(Field::GuestRflags);
        if traced || frame.rflags & TRAP_FLAG != 0 {
            forget_trap(vmcs);
        }
        if context.user {
            self.take_segments(vmcs, context);
        }
        self.known.instruction = frame.rip;
        self.known.stack = frame.rsp;
        self.known.flags = frame.rflags;
        let exception = |vector| Exit::Exception {
            vector,
            error_code: 0,
            address: 0,
        };
        let Some(basic) = reason.reason() else {
            dump::unforeseen(vmcs, self.machine, reason);
            return Exit::Dead;
        };
        match basic {
            Reason::ExternalInterrupt => Exit::Resume,
            Reason::ExceptionOrNmi => exception_exit(irqs, vmcs, frame),
            Reason::Vmcall => Exit::HostCall(vmcs.read(Field::ExitInstructionLength)),
            Reason::Cpuid => {
                frame.rip = frame.rip.wrapping_add(vmcs.read(Field::ExitInstructionLength));
                self.answer_cpuid(frame);
                if frame.rflags & TRAP_FLAG != 0 {
                    return exception(DEBUG);
                }
                Exit::Resume
            }
            Reason::EptViolation => nested_exit(vmcs),
            // Instructions that exit although a user cannot have them.
            _ => match of_reason(Some(basic)) {
                Action::UndefinedOpcode => exception(UNDEFINED_OPCODE),
                Action::GeneralProtection => exception(GENERAL_PROTECTION),
                _ => {
                    dump::unforeseen(vmcs, self.machine, reason);
                    Exit::Dead
                }
            },
        }
    }

    /// A null selector is the one thing that a user can load into a segment register. It clears the base of FS or GS, and its low bits
    /// are free: neither may be found by the vkernel or another user.
    fn take_segments(&mut self, vmcs: &Current<'_>, context: &mut Context<'_>) {
        context.bases = (vmcs.read(Field::GuestFsBase), vmcs.read(Field::GuestGsBase));
        self.known.bases = context.bases;
        for selector in [
            Field::GuestDsSelector,
            Field::GuestEsSelector,
            Field::GuestFsSelector,
            Field::GuestGsSelector,
        ] {
            if vmcs.read(selector) != 0 {
                write(vmcs, selector, 0);
            }
        }
    }

    fn answer_cpuid(&self, frame: &mut TrapFrame) {
        let (leaf, subleaf) = (frame.rax as u32, frame.rcx as u32);
        let answer = cpuid::answer(&NativeCpuid, &self.cpuid, leaf, subleaf);
        frame.rax = u64::from(answer.eax);
        frame.rbx = u64::from(answer.ebx);
        frame.rcx = u64::from(answer.ecx);
        frame.rdx = u64::from(answer.edx);
    }
}

/// True if bits 47 to 63 are equal.
const fn is_canonical(address: u64) -> bool {
    (address << 16) as i64 >> 16 == address as i64
}

/// Writes a field that is the guest's register, its tag, or the host's state as it is now.
fn write(vmcs: &Current<'_>, field: Field, value: u64) {
    // SAFETY: none of them widens what the guest can reach: its memory is what the nested table gives, whatever its CR3 is.
    unsafe { vmcs.write(field, value) };
}

/// A single step that the exit left pending belongs to what was executed, not to whoever runs next here. The processor has cleared the
/// field (SDM 3C 28.3.4); Bochs has not.
fn forget_trap(vmcs: &Current<'_>) {
    write(vmcs, Field::GuestPendingDebug, 0);
}

/// An exception in the guest, or an NMI for the host.
fn exception_exit(irqs: &IrqsOff, vmcs: &Current<'_>, frame: &mut TrapFrame) -> Exit {
    let Some(event) = Event::from_field(vmcs.read(Field::ExitInterruptionInfo) as u32) else {
        return Exit::Resume;
    };
    match event.kind {
        EventKind::Nmi => {
            host::take_non_maskable_interrupt(irqs);
            return Exit::Resume;
        }
        EventKind::HardwareException if event.vector == MACHINE_CHECK => {
            host::take_machine_check(irqs);
            return Exit::Resume;
        }
        // An instruction that has ended tracing.
        EventKind::HardwareException if event.vector == DEBUG => forget_trap(vmcs),
        // INT3, INTO, INT1: the exit comes instead of the instruction, but whoever handles the exception expects to find
        // the instruction behind him (SDM 3A 6.15).
        EventKind::SoftwareException | EventKind::PrivilegedSoftwareException => {
            frame.rip = frame.rip.wrapping_add(vmcs.read(Field::ExitInstructionLength));
        }
        _ => {}
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
fn nested_exit(vmcs: &Current<'_>) -> Exit {
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
