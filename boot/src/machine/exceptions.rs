//! An exception in the stage is a defect of it, or memory that is not what firmware says. It is reported instead of
//! resetting the machine without a word. The kernel loads a table of its own, as the protocol demands.

use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;

use super::console;
use crate::say;

const VECTORS: usize = 32;

/// Distance from one stub of the entry code to the next.
const STUB_SIZE: u64 = 16;

const CODE_SELECTOR: u64 = 0x28;
const INTERRUPT_GATE: u64 = 0x8e00;

unsafe extern "C" {
    static exception_stubs: u8;
}

/// Two words for each gate.
static GATES: [AtomicU64; 2 * VECTORS] = [const { AtomicU64::new(0) }; 2 * VECTORS];

/// Makes the gates. Only the boot CPU does this, before it starts others.
pub fn initialise() {
    for (vector, gate) in GATES.as_chunks::<2>().0.iter().enumerate() {
        let stub = (&raw const exception_stubs) as u64 + vector as u64 * STUB_SIZE;
        let low = stub & 0xffff | CODE_SELECTOR << 16 | INTERRUPT_GATE << 32 | (stub >> 16 & 0xffff) << 48;
        gate[0].store(low, Ordering::Relaxed);
        gate[1].store(stub >> 32, Ordering::Relaxed);
    }
    load();
}

/// Makes this CPU use the gates.
pub fn load() {
    let pointer = DescriptorTablePointer {
        limit: (size_of_val(&GATES) - 1) as u16,
        base: VirtAddr::from_ptr(&raw const GATES),
    };
    // SAFETY: the table is static and complete, and its gates lead to code that never returns.
    unsafe { lidt(&pointer) };
}

/// Called by the stubs.
#[unsafe(no_mangle)]
extern "C" fn stage_exception(vector: u64, error: u64, instruction: u64, address: u64) -> ! {
    say!(
        "dragonet: panic: in the boot stage: exception {vector}, error {error:#x}, at {instruction:#x}, CR2 {address:#x}"
    );
    console::exit(crate::STATUS_PANIC)
}
