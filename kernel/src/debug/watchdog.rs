//! Finds CPUs that are stuck with interrupts off.
//!
//! Every CPU takes a timer interrupt at least once a [`PERIOD`] and notes when (its heartbeat). Whichever CPU comes first each period
//! looks at the others. One whose heartbeat is late is asked by IPI; if it takes interrupts at all, that is a heartbeat. One that stays
//! silent for the limit is interrupted by NMI, and its registers and backtrace are printed, once until it moves again. The limit is
//! 10 seconds, or the command line's `watchdog=SECONDS`; 0 turns the watchdog off.

use super::log::last_line;
use super::panic::Addresses;
use crate::arch::apic::{self, Vector};
use crate::arch::irq::IrqsOff;
use crate::arch::{boot, cpu, nmi};
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicU64, Ordering};

/// Longest time between two timer interrupts of a CPU, in nanoseconds.
pub const PERIOD: u64 = SECOND;
const SECOND: u64 = 1_000_000_000;
const DEFAULT_LIMIT: u64 = 10;

static LAST_LOOK: AtomicU64 = AtomicU64::new(0);
/// Per CPU, the heartbeat after which it was last reported.
static REPORTED: [AtomicU64; cpu::MAX_CPUS] = [const { AtomicU64::new(u64::MAX) }; cpu::MAX_CPUS];

fn limit() -> u64 {
    let seconds = boot::option("watchdog")
        .and_then(|value| value.parse().ok())
        .unwrap_or(DEFAULT_LIMIT);
    seconds.saturating_mul(SECOND)
}

/// Looks at the other CPUs if that is due. Called by every timer interrupt.
pub fn look(_irqs: &IrqsOff, now: u64) {
    let last = LAST_LOOK.load(Ordering::Relaxed);
    if now < last.saturating_add(PERIOD)
        || LAST_LOOK
            .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
            .is_err()
    {
        return;
    }
    let unexplained = nmi::take_unexplained();
    if unexplained > 0 {
        last_line(format_args!(
            "dragonet: {unexplained} non-maskable interrupts that nobody sent"
        ));
    }
    let limit = limit();
    if limit == 0 {
        return;
    }
    // Nobody has looked for long: the whole machine was held up, as a virtual one can be. Every CPU is late then; ask them first.
    let held_up = now.saturating_sub(last) > limit / 2;
    let own = cpu::index();
    for other in cpu::all().filter(|other| other.index != own && other.is_online() && !other.is_idle()) {
        let heartbeat = other.last_heartbeat();
        let silent = now.saturating_sub(heartbeat);
        if silent > limit && !held_up && REPORTED[other.index].swap(heartbeat, Ordering::Relaxed) != heartbeat
        {
            report(other.index, silent);
        } else if silent > limit / 2 {
            apic::send(other.index, Vector::Ping);
        }
    }
}

/// Written past the log's locks: the stuck CPU may hold them.
fn report(index: usize, silent: u64) {
    last_line(format_args!(
        "dragonet: watchdog: cpu{index} has not taken interrupts for {} s",
        silent / SECOND
    ));
    let Some(report) = nmi::look_at(index) else {
        last_line(format_args!(
            "dragonet: watchdog: cpu{index} does not answer an NMI either"
        ));
        return;
    };
    last_line(format_args!(
        "dragonet: watchdog: cpu{index} rip {:#x} rsp {:#x} rflags {:#x}",
        report.instruction(),
        report.stack(),
        report.flags()
    ));
    let trace: ArrayVec<u64, { super::backtrace::MAX_DEPTH }> = report.trace().collect();
    last_line(format_args!("dragonet: watchdog: backtrace{}", Addresses(&trace)));
}
