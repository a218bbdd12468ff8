//! Starting the other CPUs: the boot loader has them waiting for an address to jump to.

use super::features::Features;
use super::{apic, clock, control, cpu, irq, limine_requests, paging, power, segments};
use crate::mm::stack::KernelStack;
use core::arch::naked_asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use limine::mp::Cpu;
use x86_64::VirtAddr;

/// How long a CPU may take to arrive, in nanoseconds. Emulated CPUs that share few real ones wait for their turn.
const PATIENCE: u64 = 5_000_000_000;
/// How long a CPU may take to be up after it has arrived.
const LONG_PATIENCE: u64 = 60_000_000_000;
/// Exchanges with the boot CPU to compare the time stamp counters, at least and at most.
const COMPARISONS: core::ops::RangeInclusive<u64> = 2..=32;
/// Time after which no more than the least exchanges are made, in nanoseconds.
const COMPARISON_TIME: u64 = 10_000_000;
/// Turns of a waiting loop on the new CPU, which has no other bound.
const TURNS: u64 = 1_000_000_000;

/// The CPU has been told where to go.
const WAITING: u32 = 0;
/// It is here, on its own stack.
const ARRIVED: u32 = 1;
/// It takes interrupts.
const UP: u32 = 2;
/// It did not come in time; should it still, it must stay out.
const GIVEN_UP: u32 = 3;

/// What a starting CPU needs before it can run Rust code.
#[repr(C)]
struct Start {
    page_table: AtomicU64,
    stack: AtomicU64,
    index: AtomicU64,
    state: AtomicU32,
    interrupt_stacks: [AtomicU64; segments::INTERRUPT_STACKS],
}

static STARTS: [Start; cpu::MAX_CPUS] = [const {
    Start {
        page_table: AtomicU64::new(0),
        stack: AtomicU64::new(0),
        index: AtomicU64::new(0),
        state: AtomicU32::new(WAITING),
        interrupt_stacks: [const { AtomicU64::new(0) }; segments::INTERRUPT_STACKS],
    }
}; cpu::MAX_CPUS];

/// What every CPU runs once it is up: a `fn(usize) -> !`.
static ENTRY: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// The starting CPU's question and the boot CPU's answer about its TSC.
static QUESTION: AtomicU64 = AtomicU64::new(0);
static ANSWER_TO: AtomicU64 = AtomicU64::new(0);
static ANSWER: AtomicU64 = AtomicU64::new(0);

/// Starts every other CPU and has it run `entry` with its number. Returns when all are up; those that do not answer are
/// named in the log and left out.
///
/// # Panics
/// If memory for their stacks is exhausted, or if a CPU arrives and then hangs.
pub fn start_others(entry: fn(usize) -> !) {
    let Some(response) = limine_requests::PROCESSORS.get_response() else {
        log::warn!("the boot loader does not start other CPUs");
        return;
    };
    ENTRY.store(entry as *mut (), Ordering::Release);
    let own = cpu::by_index(cpu::index()).apic_id();
    let others = response.cpus().iter().filter(|other| other.lapic_id != own);
    let mut index = cpu::count();
    for (start, other) in STARTS.iter().zip(others) {
        if index >= cpu::MAX_CPUS {
            break;
        }
        if start_one(start, other, index) {
            index += 1;
        } else {
            log::warn!("CPU with APIC id {} does not start", other.lapic_id);
        }
    }
    let found = response.cpus().len();
    if found > cpu::MAX_CPUS {
        log::warn!("{found} CPUs found, {} used", cpu::MAX_CPUS);
    }
    let note = if clock::is_uneven() {
        ", TSC offsets corrected"
    } else {
        ""
    };
    log::info!("{} CPUs{note}", cpu::count());
}

/// The top of a stack that is never given back.
fn new_stack() -> VirtAddr {
    let stack = KernelStack::new().expect("memory for the stacks of all CPUs");
    let top = stack.top();
    core::mem::forget(stack);
    top
}

fn start_one(start: &'static Start, other: &Cpu, index: usize) -> bool {
    start
        .page_table
        .store(crate::pmap::kernel_root().as_u64(), Ordering::Relaxed);
    start.stack.store(new_stack().as_u64(), Ordering::Relaxed);
    start.index.store(index as u64, Ordering::Relaxed);
    for stack in &start.interrupt_stacks {
        stack.store(new_stack().as_u64(), Ordering::Relaxed);
    }
    cpu::by_index(index).set_apic_id(other.lapic_id);
    let pointer: *const Start = start;
    other.extra.store(pointer as u64, Ordering::Release);
    other.goto_address.write(arrive);
    let begin = clock::now();
    loop {
        answer_question();
        match start.state.load(Ordering::Acquire) {
            UP => return true,
            WAITING if clock::now() - begin > PATIENCE => {
                let given_up =
                    start
                        .state
                        .compare_exchange(WAITING, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire);
                if given_up.is_ok() {
                    return false;
                }
            }
            ARRIVED if clock::now() - begin > LONG_PATIENCE => {
                panic!(
                    "CPU {index} (APIC id {}) hung while it was started",
                    other.lapic_id
                )
            }
            _ => core::hint::spin_loop(),
        }
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
        "xor eax, eax", // WAITING
        "mov ecx, {arrived}",
        "lock cmpxchg [rdi + {state}], ecx",
        "jne 3f",
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
    compare_counters();
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

/// On the boot CPU while it waits: answers with its TSC.
fn answer_question() {
    let question = QUESTION.load(Ordering::Acquire);
    if question != ANSWER_TO.load(Ordering::Relaxed) {
        ANSWER.store(clock::tsc(), Ordering::Relaxed);
        ANSWER_TO.store(question, Ordering::Release);
    }
}

/// Compares this CPU's TSC with the boot CPU's: the tightest exchange bounds the difference. One that is within the bound is none.
fn compare_counters() {
    let (mut width, mut offset) = (u64::MAX, 0);
    let first = QUESTION.load(Ordering::Relaxed) + 1;
    let begin = clock::now();
    for question in first..first + COMPARISONS.end() {
        if question - first >= *COMPARISONS.start() && clock::now().saturating_sub(begin) > COMPARISON_TIME {
            break;
        }
        let before = clock::tsc();
        QUESTION.store(question, Ordering::Release);
        let mut turns = 0;
        while ANSWER_TO.load(Ordering::Acquire) != question {
            turns += 1;
            if turns == TURNS {
                return;
            }
            core::hint::spin_loop();
        }
        let after = clock::tsc();
        let taken = after.wrapping_sub(before);
        if taken < width {
            width = taken;
            offset = ANSWER
                .load(Ordering::Relaxed)
                .wrapping_sub(before.wrapping_add(taken / 2));
        }
    }
    if (offset as i64).unsigned_abs() > width / 2 {
        clock::set_offset(offset);
    }
}
