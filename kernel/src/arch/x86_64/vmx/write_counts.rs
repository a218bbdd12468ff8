//! In debug builds: how often each field of VMCSs was written. Tests assert with it that a path writes what it must and nothing else.

use super::super::cpu;
use core::sync::atomic::{AtomicU64, Ordering};
use vmx_model::Field;

/// Writes of one CPU.
#[repr(align(128))]
struct Writes([AtomicU64; Field::COUNT]);

static CPUS: [Writes; cpu::MAX_CPUS] =
    [const { Writes([const { AtomicU64::new(0) }; Field::COUNT]) }; cpu::MAX_CPUS];

/// Counts a write by this CPU.
pub(super) fn note(field: Field) {
    if let Some(count) = CPUS[cpu::index()].0.get(field.index()) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes of a field by all CPUs since boot.
pub fn writes_of(field: Field) -> u64 {
    let of = |cpu: &Writes| {
        cpu.0
            .get(field.index())
            .map_or(0, |count| count.load(Ordering::Relaxed))
    };
    CPUS.iter().map(of).sum()
}
