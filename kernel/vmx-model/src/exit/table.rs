//! What is done about each exit: the table that the run loop follows and the book prints.

use super::{Event, EventKind, Reason};
use core::fmt;

/// What is done about an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The host handles it, by its own handler, before anything else.
    Host,
    /// The vkernel gets the exception: as a trap of its user, or, if it was running itself, as its own fault.
    Exception,
    /// The vkernel gets an undefined opcode (vector 6), RIP at the instruction.
    UndefinedOpcode,
    /// The vkernel gets a general-protection fault (vector 13, error code 0), RIP at the instruction.
    GeneralProtection,
    /// A host call of the vkernel. From one of its users it is an undefined opcode.
    HostCall,
    /// The answer of [`crate::cpuid`], and RIP moves on.
    Cpuid,
    /// A fault of the process at the guest-physical address, which is its own address.
    AddressSpaceFault,
    /// The process ends, with a dump.
    EndProcess,
}

impl Action {
    /// For the book.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Action::Host => "the host's own handler runs at once",
            Action::Exception => "exception for the vkernel",
            Action::UndefinedOpcode => "undefined opcode for the vkernel",
            Action::GeneralProtection => "general-protection fault for the vkernel",
            Action::HostCall => "host call; from a user of the vkernel an undefined opcode",
            Action::Cpuid => "answered by policy",
            Action::AddressSpaceFault => "fault of the process's address space",
            Action::EndProcess => "the process ends with a dump",
        }
    }
}

/// One exit: whether a guest thread under [`crate::controls::guest`]'s controls can meet it, and what is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitKind {
    /// The exit.
    pub reason: Reason,
    /// It can happen.
    pub possible: bool,
    /// By what, or why not.
    pub cause: &'static str,
    /// What is done. For exceptions see [`of_event`].
    pub action: Action,
}

const MACHINE_CHECK: u8 = 18;

/// What is done about an exception or NMI.
#[must_use]
pub const fn of_event(event: Event) -> Action {
    match event.kind {
        EventKind::Nmi => Action::Host,
        EventKind::HardwareException if event.vector == MACHINE_CHECK => Action::Host,
        EventKind::HardwareException
        | EventKind::SoftwareException
        | EventKind::PrivilegedSoftwareException => Action::Exception,
        EventKind::ExternalInterrupt | EventKind::SoftwareInterrupt | EventKind::Other => Action::EndProcess,
    }
}

/// What is done about an exit for another reason. A reason that is not known ends the process.
#[inline]
#[must_use]
pub const fn of_reason(reason: Option<Reason>) -> Action {
    match reason {
        Some(reason) => ExitKind::of(reason).action,
        None => Action::EndProcess,
    }
}

const PRIVILEGED: &str = "the instruction is privileged: at CPL 3 a general-protection fault";
const DEBUG: &str =
    "the instruction exits before its privilege is checked, where the control is 1 (SDM 3C 26.1.3)";
const XSETBV: &str = "privileged, but Bochs lets the instruction exit before it checks that";
const MONITOR: &str = "undefined opcode at CPL 3";
const OFF: &str = "its control is 0";
const UNDEFINED: &str = "its control is 0: undefined opcode";
const APIC: &str = "no APIC is virtualized";
const SMM: &str = "no SMM monitor";
const VMX_INSTRUCTION: &str = "the instruction exits before its privilege is checked";
const TABLES: &str = "SGDT, SIDT, SLDT, STR where there is no UMIP and the control is 1";
const ENTRY: &str = "a bug: see the checker's complaints";
const TDX: &str = "the instruction, on a CPU with TDX";

impl ExitKind {
    /// The entry for a reason.
    #[inline]
    #[must_use]
    pub const fn of(reason: Reason) -> ExitKind {
        use Action as A;
        use Reason as R;
        let (possible, cause, action) = match reason {
            R::ExceptionOrNmi => (
                true,
                "every exception, by the exception bitmap; an NMI of the host",
                A::Exception,
            ),
            R::ExternalInterrupt => (true, "an interrupt of the host", A::Host),
            R::TripleFault => (
                false,
                "every exception exits before it is delivered",
                A::EndProcess,
            ),
            R::Init => (false, "no CPU sends INIT to one that runs", A::EndProcess),
            R::StartupIpi => (
                false,
                "the guest is never in the wait-for-SIPI state",
                A::EndProcess,
            ),
            R::IoSmi | R::OtherSmi | R::Rsm => (false, SMM, A::EndProcess),
            R::InterruptWindow
            | R::NmiWindow
            | R::MonitorTrapFlag
            | R::Rdtsc
            | R::Rdtscp
            | R::Pause
            | R::PreemptionTimer
            | R::Rdrand
            | R::Rdseed
            | R::PageModificationLogFull
            | R::SubPage
            | R::EnqcmdPasid
            | R::EnqcmdsPasid
            | R::BusLock
            | R::InstructionTimeout => (false, OFF, A::EndProcess),
            R::TaskSwitch => (false, "there are none in 64-bit mode", A::EndProcess),
            R::Cpuid => (true, "the instruction", A::Cpuid),
            R::Getsec => (false, "CR4.SMXE is 0: undefined opcode", A::UndefinedOpcode),
            R::Hlt
            | R::Invd
            | R::Invlpg
            | R::Rdpmc
            | R::ControlRegister
            | R::Rdmsr
            | R::Wrmsr
            | R::Wbinvd
            | R::Rdmsrlist
            | R::Wrmsrlist
            | R::RdmsrImmediate
            | R::WrmsrnsImmediate => (false, PRIVILEGED, A::GeneralProtection),
            R::MovDr => (true, DEBUG, A::GeneralProtection),
            R::Xsetbv => (true, XSETBV, A::GeneralProtection),
            R::Mwait | R::Monitor => (false, MONITOR, A::UndefinedOpcode),
            R::Io => (
                false,
                "IOPL is 0 and the task state segment has no I/O bitmap: a general-protection fault",
                A::GeneralProtection,
            ),
            R::Vmcall => (true, "the instruction, whatever runs", A::HostCall),
            R::Vmclear
            | R::Vmlaunch
            | R::Vmptrld
            | R::Vmptrst
            | R::Vmread
            | R::Vmresume
            | R::Vmwrite
            | R::Vmxoff
            | R::Vmxon
            | R::Invept
            | R::Invvpid => (true, VMX_INSTRUCTION, A::UndefinedOpcode),
            R::Seamcall | R::Tdcall => (true, TDX, A::UndefinedOpcode),
            R::InvalidGuestState | R::MsrLoading => (false, ENTRY, A::EndProcess),
            R::EntryMachineCheck => (true, "a machine check during the entry", A::Host),
            R::TprBelowThreshold | R::ApicAccess | R::VirtualizedEoi | R::ApicWrite => {
                (false, APIC, A::EndProcess)
            }
            R::GdtrIdtrAccess | R::LdtrTrAccess => (true, TABLES, A::GeneralProtection),
            R::EptViolation => (
                true,
                "an access that the nested page table does not allow",
                A::AddressSpaceFault,
            ),
            R::EptMisconfiguration => (false, "a bug: an entry with reserved bits", A::EndProcess),
            R::Invpcid
            | R::Vmfunc
            | R::Encls
            | R::Enclv
            | R::Xsaves
            | R::Xrstors
            | R::Pconfig
            | R::Umwait
            | R::Tpause
            | R::Loadiwkey
            | R::Urdmsr
            | R::Uwrmsr => (false, UNDEFINED, A::UndefinedOpcode),
        };
        ExitKind {
            reason,
            possible,
            cause,
            action,
        }
    }
}

/// Writes the table for the book: a row of Markdown for each exit, those that can happen first.
///
/// # Errors
/// Those of `out`.
pub fn write_markdown(out: &mut impl fmt::Write) -> fmt::Result {
    out.write_str("| exit | name | can it happen | what is done |\n|---|---|---|---|\n")?;
    for possible in [true, false] {
        let rows = Reason::ALL.iter().map(|&reason| ExitKind::of(reason));
        for row in rows.filter(|row| row.possible == possible) {
            let answer = if possible { "yes" } else { "no" };
            let (number, name, cause) = (row.reason as u16, row.reason.name(), row.cause);
            let text = match row.reason {
                Reason::ExceptionOrNmi => {
                    "NMI and machine check: the host's own handler runs at once; else exception for the vkernel"
                }
                _ => row.action.text(),
            };
            writeln!(out, "| {number} | {name} | {answer}: {cause} | {text} |")?;
        }
    }
    Ok(())
}
