//! Access to user memory from the kernel: the few instructions that may fault on a user address.
//!
//! Each of them has an entry in the exception table, a list of (instruction, where to go on after an unresolved fault). They
//! open SMAP's gate (SDM 3A 4.6) around themselves and close it on both ways out. Callers have checked that the range lies in
//! the lower half; `crate::vm` is the only one.

use super::cpu::SMAP;
use core::arch::naked_asm;

#[repr(C)]
struct Fixup {
    instruction: u64,
    target: u64,
}

unsafe extern "C" {
    static __exception_table_start: Fixup;
    static __exception_table_end: Fixup;
}

/// Where a fault at `instruction` goes on, if it is one that may fault.
pub(super) fn fixup(instruction: u64) -> Option<u64> {
    let start = &raw const __exception_table_start;
    let end = &raw const __exception_table_end;
    let entries = (end as usize - start as usize) / size_of::<Fixup>();
    // SAFETY: the linker script puts both symbols around the entries that the functions below emit.
    let table = unsafe { core::slice::from_raw_parts(start, entries) };
    table
        .iter()
        .find(|entry| entry.instruction == instruction)
        .map(|entry| entry.target)
}

macro_rules! open_user_access {
    () => {
        "cmp dword ptr gs:[{smap}], 0
        je 8f
        stac
        8:"
    };
}

macro_rules! close_user_access {
    () => {
        "cmp dword ptr gs:[{smap}], 0
        je 9f
        clac
        9:"
    };
}

/// An exception table entry: a fault at the first label goes on at the second.
macro_rules! may_fault {
    ($instruction:literal, $target:literal) => {
        concat!(
            ".pushsection .exception_table, \"a\"\n.quad ",
            $instruction,
            ", ",
            $target,
            "\n.popsection"
        )
    };
}

/// `rep movs` can be interrupted and resumed by faults: its state is in the registers. Returns 0, or 1 after a fault.
///
/// # Safety
/// 1. One side is kernel memory of `length` bytes that the caller may access so, the other lies in the lower half.
#[unsafe(naked)]
unsafe extern "C" fn copy(destination: u64, source: u64, length: usize) -> u64 {
    naked_asm!(
        open_user_access!(),
        "mov rcx, rdx",
        "shr rcx, 3",
        "2: rep movsq",
        "mov ecx, edx",
        "and ecx, 7",
        "3: rep movsb",
        "xor eax, eax",
        "4:",
        close_user_access!(),
        "ret",
        "5: mov eax, 1",
        "jmp 4b",
        may_fault!("2b", "5b"),
        may_fault!("3b", "5b"),
        smap = const SMAP,
    );
}

/// Zeroes user memory. Returns 0, or 1 after a fault.
///
/// # Safety
/// 1. The range lies in the lower half.
#[unsafe(naked)]
unsafe extern "C" fn clear(destination: u64, length: usize) -> u64 {
    naked_asm!(
        open_user_access!(),
        "mov rcx, rsi",
        "xor eax, eax",
        "2: rep stosb",
        "3:",
        close_user_access!(),
        "ret",
        "4: mov eax, 1",
        "jmp 3b",
        may_fault!("2b", "4b"),
        smap = const SMAP,
    );
}

/// Value in RAX, 0 or 1 (fault) in RDX.
#[repr(C)]
struct Outcome {
    value: u64,
    fault: u64,
}

/// Reads an aligned 32-bit word.
///
/// # Safety
/// 1. The address lies in the lower half.
#[unsafe(naked)]
unsafe extern "C" fn load_32(address: u64) -> Outcome {
    naked_asm!(
        open_user_access!(),
        "xor edx, edx",
        "2: mov eax, [rdi]",
        "3:",
        close_user_access!(),
        "ret",
        "4: mov edx, 1",
        "jmp 3b",
        may_fault!("2b", "4b"),
        smap = const SMAP,
    );
}

/// A function that compares and exchanges an aligned word; `$new` is the part of RCX that has its size.
macro_rules! compare_exchange {
    ($name:ident, $new:literal) => {
        /// Compares and exchanges an aligned word.
        ///
        /// # Safety
        /// 1. The address lies in the lower half.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(address: u64, old: u64, new: u64) -> Outcome {
            naked_asm!(
                open_user_access!(),
                "mov rax, rsi",
                "mov rcx, rdx",
                "xor edx, edx",
                concat!("2: lock cmpxchg [rdi], ", $new),
                "3:",
                close_user_access!(),
                "ret",
                "4: mov edx, 1",
                "jmp 3b",
                may_fault!("2b", "4b"),
                smap = const SMAP,
            );
        }
    };
}

compare_exchange!(compare_exchange_32, "ecx");
compare_exchange!(compare_exchange_64, "rcx");

fn done(outcome: u64) -> Result<(), ()> {
    if outcome == 0 { Ok(()) } else { Err(()) }
}

fn value(outcome: Outcome) -> Result<u64, ()> {
    if outcome.fault == 0 {
        Ok(outcome.value)
    } else {
        Err(())
    }
}

/// Copies from the current program to the kernel.
///
/// # Errors
/// When a part of the source is not there and cannot be brought in; an unspecified part has been copied then.
///
/// # Safety
/// 1. `destination` is valid for writes of `length` bytes.
/// 2. `source..source + length` lies in the lower half.
/// 3. No lock is held: the fault may wait.
pub unsafe fn copy_in(destination: *mut u8, source: u64, length: usize) -> Result<(), ()> {
    // SAFETY: the caller's 1 and 2.
    done(unsafe { copy(destination as u64, source, length) })
}

/// Copies from the kernel to the current program.
///
/// # Errors
/// When a part of the destination is not there, or is read-only; an unspecified part has been copied then.
///
/// # Safety
/// 1. `source` is valid for reads of `length` bytes.
/// 2. `destination..destination + length` lies in the lower half.
/// 3. No lock is held: the fault may wait.
pub unsafe fn copy_out(destination: u64, source: *const u8, length: usize) -> Result<(), ()> {
    // SAFETY: the caller's 1 and 2.
    done(unsafe { copy(destination, source as u64, length) })
}

/// Zeroes memory of the current program.
///
/// # Errors
/// When a part of it is not there, or is read-only.
///
/// # Safety
/// 1. `destination..destination + length` lies in the lower half.
/// 2. No lock is held: the fault may wait.
pub unsafe fn zero_out(destination: u64, length: usize) -> Result<(), ()> {
    // SAFETY: the caller's 1.
    done(unsafe { clear(destination, length) })
}

/// Reads a 32-bit word of the current program in one access.
///
/// # Errors
/// When it is not there.
///
/// # Safety
/// 1. `address` is a multiple of 4 in the lower half.
/// 2. No lock is held: the fault may wait.
pub unsafe fn load_u32(address: u64) -> Result<u32, ()> {
    // SAFETY: the caller's 1.
    value(unsafe { load_32(address) }).map(|word| word as u32)
}

/// Replaces a 32-bit word of the current program if it is `old`. Returns what was there.
///
/// # Errors
/// When it is not there, or is read-only.
///
/// # Safety
/// 1. `address` is a multiple of 4 in the lower half.
/// 2. No lock is held: the fault may wait.
pub unsafe fn compare_exchange_u32(address: u64, old: u32, new: u32) -> Result<u32, ()> {
    // SAFETY: the caller's 1.
    value(unsafe { compare_exchange_32(address, old.into(), new.into()) }).map(|word| word as u32)
}

/// Replaces a 64-bit word of the current program if it is `old`. Returns what was there.
///
/// # Errors
/// When it is not there, or is read-only.
///
/// # Safety
/// 1. `address` is a multiple of 8 in the lower half.
/// 2. No lock is held: the fault may wait.
pub unsafe fn compare_exchange_u64(address: u64, old: u64, new: u64) -> Result<u64, ()> {
    // SAFETY: the caller's 1.
    value(unsafe { compare_exchange_64(address, old, new) })
}
