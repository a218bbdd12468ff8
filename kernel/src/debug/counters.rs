//! Event counters, one set per CPU, so that counting shares no cache line between CPUs.
#![forbid(unsafe_code)]

use crate::arch::cpu;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::counters::{COUNTERS, Counter};

#[repr(align(128))]
struct CpuCounters([AtomicU64; COUNTERS]);

static CPUS: [CpuCounters; cpu::MAX_CPUS] =
    [const { CpuCounters([const { AtomicU64::new(0) }; COUNTERS]) }; cpu::MAX_CPUS];

/// Counts one event on this CPU.
pub fn count(counter: Counter) {
    count_n(counter, 1);
}

/// Counts `events` events on this CPU.
pub fn count_n(counter: Counter, events: u64) {
    CPUS[cpu::index()].0[counter as usize].fetch_add(events, Ordering::Relaxed);
}

/// Events that one CPU counted since boot; 0 for a CPU that is not there.
pub fn on_cpu(index: usize, counter: Counter) -> u64 {
    CPUS.get(index)
        .map_or(0, |cpu| cpu.0[counter as usize].load(Ordering::Relaxed))
}

/// Events that all CPUs counted since boot.
pub fn total(counter: Counter) -> u64 {
    CPUS.iter()
        .map(|cpu| cpu.0[counter as usize].load(Ordering::Relaxed))
        .sum()
}
