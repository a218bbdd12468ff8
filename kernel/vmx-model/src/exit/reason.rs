//! Exit reasons: SDM 3D appendix C, and the format of the field (SDM 3C 25.9.1).

use super::event::{Event, EventKind};
use core::fmt;

macro_rules! reasons {
    ($($variant:ident = $number:literal, $name:literal;)*) => {
        /// A basic exit reason.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Reason {
            $(#[doc = $name] $variant = $number,)*
        }

        impl Reason {
            /// Every basic exit reason, in order of numbers.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant),*];

            /// The reason with this number.
            #[inline]
            #[must_use]
            pub const fn from_number(number: u16) -> Option<Reason> {
                match number {
                    $($number => Some(Reason::$variant),)*
                    _ => None,
                }
            }

            /// The manual's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Reason::$variant => $name,)*
                }
            }
        }
    };
}

reasons! {
    ExceptionOrNmi = 0, "exception or NMI";
    ExternalInterrupt = 1, "external interrupt";
    TripleFault = 2, "triple fault";
    Init = 3, "INIT signal";
    StartupIpi = 4, "start-up IPI";
    IoSmi = 5, "I/O SMI";
    OtherSmi = 6, "other SMI";
    InterruptWindow = 7, "interrupt window";
    NmiWindow = 8, "NMI window";
    TaskSwitch = 9, "task switch";
    Cpuid = 10, "CPUID";
    Getsec = 11, "GETSEC";
    Hlt = 12, "HLT";
    Invd = 13, "INVD";
    Invlpg = 14, "INVLPG";
    Rdpmc = 15, "RDPMC";
    Rdtsc = 16, "RDTSC";
    Rsm = 17, "RSM";
    Vmcall = 18, "VMCALL";
    Vmclear = 19, "VMCLEAR";
    Vmlaunch = 20, "VMLAUNCH";
    Vmptrld = 21, "VMPTRLD";
    Vmptrst = 22, "VMPTRST";
    Vmread = 23, "VMREAD";
    Vmresume = 24, "VMRESUME";
    Vmwrite = 25, "VMWRITE";
    Vmxoff = 26, "VMXOFF";
    Vmxon = 27, "VMXON";
    ControlRegister = 28, "control-register access";
    MovDr = 29, "MOV DR";
    Io = 30, "I/O instruction";
    Rdmsr = 31, "RDMSR";
    Wrmsr = 32, "WRMSR";
    InvalidGuestState = 33, "VM-entry failure due to invalid guest state";
    MsrLoading = 34, "VM-entry failure due to MSR loading";
    Mwait = 36, "MWAIT";
    MonitorTrapFlag = 37, "monitor trap flag";
    Monitor = 39, "MONITOR";
    Pause = 40, "PAUSE";
    EntryMachineCheck = 41, "VM-entry failure due to machine-check event";
    TprBelowThreshold = 43, "TPR below threshold";
    ApicAccess = 44, "APIC access";
    VirtualizedEoi = 45, "virtualized EOI";
    GdtrIdtrAccess = 46, "access to GDTR or IDTR";
    LdtrTrAccess = 47, "access to LDTR or TR";
    EptViolation = 48, "EPT violation";
    EptMisconfiguration = 49, "EPT misconfiguration";
    Invept = 50, "INVEPT";
    Rdtscp = 51, "RDTSCP";
    PreemptionTimer = 52, "VMX-preemption timer expired";
    Invvpid = 53, "INVVPID";
    Wbinvd = 54, "WBINVD or WBNOINVD";
    Xsetbv = 55, "XSETBV";
    ApicWrite = 56, "APIC write";
    Rdrand = 57, "RDRAND";
    Invpcid = 58, "INVPCID";
    Vmfunc = 59, "VMFUNC";
    Encls = 60, "ENCLS";
    Rdseed = 61, "RDSEED";
    PageModificationLogFull = 62, "page-modification log full";
    Xsaves = 63, "XSAVES";
    Xrstors = 64, "XRSTORS";
    Pconfig = 65, "PCONFIG";
    SubPage = 66, "SPP-related event";
    Umwait = 67, "UMWAIT";
    Tpause = 68, "TPAUSE";
    Loadiwkey = 69, "LOADIWKEY";
    Enclv = 70, "ENCLV";
    EnqcmdPasid = 72, "ENQCMD PASID translation failure";
    EnqcmdsPasid = 73, "ENQCMDS PASID translation failure";
    BusLock = 74, "bus lock";
    InstructionTimeout = 75, "instruction timeout";
    Seamcall = 76, "SEAMCALL";
    Tdcall = 77, "TDCALL";
    Rdmsrlist = 78, "RDMSRLIST";
    Wrmsrlist = 79, "WRMSRLIST";
    Urdmsr = 80, "URDMSR";
    Uwrmsr = 81, "UWRMSR";
    RdmsrImmediate = 84, "RDMSR with an immediate";
    WrmsrnsImmediate = 85, "WRMSRNS with an immediate";
}

/// The value of [`crate::Field::ExitReason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitReason(pub u32);

impl ExitReason {
    /// Bits 15:0.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0 as u16
    }

    /// The basic reason, if it is one that this crate knows.
    #[inline]
    #[must_use]
    pub const fn reason(self) -> Option<Reason> {
        Reason::from_number(self.number())
    }

    /// The entry failed after the control and host-state checks: no guest instruction ran, guest state was not saved.
    #[must_use]
    pub const fn is_entry_failure(self) -> bool {
        self.0 & 1 << 31 != 0
    }

    /// The CPU was not in non-root operation when the exit happened (SMM monitors only).
    #[must_use]
    pub const fn is_from_root(self) -> bool {
        self.0 & 1 << 29 != 0
    }

    /// A monitor-trap-flag exit is pending.
    #[must_use]
    pub const fn has_pending_trap(self) -> bool {
        self.0 & 1 << 28 != 0
    }

    /// The guest was in an SGX enclave.
    #[must_use]
    pub const fn is_from_enclave(self) -> bool {
        self.0 & 1 << 27 != 0
    }

    /// The guest asserted a bus lock.
    #[must_use]
    pub const fn has_bus_lock(self) -> bool {
        self.0 & 1 << 26 != 0
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            Some(reason) => f.write_str(reason.name())?,
            None => write!(f, "unknown exit reason {}", self.number())?,
        }
        if self.is_entry_failure() && self.number() != 33 && self.number() != 34 && self.number() != 41 {
            f.write_str(" (VM-entry failure)")?;
        }
        Ok(())
    }
}

impl Reason {
    /// Whether [`crate::Field::ExitInstructionLength`] says how far RIP must move to get past the instruction (SDM 3C 28.2.5). For
    /// exceptions that takes `event`: only INT1, INT3 and INTO have a length; the length of a faulting instruction, #UD above all, is
    /// not defined.
    #[must_use]
    pub const fn has_instruction_length(self, event: Option<Event>) -> bool {
        use Reason as R;
        match self {
            R::ExceptionOrNmi => match event {
                Some(event) => {
                    matches!(
                        event.kind,
                        EventKind::SoftwareException | EventKind::PrivilegedSoftwareException
                    )
                }
                None => false,
            },
            R::Cpuid
            | R::Getsec
            | R::Hlt
            | R::Invd
            | R::Invlpg
            | R::Rdpmc
            | R::Rdtsc
            | R::Rsm
            | R::Vmcall
            | R::Vmclear
            | R::Vmlaunch
            | R::Vmptrld
            | R::Vmptrst
            | R::Vmread
            | R::Vmresume
            | R::Vmwrite
            | R::Vmxoff
            | R::Vmxon
            | R::ControlRegister
            | R::MovDr
            | R::Io
            | R::Rdmsr
            | R::Wrmsr
            | R::Mwait
            | R::Monitor
            | R::Pause
            | R::GdtrIdtrAccess
            | R::LdtrTrAccess
            | R::Invept
            | R::Rdtscp
            | R::Invvpid
            | R::Wbinvd
            | R::Xsetbv
            | R::Rdrand
            | R::Invpcid
            | R::Vmfunc
            | R::Encls
            | R::Rdseed
            | R::Xsaves
            | R::Xrstors
            | R::Pconfig
            | R::Umwait
            | R::Tpause
            | R::Loadiwkey
            | R::Enclv
            | R::Seamcall
            | R::Tdcall
            | R::Rdmsrlist
            | R::Wrmsrlist
            | R::Urdmsr
            | R::Uwrmsr
            | R::RdmsrImmediate
            | R::WrmsrnsImmediate => true,
            _ => false,
        }
    }
}
