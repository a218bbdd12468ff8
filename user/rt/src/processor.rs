//! What a program asks the processor itself.

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;
use dragonet_abi::vmm::GUEST_CODE_SELECTOR;

/// CPUID: EAX, EBX, ECX, EDX.
#[must_use]
#[allow(unused_unsafe, reason = "safe in newer compilers")]
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    // SAFETY: every x86-64 has CPUID, and it answers for any number.
    let answer = unsafe { __cpuid_count(leaf, subleaf) };
    [answer.eax, answer.ebx, answer.ecx, answer.edx]
}

/// True if the calling thread is in guest mode.
#[must_use]
pub fn is_guest() -> bool {
    let selector: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cs", out(reg) selector, options(nomem, nostack, preserves_flags)) };
    selector == u64::from(GUEST_CODE_SELECTOR)
}
