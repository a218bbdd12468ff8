//! One thread's virtual CPU: entering it, and what its exits mean.

use super::capability::Machine;
use super::state;
use super::vmcs::Vmcs;
use super::{dump, exits, operation};
use crate::arch::cpu;
use crate::arch::fpu;
use crate::arch::irq::IrqsOff;
use crate::arch::trap::TrapFrame;
use crate::arch::vmx::host::{self, CommonHostState, CpuHostState, ThreadHostState};
use crate::arch::vmx::{self, Current, GuestRegisters};
use crate::debug::counters;
use crate::pmap::{GuestBorder, Table};
use crate::vmm::Exit;
use core::sync::atomic::AtomicU64;
use dragonet_abi::Errno;
use dragonet_abi::counters::Counter;
use dragonet_abi::vmm::MAX_GUEST_THREADS;
use guest_mode::{Gate, cross};
use invalidation::{GuestEntry, Space};
use vmx_model::Field;
use vmx_model::controls::SecondaryControls;
use vmx_model::cpuid;
use vmx_model::exit::ExitReason;
use x86_64::VirtAddr;

/// RFLAGS.TF.
const TRAP_FLAG: u64 = 1 << 8;
/// Selectors that a user can change.
const SELECTORS: [Field; 4] = [
    Field::GuestDsSelector,
    Field::GuestEsSelector,
    Field::GuestFsSelector,
    Field::GuestGsSelector,
];

/// What an entry needs besides the registers in the frame.
#[derive(Debug)]
pub struct Context<'guest> {
    /// Root of the guest's page table: an address in the process, page-aligned.
    pub root: u64,
    /// Bases of FS and GS.
    pub bases: (u64, u64),
    /// The nested table.
    pub nested: &'guest Space<AtomicU64>,
    /// The guest's linear addresses.
    pub linear: &'guest Space<AtomicU64>,
    /// Closed: the guest must not be entered now.
    pub gate: &'guest Gate<AtomicU64>,
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
    /// The CPU whose state the host's fields have, and what it must have after an exit.
    host_cpu: Option<usize>,
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
            host_cpu: None,
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
    pub fn enter(&mut self, irqs: &IrqsOff, frame: &mut TrapFrame, context: &Context<'_>) -> Exit {
        if VirtAddr::try_new(frame.rip).is_err() {
            return exits::bad_instruction_pointer();
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
            counters::count(Counter::VmcsMove);
        }
        if self.host_cpu != Some(cpu::index()) {
            self.cpu = CpuHostState::now(irqs);
            state::write_cpu(&vmcs, &self.cpu);
            self.host_cpu = Some(cpu::index());
        }
        let entry = GuestEntry {
            nested: context.nested,
            nested_root: self.nested,
            linear: context.linear,
            root: context.root,
        };
        let border = GuestBorder::new(irqs, self.machine.identifiers);
        let entered = cross(&border, &entry, context.gate, |tag| {
            self.write_changed(irqs, &vmcs, frame, context, tag);
            let registers = GuestRegisters {
                frame,
                host_stack: &mut self.known.host_stack,
                launched: self.vmcs.is_launched(),
            };
            // SAFETY: host state and confinement are as `state` wrote them, and the host's changing part was just compared.
            let entered = unsafe { vmx::enter(&vmcs, registers) };
            host::restore_descriptor_table(irqs);
            entered
        });
        let Some(entered) = entered else {
            return Exit::Resume;
        };
        if cfg!(debug_assertions) {
            host::check(irqs, &self.cpu, &self.known.host);
        }
        if entered.is_err() {
            counters::count(Counter::ExitFatal);
            dump::entry_failed(&vmcs, self.machine);
            return Exit::Dead;
        }
        counters::count(Counter::GuestExit);
        self.after_exit(irqs, &vmcs, frame)
    }

    /// For tests: lets `action` do what it wants with the VMCS, which has been entered before, and with what is known of the host's
    /// stack pointer in it. Whatever it changes it must put back.
    pub(super) fn with_vmcs<R>(
        &mut self,
        irqs: &IrqsOff,
        action: impl FnOnce(&Current<'_>, &mut u64, &Machine) -> R,
    ) -> Option<R> {
        let on = vmx::on(irqs)?;
        let loaded = self.vmcs.load(irqs, &on).ok()?;
        Some(action(&loaded.vmcs, &mut self.known.host_stack, self.machine))
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
    fn after_exit(&mut self, irqs: &IrqsOff, vmcs: &Current<'_>, frame: &mut TrapFrame) -> Exit {
        let reason = ExitReason(vmcs.read(Field::ExitReason) as u32);
        if reason.is_entry_failure() {
            return exits::refused_entry(irqs, vmcs, self.machine, reason);
        }
        self.vmcs.note_launched();
        frame.rip = vmcs.read(Field::GuestRip);
        frame.rsp = vmcs.read(Field::GuestRsp);
        frame.rflags = vmcs.read(Field::GuestRflags);
        let traced = (self.known.flags | frame.rflags) & TRAP_FLAG != 0;
        self.known.instruction = frame.rip;
        self.known.stack = frame.rsp;
        self.known.flags = frame.rflags;
        let exit = exits::Reported {
            irqs,
            vmcs,
            machine: self.machine,
            reason,
            traced,
        };
        exit.serve(&self.cpuid, frame)
    }

    /// Bases of FS and GS as the guest left them at its last exit. To be asked before somebody else runs in this guest, because a null selector
    /// is the one thing that a user can load into a segment register: that clears the base, and the selector's low bits are free. Neither is found by who
    /// runs next. `None` if the guest has not run.
    pub fn take_bases(&mut self, irqs: &IrqsOff) -> Option<(u64, u64)> {
        if !self.ready {
            return None;
        }
        let on = vmx::on(irqs)?;
        let vmcs = self.vmcs.load(irqs, &on).ok()?.vmcs;
        for selector in SELECTORS {
            if vmcs.read(selector) != 0 {
                write(&vmcs, selector, 0);
            }
        }
        self.known.bases = (vmcs.read(Field::GuestFsBase), vmcs.read(Field::GuestGsBase));
        Some(self.known.bases)
    }
}

/// Writes a field that is the guest's register, its tag, or the host's state as it is now.
pub(super) fn write(vmcs: &Current<'_>, field: Field, value: u64) {
    // SAFETY: none of them widens what the guest can reach: its memory is what the nested table gives, whatever its CR3 is.
    unsafe { vmcs.write(field, value) };
}
