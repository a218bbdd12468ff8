//! The time stamp counter as a measure of work.
//!
//! In an emulator that counts instructions a tick is an instruction; [`ticks_are_instructions`] finds out. Elsewhere it is time.

use core::arch::asm;

/// Ticks of this CPU's time stamp counter. Everything before is done when it is read, and nothing after has begun.
#[inline(always)]
#[must_use]
pub fn ticks() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the instructions are part of x86-64, and the kernel lets programs read the counter.
    unsafe {
        asm!("lfence", "rdtsc", "lfence", out("eax") low, out("edx") high, options(nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// True if the counter counts this CPU's instructions: a loop of a known number takes just as many ticks.
#[must_use]
pub fn ticks_are_instructions() -> bool {
    // More than once, since an interrupt may come in between.
    (0..8).any(|_| {
        let start = ticks();
        two_instructions(LOOPS);
        let elapsed = ticks() - start;
        (2 * LOOPS..2 * LOOPS + SLACK).contains(&elapsed)
    })
}

const LOOPS: u64 = 20_000;
/// Instructions around the loop.
const SLACK: u64 = 20;

/// Executes two instructions `count` times; `count` is above 0.
#[inline(always)]
fn two_instructions(count: u64) {
    // SAFETY: counts a register down to zero.
    unsafe {
        asm!("2:", "dec {0}", "jnz 2b", inout(reg) count => _, options(nomem, nostack));
    }
}
