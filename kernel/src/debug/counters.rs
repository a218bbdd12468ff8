//! Event counters, one set per CPU, so that counting shares no cache line between CPUs and needs no locked instruction.
#![forbid(unsafe_code)]

use crate::arch::cpu;
use dragonet_abi::counters::Counter;

/// Counts one event on this CPU.
#[inline(always)]
pub fn count(counter: Counter) {
    cpu::add_events(counter, 1);
}

/// Counts `events` events on this CPU.
#[inline(always)]
pub fn count_n(counter: Counter, events: u64) {
    cpu::add_events(counter, events);
}

/// Events that one CPU counted since boot; 0 for a CPU that is not there.
pub fn on_cpu(index: usize, counter: Counter) -> u64 {
    cpu::all().nth(index).map_or(0, |cpu| cpu.events(counter))
}

/// Events that all CPUs counted since boot.
pub fn total(counter: Counter) -> u64 {
    cpu::all().map(|cpu| cpu.events(counter)).sum()
}
