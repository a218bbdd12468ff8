//! In what two CPUs differ. Guest threads move between CPUs, and a VMCS is filled for one set of capabilities.

use super::{Capabilities, Refusal};
use crate::Msr;
use crate::controls::Group;
use core::fmt;

/// One difference. Displayed as a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    subject: Subject,
    /// The value on the first CPU, `None` if it has no such register.
    pub first: Option<u64>,
    /// The value on the second CPU.
    pub second: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Register(Msr),
    PhysicalBits,
    LinearBits,
    NoExecute,
}

impl Capabilities {
    /// In what `other` differs from this CPU. Whether IA32_FEATURE_CONTROL is locked with VMX on or can still be set is no difference.
    pub fn differences<'a>(&'a self, other: &'a Capabilities) -> impl Iterator<Item = Difference> + 'a {
        let facts = [
            (
                Subject::PhysicalBits,
                u64::from(self.cpu.physical_bits),
                u64::from(other.cpu.physical_bits),
            ),
            (
                Subject::LinearBits,
                u64::from(self.cpu.linear_bits),
                u64::from(other.cpu.linear_bits),
            ),
            (
                Subject::NoExecute,
                u64::from(self.cpu.no_execute),
                u64::from(other.cpu.no_execute),
            ),
        ];
        let facts = facts.map(|(subject, first, second)| Difference {
            subject,
            first: Some(first),
            second: Some(second),
        });
        let registers = Msr::ALL.iter().map(|&msr| Difference {
            subject: Subject::Register(msr),
            first: self.get(msr),
            second: other.get(msr),
        });
        let both_usable = self.feature_control().allows_vmx() && other.feature_control().allows_vmx();
        facts.into_iter().chain(registers).filter(move |difference| {
            let locks_only = difference.subject == Subject::Register(Msr::FeatureControl) && both_usable;
            difference.first != difference.second && !locks_only
        })
    }
}

/// Checks that the other CPUs are like the first one. They come with their numbers, and `None` for one without VMX.
///
/// # Errors
/// [`Refusal::CpuDiffers`] for the first that is not, with the first difference.
pub fn check_alike<'a>(
    first: &Capabilities,
    others: impl IntoIterator<Item = (u32, Option<&'a Capabilities>)>,
) -> Result<(), Refusal> {
    for (cpu, other) in others {
        let Some(other) = other else {
            return Err(Refusal::CpuDiffers(cpu, None));
        };
        if let Some(difference) = first.differences(other).next() {
            return Err(Refusal::CpuDiffers(cpu, Some(difference)));
        }
    }
    Ok(())
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.subject {
            Subject::Register(msr) => f.write_str(msr.name())?,
            Subject::PhysicalBits => f.write_str("physical-address width")?,
            Subject::LinearBits => f.write_str("linear-address width")?,
            Subject::NoExecute => f.write_str("no-execute pages")?,
        }
        f.write_str(": ")?;
        value(f, self.first)?;
        f.write_str(" and ")?;
        value(f, self.second)?;
        if let (Subject::Register(msr), Some(first), Some(second)) = (self.subject, self.first, self.second)
            && let Some(group) = group_of(msr)
        {
            let bits = first ^ second;
            write!(f, " ({})", group.names(bits as u32 | (bits >> 32) as u32))?;
        }
        Ok(())
    }
}

fn value(f: &mut fmt::Formatter<'_>, value: Option<u64>) -> fmt::Result {
    match value {
        Some(value) => write!(f, "{value:#x}"),
        None => f.write_str("none"),
    }
}

/// The controls that a register is about.
fn group_of(msr: Msr) -> Option<Group> {
    match msr {
        Msr::PinControls | Msr::TruePinControls => Some(Group::Pin),
        Msr::PrimaryControls | Msr::TruePrimaryControls => Some(Group::Primary),
        Msr::SecondaryControls => Some(Group::Secondary),
        Msr::ExitControls | Msr::TrueExitControls => Some(Group::Exit),
        Msr::EntryControls | Msr::TrueEntryControls => Some(Group::Entry),
        _ => None,
    }
}
