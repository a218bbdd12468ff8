//! What a CPU and its firmware allow: decoding of the capability registers, whether that is enough for guest threads, why not,
//! and in what two CPUs differ.
//!
//! The kernel calls [`Capabilities::read`] on every CPU, [`check_alike`] with all of them and [`Capabilities::support`] on one, and refuses
//! guest mode with the [`Refusal`]s that it gets. The shell's `vmm` prints [`Report`].

mod basic;
mod difference;
mod ept_vpid;
mod feature_control;
mod fixed_bits;
mod misc;
mod refusal;
mod report;
mod support;

pub use basic::{Basic, RegionError};
pub use difference::{Difference, check_alike};
pub use ept_vpid::{EptVpid, Invept, InveptTypes, Invvpid, InvvpidTypes};
pub use feature_control::FeatureControl;
pub use fixed_bits::FixedBits;
pub(crate) use fixed_bits::{CR0_PE, CR0_PG, CR0_WP, CR4_CET, CR4_PAE};
pub use misc::Misc;
pub use refusal::{Refusal, Refusals};
pub use report::Report;
pub use support::Support;

use crate::controls::{Allowed, Group, PrimaryControls, SecondaryControls};
use crate::cpuid::Cpuid;
use crate::{Msr, Msrs};

/// What VMX's rules need to know from CPUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// VMX instructions (leaf 1, ECX[5]).
    pub vmx: bool,
    /// Width of physical addresses in bits (leaf 80000008H, EAX[7:0]; 36 without that leaf).
    pub physical_bits: u8,
    /// Width of linear addresses in bits (leaf 80000008H, EAX[15:8]; 48 without that leaf).
    pub linear_bits: u8,
    /// No-execute pages (leaf 80000001H, EDX[20]).
    pub no_execute: bool,
}

impl Cpu {
    /// Reads the facts.
    #[must_use]
    pub fn read(cpuid: &impl Cpuid) -> Cpu {
        let has = |leaf: u32| cpuid.leaf(leaf & 1 << 31, 0).eax >= leaf;
        let widths = match has(0x8000_0008) {
            true => cpuid.leaf(0x8000_0008, 0).eax,
            false => 48 << 8 | 36,
        };
        Cpu {
            vmx: has(1) && cpuid.leaf(1, 0).ecx & 1 << 5 != 0,
            physical_bits: widths as u8,
            linear_bits: (widths >> 8) as u8,
            no_execute: has(0x8000_0001) && cpuid.leaf(0x8000_0001, 0).edx & 1 << 20 != 0,
        }
    }

    /// Whether `address` has no bit beyond the physical-address width.
    #[must_use]
    pub const fn is_physical(&self, address: u64) -> bool {
        self.physical_bits >= 64 || address >> self.physical_bits == 0
    }

    /// Whether `address` is canonical: the bits beyond the linear-address width equal the highest one within.
    #[must_use]
    pub const fn is_canonical(&self, address: u64) -> bool {
        if self.linear_bits == 0 || self.linear_bits >= 64 {
            return true;
        }
        let shift = 64 - self.linear_bits as u32;
        ((address << shift) as i64 >> shift) as u64 == address
    }
}

/// The capability registers of a CPU that has VMX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    cpu: Cpu,
    /// By [`Msr::index`]; `None` for a register that does not exist.
    registers: [Option<u64>; Msr::ALL.len()],
}

impl Capabilities {
    /// Reads the registers of a CPU, each only if others say that it exists (SDM 3D A.1, A.3.3, A.10, A.11).
    ///
    /// # Errors
    /// [`Refusal::NoVmx`], and no register is read.
    pub fn read(cpu: Cpu, msrs: &impl Msrs) -> Result<Capabilities, Refusal> {
        if !cpu.vmx {
            return Err(Refusal::NoVmx);
        }
        let mut found = Capabilities {
            cpu,
            registers: [None; Msr::ALL.len()],
        };
        for &msr in Msr::ALL {
            if found.exists(msr) {
                found.registers[msr.index()] = Some(msrs.read(msr));
            }
        }
        Ok(found)
    }

    /// Whether a register exists, given those before it.
    fn exists(&self, msr: Msr) -> bool {
        let may = |group, control: u32| self.allowed(group).may & control != 0;
        match msr {
            Msr::SecondaryControls => may(Group::Primary, PrimaryControls::SECONDARY_CONTROLS.bits()),
            Msr::EptVpid => {
                let either = SecondaryControls::EPT.union(SecondaryControls::VPID);
                may(Group::Secondary, either.bits())
            }
            Msr::VmFunctions => may(Group::Secondary, SecondaryControls::VM_FUNCTIONS.bits()),
            Msr::TruePinControls
            | Msr::TruePrimaryControls
            | Msr::TrueExitControls
            | Msr::TrueEntryControls => self.basic().has_true_controls(),
            _ => true,
        }
    }

    /// The value of a register, if it exists.
    #[must_use]
    pub fn get(&self, msr: Msr) -> Option<u64> {
        self.registers.get(msr.index()).copied().flatten()
    }

    fn value(&self, msr: Msr) -> u64 {
        self.get(msr).unwrap_or(0)
    }

    /// The facts from CPUID.
    #[must_use]
    pub const fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// IA32_FEATURE_CONTROL.
    #[must_use]
    pub fn feature_control(&self) -> FeatureControl {
        FeatureControl::from_register(self.value(Msr::FeatureControl))
    }

    /// IA32_VMX_BASIC.
    #[must_use]
    pub fn basic(&self) -> Basic {
        Basic(self.value(Msr::Basic))
    }

    /// IA32_VMX_MISC.
    #[must_use]
    pub fn misc(&self) -> Misc {
        Misc(self.value(Msr::Misc))
    }

    /// IA32_VMX_EPT_VPID_CAP, empty if it does not exist.
    #[must_use]
    pub fn ept_vpid(&self) -> EptVpid {
        EptVpid::from_bits_retain(self.value(Msr::EptVpid))
    }

    /// Bits of CR0 in VMX operation.
    #[must_use]
    pub fn cr0(&self) -> FixedBits {
        FixedBits {
            must: self.value(Msr::Cr0Fixed0),
            may: self.value(Msr::Cr0Fixed1),
        }
    }

    /// Bits of CR4 in VMX operation.
    #[must_use]
    pub fn cr4(&self) -> FixedBits {
        FixedBits {
            must: self.value(Msr::Cr4Fixed0),
            may: self.value(Msr::Cr4Fixed1),
        }
    }

    /// Allowed settings of a control field.
    #[must_use]
    pub fn allowed(&self, group: Group) -> Allowed {
        let (plain, exact) = match group {
            Group::Pin => (Msr::PinControls, Msr::TruePinControls),
            Group::Primary => (Msr::PrimaryControls, Msr::TruePrimaryControls),
            Group::Exit => (Msr::ExitControls, Msr::TrueExitControls),
            Group::Entry => (Msr::EntryControls, Msr::TrueEntryControls),
            Group::Secondary => {
                return self
                    .get(Msr::SecondaryControls)
                    .map_or(Allowed::NONE, |value| Allowed::from_msrs(value, None));
            }
        };
        Allowed::from_msrs(self.value(plain), self.get(exact))
    }

    /// The bits of IA32_EFER that are not reserved: SCE, LME, LMA and, where there are no-execute pages, NXE (SDM 3A 2.2.1).
    #[must_use]
    pub const fn efer_bits(&self) -> u64 {
        1 | 1 << 8 | 1 << 10 | (self.cpu.no_execute as u64) << 11
    }
}
