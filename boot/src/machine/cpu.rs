//! The state of a CPU that the protocol prescribes and the entry code has not set: no-execute, the page attribute
//! table, and the same memory types on every CPU.

use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::registers::control::{Cr0, Cr0Flags, Efer, EferFlags};
use x86_64::registers::model_specific::Msr;

/// Write-back, write-through, uncached unless overridden, uncached, write-protected, write-combining, and the last
/// two, which the protocol leaves open, uncached.
const PAGE_ATTRIBUTES: u64 = 0x0000_0105_0007_0406;
const PAGE_ATTRIBUTES_MSR: u32 = 0x277;

/// Whether pages can be made not executable.
pub fn has_no_execute() -> bool {
    __cpuid(0x8000_0001).edx & (1 << 20) != 0
}

/// Turns on no-execute and loads the page attribute table, where the CPU has them.
pub fn prepare() {
    if has_no_execute() {
        // SAFETY: the feature is there, and no table in use has the bit set that was reserved without it.
        unsafe { Efer::update(|efer| *efer |= EferFlags::NO_EXECUTE_ENABLE) };
    }
    if __cpuid(1).edx & (1 << 16) != 0 {
        // SAFETY: the MSR exists; the tables in use select the first entry only, which stays write-back.
        unsafe { Msr::new(PAGE_ATTRIBUTES_MSR).write(PAGE_ATTRIBUTES) };
    }
}

/// Registers of fixed ranges.
const FIXED: [u32; 11] = [
    0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
];
const FIRST_VARIABLE: u32 = 0x200;
const MOST_VARIABLE: u32 = 2 * 16;
const DEFAULT_TYPE: u32 = 0x2ff;
const DEFAULT_TYPE_ENABLED: u64 = 1 << 11;
const CAPABILITIES: u32 = 0xfe;

const SAVED: usize = FIXED.len() + MOST_VARIABLE as usize + 1;

/// The boot CPU's memory types, in the order of [`memory_type_registers`].
static MEMORY_TYPES: [AtomicU64; SAVED] = [const { AtomicU64::new(0) }; SAVED];

/// The memory-type registers that this CPU has, the one with the default type and the enable bit last.
fn memory_type_registers() -> impl Iterator<Item = u32> + Clone {
    let present = __cpuid(1).edx & (1 << 12) != 0;
    let mut capabilities = 0;
    if present {
        // SAFETY: the register exists where CPUID reports memory types.
        capabilities = unsafe { Msr::new(CAPABILITIES).read() };
    }
    let fixed = if capabilities & (1 << 8) != 0 {
        FIXED.len()
    } else {
        0
    };
    let variable = (2 * (capabilities as u32 & 0xff)).min(MOST_VARIABLE);
    let ranges = FIXED
        .into_iter()
        .take(fixed)
        .chain(FIRST_VARIABLE..FIRST_VARIABLE + variable);
    ranges.chain(present.then_some(DEFAULT_TYPE))
}

/// Remembers the boot CPU's memory types for the others.
pub fn save_memory_types() {
    for (register, saved) in memory_type_registers().zip(&MEMORY_TYPES) {
        // SAFETY: the register exists.
        saved.store(unsafe { Msr::new(register).read() }, Ordering::Release);
    }
}

/// Gives this CPU the boot CPU's memory types, if they differ, by the sequence that the manual prescribes (volume 3,
/// "MTRR considerations in MP systems").
pub fn load_memory_types() {
    let registers = memory_type_registers();
    // SAFETY: the registers exist.
    let differs = registers
        .clone()
        .zip(&MEMORY_TYPES)
        .any(|(register, saved)| unsafe { Msr::new(register).read() } != saved.load(Ordering::Acquire));
    if !differs {
        return;
    }
    let caching = Cr0::read();
    // SAFETY: with the caches off and empty and the types disabled, memory keeps its contents while they change;
    // interrupts are off, and the other CPUs that run have the types already.
    unsafe {
        Cr0::write(caching | Cr0Flags::CACHE_DISABLE);
        write_back_caches();
        x86_64::instructions::tlb::flush_all();
        let mut default_type = Msr::new(DEFAULT_TYPE);
        let value = default_type.read();
        default_type.write(value & !DEFAULT_TYPE_ENABLED);
        for (register, saved) in registers.zip(&MEMORY_TYPES) {
            Msr::new(register).write(saved.load(Ordering::Acquire));
        }
        write_back_caches();
        x86_64::instructions::tlb::flush_all();
        Cr0::write(caching);
    }
}

fn write_back_caches() {
    // SAFETY: writes every modified line to memory; the stage runs at the highest privilege.
    unsafe { core::arch::asm!("wbinvd", options(nostack, preserves_flags)) };
}
