//! What each CPU says about VMX, read when it starts.

use crate::arch::cpu;
use core::arch::x86_64::__cpuid_count;
use spin::Once;
use vmx_model::capability::{Capabilities, Cpu, FeatureControl, Refusal};
use vmx_model::cpuid::{Cpuid, Leaf};
use vmx_model::{Msr, Msrs};
use x86_64::registers::model_specific;

static CPUS: [Once<Result<Capabilities, Refusal>>; cpu::MAX_CPUS] = [const { Once::new() }; cpu::MAX_CPUS];

/// The CPUID instruction of the CPU that runs.
#[derive(Clone, Copy, Debug)]
pub struct NativeCpuid;

impl Cpuid for NativeCpuid {
    #[allow(unused_unsafe, reason = "safe in newer compilers")]
    fn leaf(&self, leaf: u32, subleaf: u32) -> Leaf {
        // SAFETY: every x86-64 has CPUID, and it answers for any number.
        let answer = unsafe { __cpuid_count(leaf, subleaf) };
        Leaf {
            eax: answer.eax,
            ebx: answer.ebx,
            ecx: answer.ecx,
            edx: answer.edx,
        }
    }
}

struct NativeMsrs;

impl Msrs for NativeMsrs {
    fn read(&self, msr: Msr) -> u64 {
        // SAFETY: `Capabilities::read` asks only for registers that the CPU has.
        unsafe { model_specific::Msr::new(msr.address()).read() }
    }
}

/// Reads this CPU's capabilities. Called once on each CPU, when it starts.
pub(in crate::arch::x86_64) fn record(index: usize) {
    CPUS[index].call_once(|| Capabilities::read(Cpu::read(&NativeCpuid), &NativeMsrs));
}

/// What CPU number `index` said; `None` if there is no such CPU.
pub fn recorded(index: usize) -> Option<&'static Result<Capabilities, Refusal>> {
    CPUS.get(index)?.get()
}

/// Sets IA32_FEATURE_CONTROL on this CPU so that VMXON is allowed, and locks it, if the firmware has left that to us
/// (SDM 3C 24.7). It stays so until the next reset.
pub fn allow(feature_control: FeatureControl) {
    if let Some(value) = feature_control.to_write() {
        // SAFETY: the register is there and not locked; the value only allows VMXON and sets the lock.
        unsafe { model_specific::Msr::new(Msr::FeatureControl.address()).write(value) };
    }
}
