//! A VMCS that every rule is content with.

use crate::capability::EptVpid;
use crate::controls::{ControlSet, Group, SecondaryControls};
use crate::{Capabilities, EptPointer, Field, VmcsImage};

/// Access rights: 64-bit code of CPL 3; data of CPL 3; a busy task state segment; none.
const CODE: u64 = 0xa0fb;
const DATA: u64 = 0xc0f3;
const TASK_STATE: u64 = 0x8b;
const UNUSABLE: u64 = 1 << 16;

const USER_DATA: u64 = 0x23;
const USER_CODE: u64 = 0x2b;
const KERNEL_CODE: u64 = 0x08;
const KERNEL_DATA: u64 = 0x10;
const KERNEL_TASK: u64 = 0x30;
const KERNEL_HALF: u64 = 0xffff_ffff_8000_0000;

/// EFER: LME, LMA, NXE.
const LONG_MODE: u64 = 1 << 8 | 1 << 10;
const NO_EXECUTE: u64 = 1 << 11;
/// CR0: PE, MP, ET, NE, WP, AM, PG.
const CR0: u64 = 0x8005_0033;
/// CR4: PAE, OSFXSR, OSXMMEXCPT.
const CR4: u64 = 1 << 5 | 1 << 9 | 1 << 10;

/// A VMCS of a guest thread at its first entry, as far as the rules look at it.
#[must_use]
pub fn reference_image(capabilities: &Capabilities, setting: &ControlSet) -> VmcsImage {
    let mut image = VmcsImage::new();
    let cr0 = capabilities.cr0().adjusted(CR0);
    let cr4 = capabilities.cr4().adjusted(CR4);
    let efer = (LONG_MODE | NO_EXECUTE) & capabilities.efer_bits();
    for group in Group::ALL {
        image.set(group.field(), u64::from(setting.bits(group)));
    }
    let flags = capabilities.ept_vpid().contains(EptVpid::ACCESSED_DIRTY);
    if let Some(pointer) = EptPointer::new(0x10_0000, flags, capabilities.cpu()) {
        image.set(Field::EptPointer, pointer.value());
    }
    if setting.secondary.contains(SecondaryControls::VPID) {
        image.set(Field::Vpid, 1);
    }
    for (field, value) in [
        (Field::ExceptionBitmap, 0xffff_ffff),
        (Field::VmcsLinkPointer, u64::MAX),
        (Field::HostCr0, cr0),
        (Field::HostCr3, 0x20_0000),
        (Field::HostCr4, cr4),
        (Field::HostEfer, efer),
        (Field::HostCsSelector, KERNEL_CODE),
        (Field::HostSsSelector, KERNEL_DATA),
        (Field::HostTrSelector, KERNEL_TASK),
        (Field::HostGsBase, KERNEL_HALF),
        (Field::HostTrBase, KERNEL_HALF),
        (Field::HostGdtrBase, KERNEL_HALF),
        (Field::HostIdtrBase, KERNEL_HALF),
        (Field::HostRip, KERNEL_HALF),
        (Field::HostRsp, KERNEL_HALF),
        (Field::GuestCr0, cr0),
        (Field::GuestCr3, 0x1000),
        (Field::GuestCr4, cr4),
        (Field::GuestEfer, efer),
        (Field::GuestDr7, 1 << 10),
        (Field::GuestRflags, 1 << 9 | 1 << 1),
        (Field::GuestRip, 0x40_0000),
        (Field::GuestRsp, 0x80_0000),
        (Field::GuestCsSelector, USER_CODE),
        (Field::GuestCsLimit, 0xffff_ffff),
        (Field::GuestCsRights, CODE),
        (Field::GuestSsSelector, USER_DATA),
        (Field::GuestSsLimit, 0xffff_ffff),
        (Field::GuestSsRights, DATA),
        (Field::GuestDsRights, UNUSABLE),
        (Field::GuestEsRights, UNUSABLE),
        (Field::GuestFsRights, UNUSABLE),
        (Field::GuestGsRights, UNUSABLE),
        (Field::GuestLdtrRights, UNUSABLE),
        // A limit of 0: no I/O bitmap, so IN and OUT fault at CPL 3.
        (Field::GuestTrRights, TASK_STATE),
    ] {
        image.set(field, value);
    }
    image
}
