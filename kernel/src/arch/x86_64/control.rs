//! Control registers and model-specific registers that every CPU gets before it does anything else.

use super::features::Features;
use super::{fpu, syscall};
use core::sync::atomic::Ordering;
use x86_64::instructions::tables;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr3, Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::registers::model_specific::Msr;

/// Page attribute table (SDM 3A 12.12).
const PAT: u32 = 0x277;
const SYSENTER_CODE_SEGMENT: u32 = 0x174;

/// What CR4 gets. Whatever the firmware had on beyond that is off: user-mode RDPMC, and above all FSGSBASE, which would let
/// programs set a GS base that the entry code takes for the kernel's.
fn cr4_for(features: &Features) -> Cr4Flags {
    let mut flags = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION
        | Cr4Flags::PAGE_GLOBAL
        | Cr4Flags::OSFXSR
        | Cr4Flags::OSXMMEXCPT_ENABLE;
    flags.set(Cr4Flags::MACHINE_CHECK_EXCEPTION, features.machine_check);
    flags.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, features.smep);
    flags.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, features.smap);
    flags.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, features.umip);
    flags.set(Cr4Flags::OSXSAVE, features.xsave);
    flags.set(Cr4Flags::PCID, features.pcid);
    flags
}

/// Sets this CPU up: protection features that it has, SYSCALL, extended state. The same on every CPU.
///
/// # Safety
/// 1. Called in the kernel with interrupts off, after `cpu::adopt`.
/// 2. Every page table in use has bit 63 clear or meant as no-execute.
pub(super) unsafe fn init(index: usize, features: &Features) {
    // SAFETY: the caller's 1 and 2. Every optional bit is set only where CPUID has it; a reserved bit would fault (SDM 3A 2.5).
    unsafe {
        Efer::update(|efer| efer.insert(EferFlags::NO_EXECUTE_ENABLE | EferFlags::SYSTEM_CALL_EXTENSIONS));
        Cr0::update(|cr0| {
            cr0.remove(Cr0Flags::EMULATE_COPROCESSOR | Cr0Flags::TASK_SWITCHED);
            cr0.remove(Cr0Flags::CACHE_DISABLE | Cr0Flags::NOT_WRITE_THROUGH);
            cr0.insert(Cr0Flags::MONITOR_COPROCESSOR | Cr0Flags::NUMERIC_ERROR);
            // Read-only pages bind the kernel too; AC of programs is honoured.
            cr0.insert(Cr0Flags::WRITE_PROTECT | Cr0Flags::ALIGNMENT_MASK);
        });
        // CR4.PCIDE can be set only while the identifier in CR3 is 0 (SDM 3A 4.10.1): bits 11:0, which may hold cache attributes of the
        // loader's.
        Cr3::write_raw(Cr3::read_raw().0, 0);
        Cr4::write(cr4_for(features));
        if features.pat {
            Msr::new(PAT).write(page_table::PAT);
        }
        if features.sysenter {
            // A null code segment makes SYSENTER fault (SDM 2B, SYSENTER).
            Msr::new(SYSENTER_CODE_SEGMENT).write(0);
        }
        tables::lidt(&super::interrupt_table::pointer());
    }
    super::cpu::by_index(index)
        .smap
        .store(u32::from(features.smap), Ordering::Relaxed);
    fpu::init();
    super::vmx::recorded::record(index);
    syscall::init();
}
