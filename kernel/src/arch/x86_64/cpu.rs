//! What each CPU has of its own, and which CPUs there are.
//!
//! A CPU finds its [`CpuLocal`] at the base of GS while it is in the kernel. The assembly of the entry paths knows the
//! offsets of some fields; they are taken from the structure by `offset_of!`.

use super::features::{self, Features};
use super::irq::IrqsOff;
use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use dragonet_abi::counters::{COUNTERS, Counter};
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{GsBase, KernelGsBase};

/// Most CPUs that the kernel uses.
pub const MAX_CPUS: usize = dragonet_abi::layout::MAX_CPUS;

/// State of one CPU. Two CPUs never share a cache line of it.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct CpuLocal {
    /// Stack pointer of the program while the SYSCALL entry changes stacks.
    pub(super) user_stack: AtomicU64,
    /// Where the SYSCALL entry's stack starts: the top of the current thread's kernel stack.
    pub(super) kernel_stack: AtomicU64,
    /// 1 if the CPU has SMAP, so that the entry paths must clear AC.
    pub(super) smap: AtomicU32,
    /// Bits of work to do before the next return to user mode; nonzero makes the exit path call `trap::before_user`.
    pub work: AtomicU32,
    /// Number of this CPU, from 0 without gaps.
    pub index: usize,
    /// Identity in the interrupt fabric.
    apic_id: AtomicU32,
    /// Interrupt handlers that run on this CPU now, one inside the other.
    pub interrupt_depth: AtomicU32,
    /// The scheduler's current thread; `arch` does not look at it.
    pub current_thread: AtomicPtr<()>,
    /// In HLT with interrupts on (or about to be).
    idle: AtomicBool,
    /// The CPU takes part: it may be sent interrupts.
    online: AtomicBool,
    /// When the CPU last showed that it takes interrupts, in nanoseconds.
    pub(super) heartbeat: AtomicU64,
    /// The deadline that the scheduler asked for, as `apic::arm_timer` got it.
    pub(super) timer_deadline: AtomicU64,
    /// What must be added to this CPU's TSC to get the boot CPU's.
    pub(super) tsc_offset: AtomicU64,
    /// What the next NMI is for: bits of `nmi`.
    pub(super) nmi_request: AtomicU32,
    /// Events since boot, by [`Counter`].
    events: [AtomicU64; COUNTERS],
}

/// Offsets that the entry paths use relative to GS.
pub(super) const USER_STACK: usize = offset_of!(CpuLocal, user_stack);
pub(super) const KERNEL_STACK: usize = offset_of!(CpuLocal, kernel_stack);
pub(super) const SMAP: usize = offset_of!(CpuLocal, smap);
const INDEX: usize = offset_of!(CpuLocal, index);
const EVENTS: usize = offset_of!(CpuLocal, events);
const WORK: usize = offset_of!(CpuLocal, work);

const fn locals() -> [CpuLocal; MAX_CPUS] {
    let mut all = [const { CpuLocal::new(0) }; MAX_CPUS];
    let mut index = 0;
    while index < MAX_CPUS {
        all[index].index = index;
        index += 1;
    }
    all
}

static CPUS: [CpuLocal; MAX_CPUS] = locals();

/// CPUs that are up: the first so many entries of `CPUS`.
static COUNT: AtomicUsize = AtomicUsize::new(1);

impl CpuLocal {
    const fn new(index: usize) -> Self {
        CpuLocal {
            user_stack: AtomicU64::new(0),
            kernel_stack: AtomicU64::new(0),
            smap: AtomicU32::new(0),
            work: AtomicU32::new(0),
            index,
            apic_id: AtomicU32::new(0),
            interrupt_depth: AtomicU32::new(0),
            current_thread: AtomicPtr::new(core::ptr::null_mut()),
            idle: AtomicBool::new(false),
            online: AtomicBool::new(false),
            heartbeat: AtomicU64::new(0),
            timer_deadline: AtomicU64::new(u64::MAX),
            tsc_offset: AtomicU64::new(0),
            nmi_request: AtomicU32::new(0),
            events: [const { AtomicU64::new(0) }; COUNTERS],
        }
    }

    /// Identity in the interrupt fabric.
    pub fn apic_id(&self) -> u32 {
        self.apic_id.load(Ordering::Relaxed)
    }

    pub(super) fn set_apic_id(&self, id: u32) {
        self.apic_id.store(id, Ordering::Relaxed);
    }

    /// Asks for `bits` of work before this CPU next returns to user mode. From another CPU, a reschedule IPI must follow.
    pub fn request_work(&self, bits: u32) {
        self.work.fetch_or(bits, Ordering::SeqCst);
    }

    /// Takes all requested work; the caller does it.
    pub fn take_work(&self) -> u32 {
        self.work.swap(0, Ordering::SeqCst)
    }

    /// Events that this CPU counted since boot.
    pub fn events(&self, counter: Counter) -> u64 {
        self.events[counter as usize].load(Ordering::Relaxed)
    }

    pub(super) fn note_idle(&self, idle: bool) {
        self.idle.store(idle, Ordering::Relaxed);
        if !idle {
            self.beat();
        }
    }

    /// True while the CPU sleeps with interrupts on.
    pub fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Relaxed)
    }

    /// True once the CPU takes interrupts.
    pub fn is_online(&self) -> bool {
        self.online.load(Ordering::Acquire)
    }

    /// Notes that the CPU takes interrupts.
    pub(super) fn beat(&self) {
        self.heartbeat.store(super::clock::now(), Ordering::Relaxed);
    }

    /// When the CPU last showed that it takes interrupts, in nanoseconds since boot.
    pub fn last_heartbeat(&self) -> u64 {
        self.heartbeat.load(Ordering::Relaxed)
    }
}

/// Number of the CPU that runs this code. Where the thread can move to another CPU the answer is only a hint.
#[inline]
pub fn index() -> usize {
    let index: usize;
    // SAFETY: in the kernel GS has the base of this CPU's `CpuLocal` from the first instructions after entry on. Not `pure`: the
    // answer changes when the thread moves.
    unsafe {
        asm!("mov {}, gs:[{offset}]", out(reg) index, offset = const INDEX,
            options(nostack, preserves_flags, readonly));
    }
    index
}

/// Counts events on the CPU that runs this code, in one instruction: neither an interrupt nor a move to another CPU can come
/// in between, and no other CPU writes there, so it needs no lock prefix.
#[inline(always)]
pub fn add_events(counter: Counter, events: u64) {
    // SAFETY: GS has the base of this CPU's `CpuLocal`, as in `index`; every counter is an index of `events`.
    unsafe {
        asm!("add gs:[{counter} * 8 + {offset}], {events}", counter = in(reg) counter as usize,
            events = in(reg) events, offset = const EVENTS, options(nostack));
    }
}

/// [`add_events`] of one event of kind `COUNTER`, where each instruction counts.
#[inline(always)]
pub fn add_event<const COUNTER: usize>() {
    const { assert!(COUNTER < COUNTERS) };
    // SAFETY: as in `add_events`.
    unsafe {
        asm!("inc qword ptr gs:[{offset}]", offset = const EVENTS + 8 * COUNTER, options(nostack));
    }
}

/// True if the CPU that runs this code has work to do before it returns to user mode. Asked with interrupts off.
#[inline(always)]
pub fn has_work() -> bool {
    let work: u32;
    // SAFETY: as in `index`.
    unsafe {
        asm!("mov {:e}, gs:[{offset}]", out(reg) work, offset = const WORK,
            options(nostack, preserves_flags, readonly));
    }
    work != 0
}

/// CPUs that are up.
pub fn count() -> usize {
    COUNT.load(Ordering::Acquire)
}

/// This CPU's state. Interrupts are off, so that it stays this CPU's.
pub fn slot(_irqs: &IrqsOff) -> &'static CpuLocal {
    &CPUS[index()]
}

/// A CPU by number.
///
/// # Panics
/// If `index` is not below [`MAX_CPUS`].
pub fn by_index(index: usize) -> &'static CpuLocal {
    &CPUS[index]
}

/// Every CPU that is up.
pub fn all() -> impl Iterator<Item = &'static CpuLocal> {
    CPUS[..count()].iter()
}

/// What the CPUs of this machine can do: the boot CPU's features, which the others must have too.
pub fn features() -> &'static Features {
    features::get()
}

/// Makes GS find `CpuLocal` number `index`. The first thing that a CPU does in the kernel.
///
/// # Safety
/// 1. This CPU is the only one with that number.
/// 2. It is in the kernel with interrupts off, and `index` is below [`MAX_CPUS`].
pub(super) unsafe fn adopt(index: usize) {
    let local: *const CpuLocal = &CPUS[index];
    GsBase::write(VirtAddr::from_ptr(local));
    // The program's GS base while in the kernel (SDM 3A 5.8.8): zero until a thread brings its own.
    KernelGsBase::write(VirtAddr::zero());
}

/// Counts this CPU among those that are up and may be sent interrupts.
pub(super) fn set_online(index: usize) {
    CPUS[index].beat();
    CPUS[index].online.store(true, Ordering::Release);
    COUNT.fetch_max(index + 1, Ordering::AcqRel);
}
