//! Why there is no guest mode.

use super::Difference;
use crate::controls::Missing;
use arrayvec::ArrayVec;
use core::fmt;

/// One reason. Displayed as a line that tells an owner of the machine what is the matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// CPUID does not report VMX.
    NoVmx,
    /// IA32_FEATURE_CONTROL, with this value, is locked and does not allow VMXON.
    LockedOff(u64),
    /// Regions need more than a page: this many bytes.
    RegionTooLarge(u16),
    /// Regions must have this memory type, which is not write-back.
    RegionMemoryType(u8),
    /// "Activate secondary controls" cannot be 1.
    NoSecondaryControls,
    /// "Enable EPT" cannot be 1.
    NoEpt,
    /// EPT walks do not have four levels.
    NoFourLevelWalk,
    /// EPT tables cannot be write-back.
    NoWriteBackTables,
    /// No INVEPT.
    NoInvept,
    /// INVEPT has none of the types that drop a table.
    NoInveptType,
    /// "Host address-space size" cannot be 1.
    No64BitHost,
    /// "IA-32e mode guest" cannot be 1.
    No64BitGuest,
    /// Other controls that guests need do not have the setting.
    Controls(Missing),
    /// A CPU, by number, has no VMX or differs from the first one: guest threads move between CPUs.
    CpuDiffers(u32, Option<Difference>),
}

/// The reasons, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusals(pub(super) ArrayVec<Refusal, 12>);

impl Refusals {
    /// The reasons in the order of the boot path.
    pub fn iter(&self) -> impl Iterator<Item = &Refusal> {
        self.0.iter()
    }
}

impl From<Refusal> for Refusals {
    fn from(refusal: Refusal) -> Self {
        Refusals(ArrayVec::from_iter([refusal]))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoVmx => f.write_str("the CPU has no VMX, or something hides it (CPUID.1:ECX[5])"),
            Refusal::LockedOff(value) => write!(
                f,
                "the firmware has locked VMX off (IA32_FEATURE_CONTROL is {value:#x}); turn it on in the firmware's set-up"
            ),
            Refusal::RegionTooLarge(size) => write!(f, "a VMCS needs {size} bytes, more than a page"),
            Refusal::RegionMemoryType(kind) => write!(
                f,
                "VMX regions must have memory type {kind}, and this kernel's memory is write-back (6)"
            ),
            Refusal::NoSecondaryControls => {
                f.write_str("the CPU has no secondary processor-based controls, so it has no EPT")
            }
            Refusal::NoEpt => f.write_str("the CPU has no extended page tables (EPT)"),
            Refusal::NoFourLevelWalk => f.write_str("EPT does not have tables of four levels"),
            Refusal::NoWriteBackTables => f.write_str("EPT tables cannot be in write-back memory"),
            Refusal::NoInvept => f.write_str("the CPU has EPT and no INVEPT"),
            Refusal::NoInveptType => f.write_str("INVEPT can drop neither one table nor all"),
            Refusal::No64BitHost => f.write_str("exits cannot return to 64-bit mode"),
            Refusal::No64BitGuest => f.write_str("guests cannot be in 64-bit mode"),
            Refusal::Controls(missing) => write!(f, "guests need other controls: {missing}"),
            Refusal::CpuDiffers(cpu, None) => write!(f, "CPU {cpu} has no VMX, and the first one has"),
            Refusal::CpuDiffers(cpu, Some(difference)) => {
                write!(f, "CPU {cpu} differs from the first one in {difference}")
            }
        }
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, refusal) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{refusal}")?;
        }
        Ok(())
    }
}
