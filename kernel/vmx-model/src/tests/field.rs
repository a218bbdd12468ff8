//! Fields against the encoding rules and against the numbers that another crate has.

use crate::{Field, Kind, VmcsImage, Width};
use x86::vmx::vmcs::{control, guest, host, ro};

#[test]
fn encodings_ascend_and_are_the_full_ones() {
    assert!(Field::ALL.is_sorted_by(|a, b| a.encoding() < b.encoding()));
    for &field in Field::ALL {
        assert_eq!(field.encoding() & 1, 0, "{field}: bit 0 is for the high half");
        assert_eq!(field.encoding() >> 15, 0, "{field}: bits 31:15 are reserved");
        assert_eq!(field.encoding() >> 12 & 1, 0, "{field}: bit 12 is reserved");
    }
}

#[test]
fn fields_are_found_by_encoding_name_and_position() {
    for (index, &field) in Field::ALL.iter().enumerate() {
        assert_eq!(Field::from_encoding(field.encoding()), Some(field));
        assert_eq!(Field::from_name(field.name()), Some(field));
        assert_eq!(field.index(), index);
    }
    assert_eq!(Field::from_encoding(0x2001), None);
    assert_eq!(Field::from_encoding(u32::MAX), None);
    assert_eq!(Field::from_name("guest CR2"), None);
}

#[test]
fn kinds_follow_from_names() {
    for &field in Field::ALL {
        let expected = match field.name().split(' ').next() {
            Some("guest") => Kind::GuestState,
            Some("host") => Kind::HostState,
            _ => continue,
        };
        assert_eq!(field.kind(), expected, "{field}");
    }
    assert_eq!(Field::GuestPhysicalAddress.kind(), Kind::ExitInformation);
    assert!(Field::ExitQualification.is_read_only());
    assert!(!Field::ExitControls.is_read_only());
}

#[test]
fn widths_follow_from_what_a_field_holds() {
    for &field in Field::ALL {
        let name = field.name();
        let expected = match name {
            _ if name.ends_with("selector") => Width::Bits16,
            _ if name.ends_with("limit") || name.ends_with("rights") || name.ends_with("controls") => {
                Width::Bits32
            }
            _ if name.ends_with("base") && name.starts_with("host") => Width::Natural,
            _ => continue,
        };
        if field != Field::VmFunctionControls {
            assert_eq!(field.width(), expected, "{field}");
        }
    }
    assert_eq!(Field::VmFunctionControls.width(), Width::Bits64);
    assert_eq!(Field::GuestEfer.width(), Width::Bits64);
    assert_eq!(Field::GuestCr3.width(), Width::Natural);
    assert_eq!(Field::Vpid.width(), Width::Bits16);
}

#[test]
fn numbers_are_those_of_another_crate() {
    use Field as F;
    for (field, number) in [
        (F::Vpid, control::VPID),
        (F::IoBitmapA, control::IO_BITMAP_A_ADDR_FULL),
        (F::MsrBitmaps, control::MSR_BITMAPS_ADDR_FULL),
        (F::ExitMsrStoreAddress, control::VMEXIT_MSR_STORE_ADDR_FULL),
        (F::ExitMsrLoadAddress, control::VMEXIT_MSR_LOAD_ADDR_FULL),
        (F::EntryMsrLoadAddress, control::VMENTRY_MSR_LOAD_ADDR_FULL),
        (F::PmlAddress, control::PML_ADDR_FULL),
        (F::TscOffset, control::TSC_OFFSET_FULL),
        (F::VirtualApicAddress, control::VIRT_APIC_ADDR_FULL),
        (F::ApicAccessAddress, control::APIC_ACCESS_ADDR_FULL),
        (F::VmFunctionControls, control::VM_FUNCTION_CONTROLS_FULL),
        (F::EptPointer, control::EPTP_FULL),
        (F::EptpListAddress, control::EPTP_LIST_ADDR_FULL),
        (F::VmreadBitmap, control::VMREAD_BITMAP_ADDR_FULL),
        (F::XssExitingBitmap, control::XSS_EXITING_BITMAP_FULL),
        (F::SubPagePermissionTable, control::SUBPAGE_PERM_TABLE_PTR_FULL),
        (F::TscMultiplier, control::TSC_MULTIPLIER_FULL),
        (F::PinControls, control::PINBASED_EXEC_CONTROLS),
        (F::PrimaryControls, control::PRIMARY_PROCBASED_EXEC_CONTROLS),
        (F::ExceptionBitmap, control::EXCEPTION_BITMAP),
        (F::PageFaultErrorMask, control::PAGE_FAULT_ERR_CODE_MASK),
        (F::Cr3TargetCount, control::CR3_TARGET_COUNT),
        (F::ExitControls, control::VMEXIT_CONTROLS),
        (F::ExitMsrLoadCount, control::VMEXIT_MSR_LOAD_COUNT),
        (F::EntryControls, control::VMENTRY_CONTROLS),
        (F::EntryMsrLoadCount, control::VMENTRY_MSR_LOAD_COUNT),
        (F::EntryInterruptionInfo, control::VMENTRY_INTERRUPTION_INFO_FIELD),
        (F::EntryExceptionErrorCode, control::VMENTRY_EXCEPTION_ERR_CODE),
        (F::EntryInstructionLength, control::VMENTRY_INSTRUCTION_LEN),
        (F::SecondaryControls, control::SECONDARY_PROCBASED_EXEC_CONTROLS),
        (F::PauseLoopWindow, control::PLE_WINDOW),
        (F::Cr0Mask, control::CR0_GUEST_HOST_MASK),
        (F::Cr4Shadow, control::CR4_READ_SHADOW),
        (F::Cr3Target3, control::CR3_TARGET_VALUE3),
        (F::GuestEsSelector, guest::ES_SELECTOR),
        (F::GuestTrSelector, guest::TR_SELECTOR),
        (F::PmlIndex, guest::PML_INDEX),
        (F::VmcsLinkPointer, guest::LINK_PTR_FULL),
        (F::GuestDebugctl, guest::IA32_DEBUGCTL_FULL),
        (F::GuestPat, guest::IA32_PAT_FULL),
        (F::GuestEfer, guest::IA32_EFER_FULL),
        (F::GuestPdpte3, guest::PDPTE3_FULL),
        (F::GuestRtitCtl, guest::IA32_RTIT_CTL_FULL),
        (F::GuestIdtrLimit, guest::IDTR_LIMIT),
        (F::GuestEsRights, guest::ES_ACCESS_RIGHTS),
        (F::GuestTrRights, guest::TR_ACCESS_RIGHTS),
        (F::GuestInterruptibility, guest::INTERRUPTIBILITY_STATE),
        (F::GuestActivity, guest::ACTIVITY_STATE),
        (F::GuestSysenterCs, guest::IA32_SYSENTER_CS),
        (F::PreemptionTimer, guest::VMX_PREEMPTION_TIMER_VALUE),
        (F::GuestCr0, guest::CR0),
        (F::GuestIdtrBase, guest::IDTR_BASE),
        (F::GuestDr7, guest::DR7),
        (F::GuestRsp, guest::RSP),
        (F::GuestRip, guest::RIP),
        (F::GuestRflags, guest::RFLAGS),
        (F::GuestPendingDebug, guest::PENDING_DBG_EXCEPTIONS),
        (F::GuestSysenterEip, guest::IA32_SYSENTER_EIP),
        (F::HostEsSelector, host::ES_SELECTOR),
        (F::HostTrSelector, host::TR_SELECTOR),
        (F::HostPat, host::IA32_PAT_FULL),
        (F::HostEfer, host::IA32_EFER_FULL),
        (F::HostSysenterCs, host::IA32_SYSENTER_CS),
        (F::HostCr0, host::CR0),
        (F::HostCr3, host::CR3),
        (F::HostFsBase, host::FS_BASE),
        (F::HostIdtrBase, host::IDTR_BASE),
        (F::HostSysenterEsp, host::IA32_SYSENTER_ESP),
        (F::HostRsp, host::RSP),
        (F::HostRip, host::RIP),
        (F::GuestPhysicalAddress, ro::GUEST_PHYSICAL_ADDR_FULL),
        (F::InstructionError, ro::VM_INSTRUCTION_ERROR),
        (F::ExitReason, ro::EXIT_REASON),
        (F::ExitInterruptionInfo, ro::VMEXIT_INTERRUPTION_INFO),
        (F::IdtVectoringInfo, ro::IDT_VECTORING_INFO),
        (F::ExitInstructionLength, ro::VMEXIT_INSTRUCTION_LEN),
        (F::ExitQualification, ro::EXIT_QUALIFICATION),
        (F::GuestLinearAddress, ro::GUEST_LINEAR_ADDR),
    ] {
        assert_eq!(field.encoding(), number, "{field}");
    }
}

#[test]
fn an_image_keeps_what_a_field_has_room_for() {
    let mut image = VmcsImage::new();
    for &field in Field::ALL {
        image.set(field, 0x0123_4567_89ab_cdef);
    }
    assert_eq!(image.get(Field::GuestCsSelector), 0xcdef);
    assert_eq!(image.get(Field::ExitReason), 0x89ab_cdef);
    assert_eq!(image.get(Field::GuestEfer), 0x0123_4567_89ab_cdef);
    assert_eq!(image.get(Field::HostRip), 0x0123_4567_89ab_cdef);
    assert_eq!(VmcsImage::of(&image), image);
}
