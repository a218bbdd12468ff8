//! What a VMCS says before its first entry, and what changes when it comes to another CPU.

use crate::arch::segments::{KERNEL_CODE, KERNEL_DATA, TASK_STATE};
use crate::arch::vmx::host::{CommonHostState, CpuHostState};
use crate::arch::vmx::{self, Current};
use dragonet_abi::vmm::{GUEST_CODE_SELECTOR, GUEST_DATA_SELECTOR};
use vmx_model::controls::{Controls, Group};
use vmx_model::{Capabilities, Field};
use x86_64::registers::control::{Cr0Flags, Cr4Flags, EferFlags};

/// Access rights in the VMCS's format (SDM 3C 25.4.1): type, S, DPL, P, L or D/B, G.
const CODE_RIGHTS: u64 = 0xb | 1 << 4 | 3 << 5 | 1 << 7 | 1 << 13 | 1 << 15;
const DATA_RIGHTS: u64 = 0x3 | 1 << 4 | 3 << 5 | 1 << 7 | 1 << 14 | 1 << 15;
/// A busy 64-bit task state segment. Its limit is 0, so it has no I/O permission map: every port is a fault.
const TASK_RIGHTS: u64 = 0xb | 1 << 7;
const UNUSABLE: u64 = 1 << 16;
const WHOLE: u64 = 0xffff_ffff;
/// DR7 after reset (SDM 3B 18.2.4).
const DEBUG_CONTROL: u64 = 0x400;
/// All exceptions leave the guest. With mask and match 0 that includes every page fault (SDM 3C 26.2).
const ALL_EXCEPTIONS: u64 = 0xffff_ffff;

/// What the guest's control registers get. CR4.PCIDE makes the low bits of its CR3 an identifier.
pub(super) fn guest_cr4(host: &CommonHostState, identifiers: bool) -> u64 {
    let shared = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION
        | Cr4Flags::OSFXSR
        | Cr4Flags::OSXMMEXCPT_ENABLE
        | Cr4Flags::OSXSAVE
        | Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION
        | Cr4Flags::VIRTUAL_MACHINE_EXTENSIONS;
    let mut value = host.cr4 & shared.bits();
    if identifiers {
        value |= Cr4Flags::PCID.bits();
    }
    value
}

fn guest_cr0(capabilities: &Capabilities) -> u64 {
    let wanted = Cr0Flags::PROTECTED_MODE_ENABLE
        | Cr0Flags::MONITOR_COPROCESSOR
        | Cr0Flags::EXTENSION_TYPE
        | Cr0Flags::NUMERIC_ERROR
        | Cr0Flags::WRITE_PROTECT
        | Cr0Flags::ALIGNMENT_MASK
        | Cr0Flags::PAGING;
    wanted.bits() | capabilities.cr0().must
}

/// Writes everything that does not change from one entry to the next.
///
/// # Safety
/// 1. `nested` is the extended-page-table pointer of a nested table of the process whose thread this guest is, alive as long as the VMCS.
pub(super) unsafe fn write_constant(
    vmcs: &Current<'_>,
    capabilities: &Capabilities,
    controls: &Controls,
    nested: u64,
    identifiers: bool,
) {
    let host = CommonHostState::now();
    let groups = Group::ALL.map(|group| (group.field(), u64::from(controls.bits(group))));
    let code = u64::from(GUEST_CODE_SELECTOR);
    let data = u64::from(GUEST_DATA_SELECTOR);
    let rest = [
        (Field::ExceptionBitmap, ALL_EXCEPTIONS),
        (Field::PageFaultErrorMask, 0),
        (Field::PageFaultErrorMatch, 0),
        (Field::Cr3TargetCount, 0),
        (Field::ExitMsrStoreCount, 0),
        (Field::ExitMsrLoadCount, 0),
        (Field::EntryMsrLoadCount, 0),
        (Field::EntryInterruptionInfo, 0),
        (Field::Cr0Mask, 0),
        (Field::Cr4Mask, 0),
        (Field::EptPointer, nested),
        (Field::VmcsLinkPointer, !0),
        (Field::GuestDebugctl, 0),
        (Field::GuestDr7, DEBUG_CONTROL),
        (
            Field::GuestEfer,
            (EferFlags::LONG_MODE_ENABLE | EferFlags::LONG_MODE_ACTIVE | EferFlags::NO_EXECUTE_ENABLE).bits(),
        ),
        (Field::GuestCr0, guest_cr0(capabilities)),
        (Field::GuestCr4, guest_cr4(&host, identifiers)),
        (Field::GuestCsSelector, code),
        (Field::GuestCsLimit, WHOLE),
        (Field::GuestCsRights, CODE_RIGHTS),
        (Field::GuestCsBase, 0),
        (Field::GuestSsSelector, data),
        (Field::GuestSsLimit, WHOLE),
        (Field::GuestSsRights, DATA_RIGHTS),
        (Field::GuestSsBase, 0),
        (Field::GuestDsSelector, 0),
        (Field::GuestDsLimit, WHOLE),
        (Field::GuestDsRights, DATA_RIGHTS),
        (Field::GuestDsBase, 0),
        (Field::GuestEsSelector, 0),
        (Field::GuestEsLimit, WHOLE),
        (Field::GuestEsRights, DATA_RIGHTS),
        (Field::GuestEsBase, 0),
        (Field::GuestFsSelector, 0),
        (Field::GuestFsLimit, WHOLE),
        (Field::GuestFsRights, DATA_RIGHTS),
        (Field::GuestGsSelector, 0),
        (Field::GuestGsLimit, WHOLE),
        (Field::GuestGsRights, DATA_RIGHTS),
        (Field::GuestLdtrSelector, 0),
        (Field::GuestLdtrRights, UNUSABLE),
        (Field::GuestTrSelector, 0),
        (Field::GuestTrLimit, 0),
        (Field::GuestTrRights, TASK_RIGHTS),
        (Field::GuestTrBase, 0),
        // No descriptor is within reach: loading a selector other than null is a fault.
        (Field::GuestGdtrBase, 0),
        (Field::GuestGdtrLimit, 0),
        (Field::GuestIdtrBase, 0),
        (Field::GuestIdtrLimit, 0),
        (Field::GuestInterruptibility, 0),
        (Field::GuestActivity, 0),
        (Field::GuestPendingDebug, 0),
        (Field::GuestSysenterCs, 0),
        (Field::GuestSysenterEsp, 0),
        (Field::GuestSysenterEip, 0),
        (Field::HostCr0, host.cr0),
        (Field::HostCr4, host.cr4),
        (Field::HostEfer, host.efer),
        (Field::HostCsSelector, u64::from(KERNEL_CODE)),
        (Field::HostSsSelector, u64::from(KERNEL_DATA)),
        (Field::HostDsSelector, 0),
        (Field::HostEsSelector, 0),
        (Field::HostFsSelector, 0),
        (Field::HostGsSelector, 0),
        (Field::HostTrSelector, u64::from(TASK_STATE)),
        (Field::HostSysenterCs, 0),
        (Field::HostSysenterEsp, 0),
        (Field::HostSysenterEip, 0),
        (Field::HostRip, vmx::exit_address()),
    ];
    for (field, value) in groups.into_iter().chain(rest) {
        // SAFETY: the host's state is this kernel's own; the guest is confined to privilege level 3, to tables without descriptors,
        // and by the caller's promise to its process's memory.
        unsafe { vmcs.write(field, value) };
    }
}

/// Writes what belongs to the CPU on which the VMCS was just loaded.
pub(super) fn write_cpu(vmcs: &Current<'_>, cpu: &CpuHostState) {
    for (field, value) in [
        (Field::HostGsBase, cpu.gs_base),
        (Field::HostTrBase, cpu.task_base),
        (Field::HostGdtrBase, cpu.gdt_base),
        (Field::HostIdtrBase, cpu.idt_base),
    ] {
        // SAFETY: the state of this CPU, where the next exit will be.
        unsafe { vmcs.write(field, value) };
    }
}
