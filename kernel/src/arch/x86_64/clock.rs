//! Time: nanoseconds since boot from the time stamp counter, and the calendar time at boot.

use super::cpu;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const NANOSECONDS: u64 = 1_000_000_000;

/// TSC at kernel entry: time 0.
static START: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds a tick, times 2^32; 0 before calibration.
static SCALE: AtomicU64 = AtomicU64::new(0);
static FREQUENCY: AtomicU64 = AtomicU64::new(0);
static REALTIME_AT_BOOT: AtomicU64 = AtomicU64::new(0);
/// Some CPU's TSC differs from the boot CPU's.
static UNEVEN: AtomicBool = AtomicBool::new(false);
/// With uneven counters, the latest time that anyone was told.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// The time stamp counter. Earlier loads are done when it is read, so that time does not seem to run backwards between CPUs
/// (SDM 2B, RDTSC).
#[inline]
pub fn tsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: no CPU is used that lacks the instructions.
    unsafe {
        asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Marks the beginning of time.
pub(super) fn start() {
    START.store(tsc(), Ordering::Relaxed);
}

/// Sets the frequency that calibration found, in Hz.
pub(super) fn set_frequency(frequency: u64) {
    let scale = (u128::from(NANOSECONDS) << 32) / u128::from(frequency);
    FREQUENCY.store(frequency, Ordering::Relaxed);
    SCALE.store(scale as u64, Ordering::Release);
}

/// Ticks of the TSC a second; 0 before calibration.
pub fn tsc_frequency() -> u64 {
    FREQUENCY.load(Ordering::Relaxed)
}

/// Nanoseconds since boot; never goes back, on whatever CPU it is read. 0 before calibration.
pub fn now() -> u64 {
    let scale = SCALE.load(Ordering::Acquire);
    if scale == 0 {
        return 0;
    }
    if UNEVEN.load(Ordering::Relaxed) {
        // Offsets are known to within a cache line's journey; the maximum hides the rest.
        let guard = super::irq::IrqGuard::new();
        let offset = cpu::slot(guard.witness()).tsc_offset.load(Ordering::Relaxed);
        let time = nanoseconds(tsc().wrapping_add(offset), scale);
        return LATEST.fetch_max(time, Ordering::Relaxed).max(time);
    }
    nanoseconds(tsc(), scale)
}

fn nanoseconds(ticks: u64, scale: u64) -> u64 {
    let since = ticks.wrapping_sub(START.load(Ordering::Relaxed));
    // A counter a little behind the boot CPU's at time 0 must not wrap.
    let since = if since >> 63 == 1 { 0 } else { since };
    time_of(since, scale)
}

/// Time of a tick since time 0, rounded down.
pub(super) fn time_of(ticks: u64, scale: u64) -> u64 {
    ((u128::from(ticks) * u128::from(scale)) >> 32) as u64
}

/// The first tick since time 0 for which `time_of` gives `time` or more. The division is by the same scale and not a second
/// factor: their rounding errors would add up with the uptime, and a timer set so would fire again and again before its time.
pub(super) fn ticks_since_start(time: u64, scale: u64) -> u64 {
    let ticks = (u128::from(time) << 32).div_ceil(u128::from(scale.max(1)));
    u64::try_from(ticks).unwrap_or(u64::MAX).min(u64::MAX >> 1)
}

/// This CPU's TSC at a time, rounded up. Interrupts are off.
pub(super) fn ticks_at(time: u64) -> u64 {
    let ticks = ticks_since_start(time, SCALE.load(Ordering::Relaxed));
    let absolute = ticks.saturating_add(START.load(Ordering::Relaxed));
    if !UNEVEN.load(Ordering::Relaxed) {
        return absolute;
    }
    let guard = super::irq::IrqGuard::new();
    absolute.wrapping_sub(cpu::slot(guard.witness()).tsc_offset.load(Ordering::Relaxed))
}

/// Notes what must be added to this CPU's TSC to get the boot CPU's.
pub(super) fn set_offset(offset: u64) {
    let guard = super::irq::IrqGuard::new();
    cpu::slot(guard.witness())
        .tsc_offset
        .store(offset, Ordering::Relaxed);
    UNEVEN.store(true, Ordering::Release);
}

/// True if the CPUs' counters differ and are corrected.
pub fn is_uneven() -> bool {
    UNEVEN.load(Ordering::Relaxed)
}

/// The firmware's calendar clock when time was 0, in nanoseconds since 1970-01-01 UTC; 0 if it could not be read.
pub fn realtime_at_boot() -> u64 {
    REALTIME_AT_BOOT.load(Ordering::Relaxed)
}

/// Sets the calendar time from `seconds` since 1970, read just now.
pub(super) fn set_realtime(seconds: u64) {
    let at_boot = seconds.saturating_mul(NANOSECONDS).saturating_sub(now());
    REALTIME_AT_BOOT.store(at_boot, Ordering::Relaxed);
}

/// Spins for `duration` nanoseconds. For hardware that must be waited for; everything else sleeps.
pub fn spin_for(duration: u64) {
    let end = now().saturating_add(duration);
    while now() < end {
        core::hint::spin_loop();
    }
}
