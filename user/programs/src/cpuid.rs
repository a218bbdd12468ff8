//! The CPUID instruction, as the model of VMX asks for it.

use dragonet_rt::processor;
use vmx_model::cpuid::{Cpuid, Leaf};

/// The CPU that runs the program.
#[derive(Clone, Copy, Debug)]
pub struct Native;

impl Cpuid for Native {
    fn leaf(&self, leaf: u32, subleaf: u32) -> Leaf {
        let [eax, ebx, ecx, edx] = processor::cpuid(leaf, subleaf);
        Leaf { eax, ebx, ecx, edx }
    }
}
