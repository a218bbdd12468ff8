//! Non-maskable interrupts between CPUs: stopping them all, and looking at one that no longer takes interrupts.
//!
//! The handler takes no lock and prints nothing: the CPU it interrupts may hold any lock. It leaves registers and a backtrace in
//! its CPU's [`Report`], and the CPU that asked prints them.

use super::trap::TrapFrame;
use super::{apic, clock, cpu, irq, power, vmx};
use crate::debug::backtrace;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Halt for good.
const STOP: u32 = 1 << 0;
/// Leave a report and go on.
const REPORT: u32 = 1 << 1;

/// How long a CPU may take to answer, in nanoseconds, and turns of the waiting loop in case the clock does not run.
const PATIENCE: u64 = 2_000_000_000;
const TURNS: u32 = 100_000_000;
/// Addresses of a report's backtrace.
const DEPTH: usize = 16;

/// What an interrupted CPU was doing.
#[derive(Debug)]
pub struct Report {
    complete: AtomicBool,
    instruction: AtomicU64,
    stack: AtomicU64,
    flags: AtomicU64,
    user: AtomicBool,
    depth: AtomicUsize,
    trace: [AtomicU64; DEPTH],
}

impl Report {
    const fn new() -> Self {
        Report {
            complete: AtomicBool::new(false),
            instruction: AtomicU64::new(0),
            stack: AtomicU64::new(0),
            flags: AtomicU64::new(0),
            user: AtomicBool::new(false),
            depth: AtomicUsize::new(0),
            trace: [const { AtomicU64::new(0) }; DEPTH],
        }
    }

    fn fill(&self, frame: &TrapFrame) {
        self.instruction.store(frame.rip, Ordering::Relaxed);
        self.stack.store(frame.rsp, Ordering::Relaxed);
        self.flags.store(frame.rflags, Ordering::Relaxed);
        self.user.store(frame.is_user(), Ordering::Relaxed);
        let mut depth = 0;
        if !frame.is_user() {
            backtrace::walk(frame.rip, frame.rsp, frame.rbp, |address| {
                if let Some(slot) = self.trace.get(depth) {
                    slot.store(address, Ordering::Relaxed);
                    depth += 1;
                }
            });
        }
        self.depth.store(depth, Ordering::Relaxed);
        self.complete.store(true, Ordering::Release);
    }

    /// Instruction pointer.
    pub fn instruction(&self) -> u64 {
        self.instruction.load(Ordering::Relaxed)
    }

    /// Stack pointer.
    pub fn stack(&self) -> u64 {
        self.stack.load(Ordering::Relaxed)
    }

    /// RFLAGS.
    pub fn flags(&self) -> u64 {
        self.flags.load(Ordering::Relaxed)
    }

    /// True if a program was running.
    pub fn is_user(&self) -> bool {
        self.user.load(Ordering::Relaxed)
    }

    /// The backtrace, innermost first.
    pub fn trace(&self) -> impl Iterator<Item = u64> {
        let depth = self.depth.load(Ordering::Relaxed).min(DEPTH);
        self.trace[..depth]
            .iter()
            .map(|address| address.load(Ordering::Relaxed))
    }
}

static REPORTS: [Report; cpu::MAX_CPUS] = [const { Report::new() }; cpu::MAX_CPUS];
static UNEXPLAINED: AtomicU32 = AtomicU32::new(0);

/// The handler.
pub(super) fn handle(frame: &TrapFrame) {
    let index = cpu::index();
    let request = cpu::by_index(index).nmi_request.swap(0, Ordering::AcqRel);
    if request == 0 {
        UNEXPLAINED.fetch_add(1, Ordering::Relaxed);
        return;
    }
    if request & STOP != 0 {
        leave_vmx();
    }
    REPORTS[index].fill(frame);
    if request & STOP != 0 {
        // The return that would end the blocking of NMIs never comes: the CPU is out of reach from here on.
        power::halt();
    }
}

/// NMIs that nobody asked for, since the last call: a failing part of the machine sends such.
pub fn take_unexplained() -> u32 {
    UNEXPLAINED.swap(0, Ordering::Relaxed)
}

fn request(index: usize, what: u32) {
    REPORTS[index].complete.store(false, Ordering::Relaxed);
    cpu::by_index(index).nmi_request.fetch_or(what, Ordering::AcqRel);
    apic::send_nmi(index);
}

/// Waits until `done`, within limits.
fn wait_until(mut done: impl FnMut() -> bool) -> bool {
    let end = clock::now().saturating_add(PATIENCE);
    for _ in 0..TURNS {
        if done() {
            return true;
        }
        if clock::now() > end {
            break;
        }
        core::hint::spin_loop();
    }
    done()
}

/// Interrupts another CPU, whatever it does, and says where it was. None if it does not answer even so.
pub fn look_at(index: usize) -> Option<&'static Report> {
    request(index, REPORT);
    wait_until(|| report_of(index).is_some()).then(|| &REPORTS[index])
}

/// A CPU in VMX operation ignores INIT and keeps VMCSs in its caches (SDM 3C 24.8), so it leaves before a reset or the end. An NMI may come between
/// any two instructions, so also between VMXON and the note of it; then VMX stays on, on a CPU that has no guests.
fn leave_vmx() {
    // SAFETY: called with interrupts off, on a CPU that never turns them on again.
    let irqs = unsafe { irq::IrqsOff::assume() };
    vmx::turn_off(&irqs);
}

/// Stops every other CPU for good, with a limit on the waiting, and ends the use of VMX on all of them and here. Only the
/// first call does anything. Interrupts are off here and stay off.
pub fn stop_others() {
    static STOPPED: AtomicBool = AtomicBool::new(false);
    if !apic::is_ready() || STOPPED.swap(true, Ordering::AcqRel) {
        return;
    }
    let own = cpu::index();
    let others = || cpu::all().filter(|other| other.index != own && other.is_online());
    others().for_each(|other| request(other.index, STOP));
    wait_until(|| others().all(|other| report_of(other.index).is_some()));
    leave_vmx();
}

/// What a stopped CPU was doing. None if it runs or did not answer.
pub fn report_of(index: usize) -> Option<&'static Report> {
    REPORTS
        .get(index)
        .filter(|report| report.complete.load(Ordering::Acquire))
}
