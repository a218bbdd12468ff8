//! Whether this machine has guest mode, and why not.

use crate::arch::cpu;
use crate::arch::vmx::recorded;
use crate::arch::vmx::tlb::{self, Kinds};
use core::fmt;
use dragonet_abi::Errno;
use dragonet_abi::vmm::{GUEST_PHYSICAL_END, VmxRegisters};
use spin::Once;
use vmx_model::Msr;
use vmx_model::capability::{Capabilities, Invept, Invvpid, Refusal, Refusals, Support};

/// What guest mode needs to know of the machine.
#[derive(Debug)]
pub struct Machine {
    /// The CPUs' capabilities, the same on all.
    pub capabilities: &'static Capabilities,
    /// What guests use of it.
    pub support: Support,
    /// Guests' page tables have identifiers.
    pub identifiers: bool,
}

/// Why there is no guest mode.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one, in a static")]
pub enum Unsupported {
    /// The CPU has no VMX.
    Cpu(&'static Refusal),
    /// It has, but not enough.
    Insufficient(Refusals),
    /// CPU with this number differs from the first.
    Differs(usize),
}

static MACHINE: Once<Result<Machine, Unsupported>> = Once::new();

/// The machine's guest mode, or the reason why there is none. Asked first when all CPUs are up.
pub fn support() -> Result<&'static Machine, &'static Unsupported> {
    MACHINE.call_once(find_out).as_ref()
}

#[expect(clippy::result_large_err, reason = "asked once, for a static")]
fn find_out() -> Result<Machine, Unsupported> {
    let Some(first) = recorded::recorded(0) else {
        return Err(Unsupported::Cpu(&Refusal::NoVmx));
    };
    let first = first.as_ref().map_err(Unsupported::Cpu)?;
    let support = first.support().map_err(Unsupported::Insufficient)?;
    for index in 1..cpu::count() {
        let other = recorded::recorded(index).and_then(|other| other.as_ref().ok());
        let same = other.is_some_and(|other| first.differences(other).next().is_none());
        if !same {
            return Err(Unsupported::Differs(index));
        }
    }
    tlb::configure(Kinds {
        one_nested: support.invept.has(Invept::SingleContext),
        tags: support.invvpid.is_some(),
        one_tag: support
            .invvpid
            .is_some_and(|types| types.has(Invvpid::SingleContext)),
        one_address: support.invvpid.is_some_and(|types| types.has(Invvpid::Address)),
    });
    let features = cpu::features();
    Ok(Machine {
        capabilities: first,
        identifiers: features.pcid && support.invvpid.is_some(),
        support,
    })
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unsupported::Cpu(refusal) => write!(f, "{refusal}"),
            Unsupported::Insufficient(refusals) => write!(f, "{refusals}"),
            Unsupported::Differs(index) => write!(f, "CPU {index} differs from CPU 0"),
        }
    }
}

/// Where guest-physical addresses end: nested tables and the CPU's own addresses both set a limit.
pub fn physical_end() -> u64 {
    match support() {
        Ok(machine) => GUEST_PHYSICAL_END.min(1 << machine.capabilities.cpu().physical_bits.min(63)),
        Err(_) => GUEST_PHYSICAL_END,
    }
}

/// What CPU number `index` says about VMX.
///
/// # Errors
/// ENOENT behind the last CPU.
pub fn registers_of_cpu(index: usize) -> Result<VmxRegisters, Errno> {
    if index >= cpu::count() {
        return Err(Errno::ENOENT);
    }
    let mut registers = VmxRegisters::default();
    if let Some(Ok(capabilities)) = recorded::recorded(index) {
        for (slot, &msr) in registers.values.iter_mut().zip(Msr::ALL) {
            *slot = capabilities.get(msr).unwrap_or(0);
        }
    }
    Ok(registers)
}
