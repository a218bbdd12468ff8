//! Starting the other CPUs: the boot loader has them waiting for an address to jump to.
//!
//! All of them are called at once. Each first reports that it is there and waits for its number; the numbers are given out
//! when all have come or time is up, so that they have no gaps. Then all set themselves up at the same time.

use super::features::Features;
use super::{apic, clock, control, cpu, irq, limine_requests, paging, power, segments};
use crate::mm::stack::KernelStack;
use core::arch::naked_asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use limine::mp::Cpu;
use x86_64::VirtAddr;

/// How long the CPUs may take to come, in nanoseconds. Emulated CPUs that share few real ones wait for their turn.
const PATIENCE: u64 = 5_000_000_000;
/// How long they may take to be up after that.
const LONG_PATIENCE: u64 = 60_000_000_000;
/// Exchanges with the boot CPU to compare the time stamp counters, at least and at most.
const COMPARISONS: core::ops::RangeInclusive<u64> = 2..=32;
/// Time after which no more than the least exchanges are made, in nanoseconds.
const COMPARISON_TIME: u64 = 10_000_000;
/// Turns of a waiting loop on the new CPU, which has no other bound.
const TURNS: u64 = 1_000_000_000;

/// The CPU has been told where to go.
const CALLED: u32 = 0;
/// It is there, and waits for its number.
const ARRIVED: u32 = 1;
/// It has its number and sets itself up.
const STARTED: u32 = 2;
/// It takes interrupts.
const UP: u32 = 3;
/// It did not come in time; should it still, it must stay out.
const GIVEN_UP: u32 = 4;

/// What a starting CPU needs before it can run Rust code, and what it says meanwhile.
#[repr(C, align(128))]
struct Start {
    page_table: AtomicU64,
    stack: AtomicU64,
    index: AtomicU64,
    state: AtomicU32,
    interrupt_stacks: [AtomicU64; segments::INTERRUPT_STACKS],
    /// The starting CPU's question about the boot CPU's TSC: a number that changes.
    question: AtomicU64,
    /// The last question that was answered.
    answered: AtomicU64,
    /// The answer.
    answer: AtomicU64,
}

static STARTS: [Start; cpu::MAX_CPUS] = [const {
    Start {
        page_table: AtomicU64::new(0),
        stack: AtomicU64::new(0),
        index: AtomicU64::new(0),
        state: AtomicU32::new(CALLED),
        interrupt_stacks: [const { AtomicU64::new(0) }; segments::INTERRUPT_STACKS],
        question: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        answer: AtomicU64::new(0),
    }
}; cpu::MAX_CPUS];

/// What every CPU runs once it is up: a `fn(usize) -> !`.
static ENTRY: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Starts every other CPU and has it run `entry` with its number. Returns when all are up; those that do not come are named
/// in the log and left out.
///
/// # Panics
/// If memory for their stacks is exhausted, or if a CPU comes and then hangs.
pub fn start_others(entry: fn(usize) -> !) {
    let Some(response) = limine_requests::PROCESSORS.get_response() else {
        log::warn!("the boot loader does not start other CPUs");
        return;
    };
    if response.cpus().len() > cpu::MAX_CPUS {
        log::warn!("{} CPUs found, {} used", response.cpus().len(), cpu::MAX_CPUS);
    }
    ENTRY.store(entry as *mut (), Ordering::Release);
    let own = cpu::by_index(cpu::index()).apic_id();
    let others = response
        .cpus()
        .iter()
        .copied()
        .filter(|other| other.lapic_id != own);
    let pairs = || STARTS.iter().zip(others.clone()).take(cpu::MAX_CPUS - 1);
    pairs().for_each(|(start, other)| call(start, other));
    wait_while(PATIENCE, || pairs().any(|(start, _)| start.has_state(CALLED)));
    let mut index = cpu::count();
    for (start, other) in pairs() {
        if start.change_state(CALLED, GIVEN_UP) {
            log::warn!("the CPU with APIC id {} does not start", other.lapic_id);
            continue;
        }
        start.index.store(index as u64, Ordering::Relaxed);
        cpu::by_index(index).set_apic_id(other.lapic_id);
        start.state.store(STARTED, Ordering::Release);
        index += 1;
    }
    wait_while(LONG_PATIENCE, || {
        pairs().for_each(|(start, _)| start.answer_question());
        pairs().any(|(start, _)| start.has_state(STARTED))
    });
    if let Some((_, other)) = pairs().find(|(start, _)| start.has_state(STARTED)) {
        panic!(
            "the CPU with APIC id {} hung while it was started",
            other.lapic_id
        );
    }
    if clock::is_uneven() {
        log::info!("the time stamp counters of the CPUs differ; corrected");
    }
}

/// Waits while `condition` holds, but not longer than `patience`.
fn wait_while(patience: u64, mut condition: impl FnMut() -> bool) {
    let begin = clock::now();
    while condition() && clock::now() - begin < patience {
        core::hint::spin_loop();
    }
}

/// The top of a stack that is never given back.
fn new_stack() -> u64 {
    let stack = KernelStack::new().expect("memory for the stacks of all CPUs");
    let top = stack.top().as_u64();
    core::mem::forget(stack);
    top
}

/// Prepares what a CPU needs and tells it where to go.
fn call(start: &'static Start, other: &Cpu) {
    start
        .page_table
        .store(crate::pmap::kernel_root().as_u64(), Ordering::Relaxed);
    start.stack.store(new_stack(), Ordering::Relaxed);
    for stack in &start.interrupt_stacks {
        stack.store(new_stack(), Ordering::Relaxed);
    }
    let pointer: *const Start = start;
    other.extra.store(pointer as u64, Ordering::Release);
    other.goto_address.write(arrive);
}

impl Start {
    fn has_state(&self, state: u32) -> bool {
        self.state.load(Ordering::Acquire) == state
    }

    fn change_state(&self, from: u32, to: u32) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// On the boot CPU while it waits: answers with its TSC.
    fn answer_question(&self) {
        let question = self.question.load(Ordering::Acquire);
        if question != self.answered.load(Ordering::Relaxed) {
            self.answer.store(clock::tsc(), Ordering::Relaxed);
            self.answered.store(question, Ordering::Release);
        }
    }

    /// On the new CPU: the boot CPU's TSC, between two readings of its own. None if no answer comes.
    fn ask(&self, question: u64) -> Option<(u64, u64, u64)> {
        let before = clock::tsc();
        self.question.store(question, Ordering::Release);
        for _ in 0..TURNS {
            if self.answered.load(Ordering::Acquire) == question {
                return Some((before, self.answer.load(Ordering::Relaxed), clock::tsc()));
            }
            core::hint::spin_loop();
        }
        None
    }
}

/// Where the boot loader sends a CPU, with its `Cpu` in RDI, on the loader's stack and page tables. Only what the kernel's image
/// and the direct map have is mapped in both; the kernel's own stacks are not, so the page table comes first, and before it
/// the no-execute bit that it uses.
///
/// # Safety
/// 1. Entered by the boot loader's waiting loop only, with `extra` pointing to a `Start`.
#[unsafe(naked)]
unsafe extern "C" fn arrive(_cpu: &Cpu) -> ! {
    naked_asm!(
        "cli",
        "cld",
        "mov rdi, [rdi + {extra}]",
        "xor eax, eax", // CALLED
        "mov ecx, {arrived}",
        "lock cmpxchg [rdi + {state}], ecx",
        "jne 3f",
        "2:",
        "pause",
        "cmp dword ptr [rdi + {state}], {arrived}",
        "je 2b",
        "mov ecx, 0xc0000080", // IA32_EFER
        "rdmsr",
        "or eax, 0x800", // NXE
        "wrmsr",
        "mov rax, [rdi + {page_table}]",
        "mov cr3, rax",
        "mov rsp, [rdi + {stack}]",
        "xor ebp, ebp",
        "call {enter}",
        "3:",
        "hlt",
        "jmp 3b",
        extra = const offset_of!(Cpu, extra),
        arrived = const ARRIVED,
        state = const offset_of!(Start, state),
        page_table = const offset_of!(Start, page_table),
        stack = const offset_of!(Start, stack),
        enter = sym enter,
    );
}

extern "C" fn enter(start: &'static Start) -> ! {
    let index = start.index.load(Ordering::Relaxed) as usize;
    // SAFETY: the boot CPU gave this number to this CPU alone; interrupts are off.
    unsafe { cpu::adopt(index) };
    let features: &Features = cpu::features();
    let stacks =
        core::array::from_fn(|stack| VirtAddr::new(start.interrupt_stacks[stack].load(Ordering::Relaxed)));
    // SAFETY: once on this CPU; the stacks were made for it.
    unsafe {
        segments::init(index, stacks);
        control::init(index, features);
    }
    // The loader's mappings of the same addresses may be global and allow more; the load of CR3 has kept those.
    paging::flush_all_with_global();
    apic::init_cpu();
    compare_counters(start);
    cpu::set_online(index);
    apic::disarm_timer();
    start.state.store(UP, Ordering::Release);
    let entry = ENTRY.load(Ordering::Acquire);
    if entry.is_null() {
        power::halt();
    }
    // SAFETY: the pointer was made from a function of this type.
    let entry: fn(usize) -> ! = unsafe { core::mem::transmute(entry) };
    debug_assert!(!irq::enabled());
    entry(index)
}

/// Compares this CPU's TSC with the boot CPU's: the tightest exchange bounds the difference. One that is within the bound is none.
fn compare_counters(start: &Start) {
    let (mut width, mut offset) = (u64::MAX, 0);
    let begin = clock::now();
    for question in 1..=*COMPARISONS.end() {
        let late = clock::now().saturating_sub(begin) > COMPARISON_TIME;
        if late && question > *COMPARISONS.start() {
            break;
        }
        let Some((before, answer, after)) = start.ask(question) else {
            return;
        };
        let taken = after.wrapping_sub(before);
        if taken < width {
            width = taken;
            offset = answer.wrapping_sub(before.wrapping_add(taken / 2));
        }
    }
    if (offset as i64).unsigned_abs() > width / 2 {
        clock::set_offset(offset);
    }
}
