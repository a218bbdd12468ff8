//! The last steps: the table of segments at its address in the direct map, and the jump.

use dragonet_boot::DIRECT_MAP_BASE;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lgdt;
use x86_64::structures::DescriptorTablePointer;

unsafe extern "C" {
    static boot_gdt: u8;
    static boot_gdt_end: u8;
    fn handoff(page_table: u64, entry: u64, stack_top: u64) -> !;
    fn park(page_table: u64, processor: u64, stack_top: u64, ready: u64) -> !;
}

/// Makes this CPU use the segments by their address in the direct map, where the kernel can see them. They are in
/// the stage's own memory, which the kernel is told is reclaimable.
fn load_segments() {
    let (start, end) = ((&raw const boot_gdt) as u64, (&raw const boot_gdt_end) as u64);
    let pointer = DescriptorTablePointer {
        limit: (end - start - 1) as u16,
        base: VirtAddr::new(DIRECT_MAP_BASE + start),
    };
    // SAFETY: the same table as the one in use, through another mapping that both address spaces have.
    unsafe { lgdt(&pointer) };
}

/// Enters the kernel.
///
/// # Safety
/// 1. `page_table` is the physical address of complete tables that map the stage in the direct map.
/// 2. `entry` is executable in them, and `stack_top` is the end of unused memory in the direct map.
pub unsafe fn enter_kernel(page_table: u64, entry: u64, stack_top: u64) -> ! {
    load_segments();
    let address = (handoff as *const () as u64 + DIRECT_MAP_BASE) as *const ();
    // SAFETY: the same position-independent code at its address in the direct map, which is mapped before and after
    // the change of tables.
    unsafe {
        let handoff: unsafe extern "C" fn(u64, u64, u64) -> ! = core::mem::transmute(address);
        handoff(page_table, entry, stack_top)
    }
}

/// Lets this CPU wait for the kernel.
///
/// # Safety
/// 1. As 1. of [`enter_kernel`].
/// 2. `processor` is the address of the processor's structure, `stack_top` the end of its stack, and `ready` that of
///    a 32-bit word that is set when the CPU no longer uses anything of the stage but this loop; all in the direct map.
pub unsafe fn wait_for_kernel(page_table: u64, processor: u64, stack_top: u64, ready: u64) -> ! {
    load_segments();
    let address = (park as *const () as u64 + DIRECT_MAP_BASE) as *const ();
    // SAFETY: as in `enter_kernel`.
    unsafe {
        let park: unsafe extern "C" fn(u64, u64, u64, u64) -> ! = core::mem::transmute(address);
        park(page_table, processor, stack_top, ready)
    }
}
