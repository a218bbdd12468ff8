//! The controls that a field depends on.

use super::Field;
use crate::controls::{EntryControls, ExitControls, Group, PinControls, PrimaryControls, SecondaryControls};

/// A control: its group and its bit.
type Control = (Group, u32);

const fn pin(control: PinControls) -> Control {
    (Group::Pin, control.bits())
}

const fn primary(control: PrimaryControls) -> Control {
    (Group::Primary, control.bits())
}

const fn secondary(control: SecondaryControls) -> Control {
    (Group::Secondary, control.bits())
}

const fn exit(control: ExitControls) -> Control {
    (Group::Exit, control.bits())
}

const fn entry(control: EntryControls) -> Control {
    (Group::Entry, control.bits())
}

impl Field {
    /// The controls of which one must be 1 for the CPU to use the field; none for a field that is always used. Where none of
    /// them can be 1 the field may not exist, and VMREAD and VMWRITE of it fail (SDM 3D appendix B, notes to the tables).
    #[must_use]
    pub const fn conditions(self) -> &'static [Control] {
        use Field as F;
        match self {
            F::Vpid => const { &[secondary(SecondaryControls::VPID)] },
            F::PostedInterruptVector | F::PostedInterruptDescriptor => {
                const { &[pin(PinControls::POSTED_INTERRUPTS)] }
            }
            F::EptpIndex | F::VirtualizationExceptionAddress => {
                const { &[secondary(SecondaryControls::EPT_VIOLATION_EXCEPTION)] }
            }
            F::GuestInterruptStatus
            | F::EoiExitBitmap0
            | F::EoiExitBitmap1
            | F::EoiExitBitmap2
            | F::EoiExitBitmap3 => const { &[secondary(SecondaryControls::VIRTUAL_INTERRUPT_DELIVERY)] },
            F::PmlIndex | F::PmlAddress => {
                const { &[secondary(SecondaryControls::PAGE_MODIFICATION_LOGGING)] }
            }
            F::IoBitmapA | F::IoBitmapB => const { &[primary(PrimaryControls::IO_BITMAPS)] },
            F::MsrBitmaps => const { &[primary(PrimaryControls::MSR_BITMAPS)] },
            F::TscOffset => const { &[primary(PrimaryControls::TSC_OFFSETTING)] },
            F::VirtualApicAddress | F::TprThreshold => const { &[primary(PrimaryControls::TPR_SHADOW)] },
            F::SecondaryControls => const { &[primary(PrimaryControls::SECONDARY_CONTROLS)] },
            F::ApicAccessAddress => const { &[secondary(SecondaryControls::VIRTUALIZE_APIC_ACCESSES)] },
            F::VmFunctionControls | F::EptpListAddress => {
                const { &[secondary(SecondaryControls::VM_FUNCTIONS)] }
            }
            F::EptPointer
            | F::GuestPhysicalAddress
            | F::GuestPdpte0
            | F::GuestPdpte1
            | F::GuestPdpte2
            | F::GuestPdpte3 => const { &[secondary(SecondaryControls::EPT)] },
            F::VmreadBitmap | F::VmwriteBitmap => const { &[secondary(SecondaryControls::VMCS_SHADOWING)] },
            F::XssExitingBitmap => const { &[secondary(SecondaryControls::XSAVES)] },
            F::EnclsExitingBitmap => const { &[secondary(SecondaryControls::ENCLS_EXITING)] },
            F::EnclvExitingBitmap => const { &[secondary(SecondaryControls::ENCLV_EXITING)] },
            F::SubPagePermissionTable => const { &[secondary(SecondaryControls::SUB_PAGE_WRITE)] },
            F::TscMultiplier => const { &[secondary(SecondaryControls::TSC_SCALING)] },
            F::PauseLoopGap | F::PauseLoopWindow => {
                const { &[secondary(SecondaryControls::PAUSE_LOOP_EXITING)] }
            }
            F::PreemptionTimer => const { &[pin(PinControls::PREEMPTION_TIMER)] },
            F::GuestPat => const { &[entry(EntryControls::LOAD_PAT), exit(ExitControls::SAVE_PAT)] },
            F::GuestEfer => const { &[entry(EntryControls::LOAD_EFER), exit(ExitControls::SAVE_EFER)] },
            F::GuestPerfGlobalCtrl => {
                const {
                    &[
                        entry(EntryControls::LOAD_PERF_GLOBAL_CTRL),
                        exit(ExitControls::SAVE_PERF_GLOBAL_CTRL),
                    ]
                }
            }
            F::GuestBndcfgs => {
                const {
                    &[
                        entry(EntryControls::LOAD_BNDCFGS),
                        exit(ExitControls::CLEAR_BNDCFGS),
                    ]
                }
            }
            F::GuestRtitCtl => {
                const {
                    &[
                        entry(EntryControls::LOAD_RTIT_CTL),
                        exit(ExitControls::CLEAR_RTIT_CTL),
                    ]
                }
            }
            F::GuestLbrCtl => {
                const {
                    &[
                        entry(EntryControls::LOAD_LBR_CTL),
                        exit(ExitControls::CLEAR_LBR_CTL),
                    ]
                }
            }
            F::GuestPkrs => const { &[entry(EntryControls::LOAD_PKRS)] },
            F::GuestSupervisorCet | F::GuestSsp | F::GuestInterruptSspTable => {
                const { &[entry(EntryControls::LOAD_CET)] }
            }
            F::HostPat => const { &[exit(ExitControls::LOAD_PAT)] },
            F::HostEfer => const { &[exit(ExitControls::LOAD_EFER)] },
            F::HostPerfGlobalCtrl => const { &[exit(ExitControls::LOAD_PERF_GLOBAL_CTRL)] },
            F::HostPkrs => const { &[exit(ExitControls::LOAD_PKRS)] },
            F::HostSupervisorCet | F::HostSsp | F::HostInterruptSspTable => {
                const { &[exit(ExitControls::LOAD_CET)] }
            }
            _ => &[],
        }
    }
}
