//! What VMX is doing on each CPU: whether it is on, and which VMCS is current.

use super::instructions::{self, Current, Failure, VmxOn};
use crate::arch::cpu;
use crate::arch::irq::IrqsOff;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use x86_64::PhysAddr;

#[repr(align(128))]
struct CpuState {
    /// In VMX root operation.
    on: AtomicBool,
    /// Region of the current VMCS, 0 for none.
    current: AtomicU64,
}

/// Each is written by its own CPU only, with interrupts off.
static CPUS: [CpuState; cpu::MAX_CPUS] = [const {
    CpuState {
        on: AtomicBool::new(false),
        current: AtomicU64::new(0),
    }
}; cpu::MAX_CPUS];

/// Proof that VMX is on here; `None` if it is off.
#[inline]
pub fn on(irqs: &IrqsOff) -> Option<VmxOn<'_>> {
    let on = CPUS[cpu::index()].on.load(Ordering::Relaxed);
    // SAFETY: the flag follows the instructions, in the two functions below.
    on.then(|| unsafe { VmxOn::assume(irqs) })
}

/// Turns VMX on here, if it is not. False if the CPU refuses.
///
/// # Safety
/// 1. The CPU has VMX and IA32_FEATURE_CONTROL is locked with VMX outside of SMX enabled.
/// 2. `region` is a page that starts with the VMCS revision, and is used by nothing else until [`turn_off`] was called here.
pub unsafe fn turn_on(irqs: &IrqsOff, region: PhysAddr) -> bool {
    let state = &CPUS[cpu::index()];
    // SAFETY: the caller's promises; it is off.
    let done = state.on.load(Ordering::Relaxed) || unsafe { instructions::vmxon(irqs, region) };
    state.on.store(done, Ordering::Relaxed);
    done
}

/// Turns VMX off here, if it is on. Takes no lock: a CPU that is being stopped does this too. What VMCSs that are active here contain
/// is lost.
pub fn turn_off(irqs: &IrqsOff) {
    let state = &CPUS[cpu::index()];
    if state.on.swap(false, Ordering::Relaxed) {
        state.current.store(0, Ordering::Relaxed);
        // SAFETY: it was on.
        unsafe { instructions::vmxoff(irqs) };
    }
}

/// Makes the VMCS in `region` current here, if it is not.
///
/// # Errors
/// [`Failure`] for a region that the CPU does not take.
///
/// # Safety
/// 1. `region` is a VMCS region with the CPU's revision that the caller owns, clear or active on this CPU, and active on no other.
/// 2. It stays one until [`release`] was called for it here.
#[inline]
pub unsafe fn load<'on>(on: &'on VmxOn<'_>, region: PhysAddr) -> Result<Current<'on>, Failure> {
    let current = &CPUS[cpu::index()].current;
    if current.load(Ordering::Relaxed) != region.as_u64() {
        // SAFETY: the caller's promises.
        unsafe { instructions::vmptrld(on, region)? };
        current.store(region.as_u64(), Ordering::Relaxed);
    }
    // SAFETY: it is current: the word follows the instructions, here and in `release`.
    Ok(unsafe { Current::assume(on) })
}

/// Clears the VMCS in `region`, which is active here or clear: its owner may then load it anywhere, or free it. Nothing happens where
/// VMX is off, since then nothing is active.
///
/// # Safety
/// 1. `region` is a VMCS region that is active on no other CPU, and nobody loads it meanwhile.
pub unsafe fn release(irqs: &IrqsOff, region: PhysAddr) {
    let Some(on) = on(irqs) else { return };
    let current = &CPUS[cpu::index()].current;
    if current.load(Ordering::Relaxed) == region.as_u64() {
        current.store(0, Ordering::Relaxed);
    }
    // SAFETY: the caller's promise.
    let cleared = unsafe { instructions::vmclear(&on, region) };
    assert!(
        cleared.is_ok(),
        "VMCLEAR of {:#x} failed: {cleared:?}",
        region.as_u64()
    );
}
