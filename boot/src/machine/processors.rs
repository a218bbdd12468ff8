//! Starting the other CPUs. They are started one at a time, so that one set of words is enough to tell each of them
//! where its stack and its structure are; a CPU that does not answer is put back to waiting and left out.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use dragonet_boot::{DIRECT_MAP_BASE, PAGE_SIZE};

use super::apic::LocalApic;
use super::clock::Clock;
use super::{cpu, exceptions, handoff, memory};

unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline_end: u8;
    /// Top of the stack of the CPU that is being started; the entry code loads it.
    static application_stack: AtomicU64;
}

static PAGE_TABLE: AtomicU64 = AtomicU64::new(0);
static STRUCTURE: AtomicU64 = AtomicU64::new(0);
static X2APIC: AtomicBool = AtomicBool::new(false);
static READY: AtomicU32 = AtomicU32::new(0);

/// How long a CPU may take from its start-up interrupt until it waits for the kernel, in microseconds. An emulator
/// on a busy machine is slow; a CPU that exists is never slower than this.
const PATIENCE: u64 = 2_000_000;

/// Starts CPUs.
#[derive(Debug)]
pub struct Starter<'clock> {
    apic: LocalApic,
    clock: &'clock Clock,
    page: u8,
}

impl<'clock> Starter<'clock> {
    /// Puts the entry code into the page at physical `page`, which must be below 1 MiB and belong to the caller, and
    /// remembers what all CPUs share: their final page table and the mode of their APICs.
    pub fn new(apic: LocalApic, clock: &'clock Clock, page: u64, page_table: u64) -> Self {
        let (start, end) = (
            (&raw const trampoline_start) as usize,
            (&raw const trampoline_end) as usize,
        );
        // SAFETY: the code lies between its two symbols, and is never written.
        let code = unsafe { core::slice::from_raw_parts(start as *const u8, end - start) };
        // SAFETY: the caller owns the page.
        let place = unsafe { memory::owned(page, PAGE_SIZE) };
        place[..code.len()].copy_from_slice(code);
        PAGE_TABLE.store(page_table, Ordering::SeqCst);
        X2APIC.store(apic.is_x2apic(), Ordering::SeqCst);
        cpu::save_memory_types();
        Starter {
            apic,
            clock,
            page: (page / PAGE_SIZE) as u8,
        }
    }

    /// Starts the CPU with a local APIC id on a stack that ends at physical `stack_top`. `structure` is the virtual
    /// address of what it will wait on. Returns whether it waits there now.
    pub fn start(&self, apic_id: u32, stack_top: u64, structure: u64) -> bool {
        READY.store(0, Ordering::SeqCst);
        STRUCTURE.store(structure, Ordering::SeqCst);
        // SAFETY: the word is a part of the entry code's data that is shared with the CPU being started, and only
        // ever accessed atomically.
        unsafe { &application_stack }.store(stack_top, Ordering::SeqCst);
        let ready = || READY.load(Ordering::SeqCst) != 0;
        self.apic.send_init(apic_id);
        self.clock.wait(10_000, || false);
        self.apic.send_start_up(apic_id, self.page);
        let started = self.clock.wait(1_000, ready) || {
            // The second start-up interrupt is ignored by a CPU that runs already.
            self.apic.send_start_up(apic_id, self.page);
            self.clock.wait(PATIENCE, ready)
        };
        if !started {
            self.apic.send_init(apic_id);
            self.clock.wait(10_000, || false);
        }
        started
    }
}

/// Where another CPU arrives in 64-bit mode, on its own stack.
#[unsafe(no_mangle)]
extern "C" fn application_main() -> ! {
    exceptions::load();
    cpu::prepare();
    cpu::load_memory_types();
    if let Some(mut apic) = LocalApic::new() {
        if X2APIC.load(Ordering::SeqCst) {
            apic.enable_x2apic();
        }
        apic.prepare();
    }
    // SAFETY: reading a word of the entry code's data, atomically.
    let stack_top = unsafe { &application_stack }.load(Ordering::SeqCst);
    let ready = (&raw const READY) as u64;
    // SAFETY: the boot CPU has stored complete tables and the structure before it sent the start-up interrupt, and
    // changes neither until this CPU has set `READY`.
    unsafe {
        handoff::wait_for_kernel(
            PAGE_TABLE.load(Ordering::SeqCst),
            STRUCTURE.load(Ordering::SeqCst),
            DIRECT_MAP_BASE + stack_top,
            DIRECT_MAP_BASE + ready,
        )
    }
}
