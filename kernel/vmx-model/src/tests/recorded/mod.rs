//! Capability registers and CPUID leaves of CPU models that Bochs 2.7 has, as the kernel read them there with RDMSR and CPUID on one CPU,
//! all registers that exist by SDM 3D appendix A and all leaves up to the two maxima. Leaves that are zero are left out. Bochs' firmware
//! locks IA32_FEATURE_CONTROL with VMX on.

use crate::capability::Cpu;
use crate::cpuid::{Cpuid, Leaf};
use crate::{Capabilities, Msr, Msrs};

mod haswell_4770;
mod icelake_u;
mod lynnfield_750;
mod penryn_t9600;
mod sandy_bridge_2600k;
mod skylake_x;
mod tigerlake;

/// What was read on one model.
pub(crate) struct Record {
    pub(crate) model: &'static str,
    /// Address and value.
    pub(crate) registers: &'static [(u32, u64)],
    /// Leaf, sub-leaf, EAX, EBX, ECX, EDX.
    pub(crate) leaves: &'static [(u32, u32, [u32; 4])],
}

pub(crate) use haswell_4770::RECORD as HASWELL_4770;
pub(crate) use icelake_u::RECORD as ICELAKE_U;
pub(crate) use lynnfield_750::RECORD as LYNNFIELD_750;
pub(crate) use penryn_t9600::RECORD as PENRYN_T9600;
pub(crate) use sandy_bridge_2600k::RECORD as SANDY_BRIDGE_2600K;
pub(crate) use skylake_x::RECORD as SKYLAKE_X;
pub(crate) use tigerlake::RECORD as TIGERLAKE;

/// Every record.
pub(crate) static ALL: &[&Record] = &[
    &SKYLAKE_X,
    &ICELAKE_U,
    &HASWELL_4770,
    &SANDY_BRIDGE_2600K,
    &LYNNFIELD_750,
    &PENRYN_T9600,
    &TIGERLAKE,
];

/// Those of ALL that can run guest threads.
pub(crate) fn usable() -> impl Iterator<Item = &'static Record> {
    ALL.iter()
        .copied()
        .filter(|record| record.model != PENRYN_T9600.model)
}

impl Msrs for Record {
    /// As RDMSR: a register that does not exist is a fault.
    fn read(&self, msr: Msr) -> u64 {
        self.registers
            .iter()
            .find(|&&(address, _)| address == msr.address())
            .unwrap_or_else(|| panic!("{} has no {}", self.model, msr.name()))
            .1
    }
}

impl Cpuid for Record {
    fn leaf(&self, leaf: u32, subleaf: u32) -> Leaf {
        let found = self
            .leaves
            .iter()
            .find(|&&(number, sub, _)| number == leaf && sub == subleaf);
        found.map_or(Leaf::ZERO, |&(_, _, [eax, ebx, ecx, edx])| Leaf {
            eax,
            ebx,
            ecx,
            edx,
        })
    }
}

impl Record {
    pub(crate) fn cpu(&self) -> Cpu {
        Cpu::read(self)
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        Capabilities::read(self.cpu(), self).expect("every recorded model has VMX")
    }

    /// The capabilities with registers changed.
    pub(crate) fn with(&self, changes: &[(Msr, u64)]) -> Capabilities {
        let read = |msr: Msr| {
            let changed = changes.iter().find(|&&(register, _)| register == msr);
            changed.map_or_else(|| self.read(msr), |&(_, value)| value)
        };
        Capabilities::read(self.cpu(), &read).expect("every recorded model has VMX")
    }
}
