//! The interrupt descriptor table: one for all CPUs, written once.

use super::entry::stub_address;
use super::segments::{DEBUG_STACK, DOUBLE_FAULT_STACK, MACHINE_CHECK_STACK, NMI_STACK};
use spin::Once;
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::idt::InterruptDescriptorTable;
use x86_64::{PrivilegeLevel, VirtAddr};

static TABLE: Once<InterruptDescriptorTable> = Once::new();

/// Builds the table, the kernel's code segment being loaded already.
pub(super) fn init() {
    TABLE.call_once(build);
}

/// What LIDT loads.
///
/// # Panics
/// Before `init`.
pub(super) fn pointer() -> DescriptorTablePointer {
    let table: *const InterruptDescriptorTable = TABLE.get().expect("the table is built before it is loaded");
    DescriptorTablePointer {
        limit: (size_of::<InterruptDescriptorTable>() - 1) as u16,
        base: VirtAddr::from_ptr(table),
    }
}

fn build() -> InterruptDescriptorTable {
    let mut table = InterruptDescriptorTable::new();
    macro_rules! set {
        ($($field:ident = $vector:literal),* $(,)?) => {
            $(
                // SAFETY: the stub was written for this vector, with or without error code.
                unsafe { table.$field.set_handler_addr(VirtAddr::new(stub_address($vector))) };
            )*
        };
    }
    set! {
        divide_error = 0, overflow = 4, bound_range_exceeded = 5, invalid_opcode = 6,
        device_not_available = 7, invalid_tss = 10, segment_not_present = 11,
        stack_segment_fault = 12, general_protection_fault = 13, page_fault = 14, x87_floating_point = 16,
        alignment_check = 17, simd_floating_point = 19, virtualization = 20, cp_protection_exception = 21,
        hv_injection_exception = 28, vmm_communication_exception = 29, security_exception = 30,
    }
    // SAFETY: the stub was written for the vector. The stacks are set in every CPU's task state segment. Programs
    // may use INT3 (and only that): the gate's privilege level says so.
    unsafe {
        let entry = |vector| VirtAddr::new(stub_address(vector));
        table
            .debug
            .set_handler_addr(entry(1))
            .set_stack_index(DEBUG_STACK);
        table
            .non_maskable_interrupt
            .set_handler_addr(entry(2))
            .set_stack_index(NMI_STACK);
        table
            .breakpoint
            .set_handler_addr(entry(3))
            .set_privilege_level(PrivilegeLevel::Ring3);
        table
            .double_fault
            .set_handler_addr(entry(8))
            .set_stack_index(DOUBLE_FAULT_STACK);
        table
            .machine_check
            .set_handler_addr(entry(18))
            .set_stack_index(MACHINE_CHECK_STACK);
        for vector in 32..=255_u8 {
            table[vector].set_handler_addr(entry(vector));
        }
    }
    table
}
