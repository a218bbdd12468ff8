//! Segments, the task state segment with its interrupt stacks, and the programs' FS and GS bases.

use super::irq::IrqsOff;
use core::arch::asm;
use core::cell::UnsafeCell;
use x86_64::VirtAddr;
use x86_64::instructions::tables::{lgdt, load_tss};
use x86_64::registers::model_specific::{FsBase, KernelGsBase};
use x86_64::registers::segmentation::{CS, DS, ES, FS, SS, Segment};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

/// Selector of kernel code.
pub const KERNEL_CODE: u16 = 0x08;
/// Selector of kernel data.
pub const KERNEL_DATA: u16 = 0x10;
/// What SYSRET counts from (SDM 3A 5.8.8): its SS is this + 8, its 64-bit CS this + 16. The slot itself would be 32-bit
/// user code, which is not offered; a copy of the data segment stands there so that no program can enter 32-bit mode.
pub(super) const SYSRET_BASE: u16 = 0x18 | 3;
/// Selector of programs' data.
pub const USER_DATA: u16 = 0x20 | 3;
/// Selector of programs' code.
pub const USER_CODE: u16 = 0x28 | 3;
/// Selector of the task state segment.
pub const TASK_STATE: u16 = 0x30;

/// Interrupt stacks in the task state segment, by index from 0. Each of these events can come while the kernel's stack pointer is the
/// program's (right after SYSCALL) or unusable, and some of them inside each other, so each has its own.
pub(super) const NMI_STACK: u16 = 0;
pub(super) const DOUBLE_FAULT_STACK: u16 = 1;
pub(super) const MACHINE_CHECK_STACK: u16 = 2;
pub(super) const DEBUG_STACK: u16 = 3;
/// Count of interrupt stacks.
pub(super) const INTERRUPT_STACKS: usize = 4;

const BOOT_INTERRUPT_STACK_SIZE: usize = 16 * 1024;

#[repr(C, align(4096))]
struct BootStacks(UnsafeCell<[[u8; BOOT_INTERRUPT_STACK_SIZE]; INTERRUPT_STACKS]>);

// SAFETY: used only as stacks, by the boot CPU alone; nothing refers to the bytes by name.
unsafe impl Sync for BootStacks {}

/// Interrupt stacks of the boot CPU, which needs them before there is memory to allocate.
static BOOT_STACKS: BootStacks = BootStacks(UnsafeCell::new(
    [[0; BOOT_INTERRUPT_STACK_SIZE]; INTERRUPT_STACKS],
));

#[repr(C, align(128))]
struct Tables {
    task_state: UnsafeCell<TaskStateSegment>,
    descriptors: UnsafeCell<GlobalDescriptorTable<8>>,
    /// Base and limit of `descriptors`, as LGDT takes them.
    pointer: UnsafeCell<DescriptorTablePointer>,
}

// SAFETY: an entry is written only by its own CPU, before it loads the tables, and afterwards only by `set_interrupt_stack`,
// on its own CPU with interrupts off.
unsafe impl Sync for Tables {}

static TABLES: [Tables; super::cpu::MAX_CPUS] = [const {
    Tables {
        task_state: UnsafeCell::new(TaskStateSegment::new()),
        descriptors: UnsafeCell::new(GlobalDescriptorTable::empty()),
        pointer: UnsafeCell::new(DescriptorTablePointer {
            limit: 0,
            base: VirtAddr::zero(),
        }),
    }
}; super::cpu::MAX_CPUS];

/// Tops of the boot CPU's interrupt stacks.
pub(super) fn boot_interrupt_stacks() -> [VirtAddr; INTERRUPT_STACKS] {
    let base = VirtAddr::from_ptr(BOOT_STACKS.0.get());
    core::array::from_fn(|stack| base + ((stack + 1) * BOOT_INTERRUPT_STACK_SIZE) as u64)
}

/// Builds and loads this CPU's descriptor table and task state segment.
///
/// # Safety
/// 1. Called once on each CPU, with that CPU's number, with interrupts off.
/// 2. The stacks are this CPU's alone, mapped in every page table, and stay so for ever.
/// 3. GS is set again afterwards if a null load changed its base: this function does not touch GS.
pub(super) unsafe fn init(index: usize, interrupt_stacks: [VirtAddr; INTERRUPT_STACKS]) {
    let tables = &TABLES[index];
    // SAFETY: nobody else uses this CPU's entry before it is loaded (1).
    let task_state = unsafe { &mut *tables.task_state.get() };
    // The structure is packed: its array is copied out and back, never borrowed.
    let mut table = task_state.interrupt_stack_table;
    table[..INTERRUPT_STACKS].copy_from_slice(&interrupt_stacks);
    task_state.interrupt_stack_table = table;
    // SAFETY: as above; the segment lives in a static.
    let (descriptors, segment) = unsafe {
        let segment = Descriptor::tss_segment_unchecked(tables.task_state.get());
        (&mut *tables.descriptors.get(), segment)
    };
    *descriptors = GlobalDescriptorTable::empty();
    let code = descriptors.append(Descriptor::kernel_code_segment());
    let data = descriptors.append(Descriptor::kernel_data_segment());
    descriptors.append(Descriptor::user_data_segment());
    let user_data = descriptors.append(Descriptor::user_data_segment());
    let user_code = descriptors.append(Descriptor::user_code_segment());
    let task = descriptors.append(segment);
    debug_assert_eq!(
        (code.0, data.0, user_data.0, user_code.0, task.0),
        (KERNEL_CODE, KERNEL_DATA, USER_DATA, USER_CODE, TASK_STATE)
    );
    let null = SegmentSelector(0);
    // SAFETY: the table is in a static and complete; the selectors were just made. FS is null: the kernel does not use it.
    unsafe {
        *tables.pointer.get() = DescriptorTablePointer {
            limit: descriptors.limit(),
            base: VirtAddr::from_ptr(descriptors),
        };
        lgdt(&*tables.pointer.get());
        CS::set_reg(code);
        SS::set_reg(data);
        DS::set_reg(null);
        ES::set_reg(null);
        FS::set_reg(null);
        load_tss(task);
    }
}

/// Address of this CPU's task state segment.
pub(super) fn task_state_base() -> u64 {
    TABLES[super::cpu::index()].task_state.get() as u64
}

/// Loads this CPU's descriptor table again, which puts its limit right.
#[inline]
pub(super) fn reload(_irqs: &IrqsOff) {
    // SAFETY: table and pointer were set by `init` and are not changed after it.
    unsafe { lgdt(&*TABLES[super::cpu::index()].pointer.get()) };
}

/// Checks that the CPU has its own descriptor table with its limit, task and selectors.
///
/// # Panics
/// If it has not.
pub(super) fn check_loaded(_irqs: &IrqsOff) {
    // SAFETY: as in `reload`.
    let limit = unsafe { (*TABLES[super::cpu::index()].descriptors.get()).limit() };
    assert_eq!(
        x86_64::instructions::tables::sgdt().limit,
        limit,
        "limit of the descriptor table"
    );
    let task: u16;
    // SAFETY: reads a register.
    unsafe { asm!("str {:x}", out(reg) task, options(nomem, nostack, preserves_flags)) };
    assert_eq!(task, TASK_STATE, "task register");
    assert_eq!(
        (CS::get_reg().0, SS::get_reg().0),
        (KERNEL_CODE, KERNEL_DATA),
        "code and stack selectors"
    );
}

/// Sets the stack on which this CPU enters the kernel from user mode by interrupt or exception.
pub(super) fn set_interrupt_stack(_irqs: &IrqsOff, top: VirtAddr) {
    let tables = &TABLES[super::cpu::index()];
    // SAFETY: own CPU with interrupts off; the CPU reads the field only when it enters from user mode.
    unsafe { (*tables.task_state.get()).privilege_stack_table = [top, VirtAddr::zero(), VirtAddr::zero()] };
}

/// The FS and GS bases of the program whose thread runs now.
pub fn user_bases() -> (u64, u64) {
    (FsBase::read().as_u64(), KernelGsBase::read().as_u64())
}

/// The GS base alone.
#[inline]
pub fn user_gs_base() -> u64 {
    KernelGsBase::read().as_u64()
}

/// Sets the FS and GS bases of the program whose thread runs now, and nulls its data segment registers: what another thread
/// loaded there does not stay. Both must be canonical addresses of the lower half; the sign of the GS base is how
/// the NMI entry tells the program's from the kernel's.
///
/// # Panics
/// If a base is not a canonical address of the lower half.
pub fn set_user_bases(fs: u64, gs: u64) {
    const LOWER_HALF_END: u64 = 1 << 47;
    assert!(
        fs < LOWER_HALF_END && gs < LOWER_HALF_END,
        "user segment base not in the lower half"
    );
    let guard = super::irq::IrqGuard::new();
    clear_user_selectors(guard.witness());
    FsBase::write(VirtAddr::new(fs));
    KernelGsBase::write(VirtAddr::new(gs));
}

fn clear_user_selectors(_irqs: &IrqsOff) {
    // SAFETY: null data segments are valid in 64-bit mode. A load of GS changes its base (SDM 3A 3.4.4), so it is done
    // while the program's base is swapped in, with interrupts off; an NMI in between sees a GS base of the lower half
    // and swaps by itself.
    unsafe {
        asm!(
            "mov {scratch:x}, ds",
            "test {scratch:x}, {scratch:x}",
            "jz 2f",
            "mov ds, {zero:x}",
            "2:",
            "mov {scratch:x}, es",
            "test {scratch:x}, {scratch:x}",
            "jz 3f",
            "mov es, {zero:x}",
            "3:",
            "mov {scratch:x}, fs",
            "test {scratch:x}, {scratch:x}",
            "jz 4f",
            "mov fs, {zero:x}",
            "4:",
            "mov {scratch:x}, gs",
            "test {scratch:x}, {scratch:x}",
            "jz 5f",
            "swapgs",
            "mov gs, {zero:x}",
            "swapgs",
            "5:",
            scratch = out(reg) _,
            zero = in(reg) 0_u64,
            options(nostack),
        );
    }
}
