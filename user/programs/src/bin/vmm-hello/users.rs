//! Users of a vkernel in guest mode: what ends their run, and what they see of a page table that changes.

use crate::fs_word;
use core::arch::naked_asm;
use core::sync::atomic::Ordering;
use dragonet_abi::Errno;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::{Advice, Vpte};
use dragonet_abi::time::FOREVER;
use dragonet_abi::vmspace::{RUN_EXCEPTION, RUN_TIMEOUT, RegisterFrame, RunState};
use dragonet_programs::checks::Checks;
use dragonet_rt::guest::IdentityMap;
use dragonet_rt::memory::Mapping;
use dragonet_rt::syscall;

const DEBUG: u32 = 1;
const BREAKPOINT: u32 = 3;
const UNDEFINED_OPCODE: u32 = 6;
const PAGE_FAULT: u32 = 14;
/// Nothing is mapped there.
const NOWHERE: u64 = 0x7000_0000_0000;
/// As a root: every CPU has such an address, and there is no memory in this process.
const EMPTY_ROOT: u64 = 60 << 30;
/// A page of the users' own table.
const OWN_PAGE: u64 = 2 << 39;
const TRAP_FLAG: u64 = 1 << 8;
const MILLISECOND: u64 = 1_000_000;

type Code = unsafe extern "C" fn() -> !;

/// What every user here starts with.
struct Start<'table> {
    table: &'table IdentityMap,
    stack: Mapping,
    fs_base: u64,
}

impl Start<'_> {
    fn state(&self, code: Code) -> RunState {
        RunState {
            registers: RegisterFrame {
                rip: code as *const () as u64,
                rsp: self.stack.address() + self.stack.length(),
                rflags: RegisterFrame::FORCED_FLAGS,
                rbx: 77,
                fs_base: self.fs_base,
                ..RegisterFrame::default()
            },
            timeout: FOREVER,
            ..RunState::default()
        }
    }

    fn run(&self, state: &mut RunState) -> Result<(), Errno> {
        syscall::vmm_run_user(self.table.root(), state)
    }
}

/// Runs users under a page table of their own, which happens to map everything to itself.
///
/// # Errors
/// Of calls that should not fail.
pub fn all(checks: &mut Checks, table: &IdentityMap, own_word: u64, fs_base: u64) -> Result<(), Errno> {
    let start = Start {
        table,
        stack: Mapping::anonymous(4 * PAGE_SIZE)?,
        fs_base,
    };
    calls(checks, &start, own_word)?;
    refusals(checks, &start)?;
    steps(checks, &start)?;
    changes(checks, &start)
}

fn calls(checks: &mut Checks, start: &Start<'_>, own_word: u64) -> Result<(), Errno> {
    let mut state = start.state(user_call);
    start.run(&mut state)?;
    let right = state.reason == RUN_EXCEPTION
        && state.vector == UNDEFINED_OPCODE
        && state.registers.rax == 78
        && state.registers.fs_base == start.fs_base
        && state.registers.rcx == crate::USER_WORD
        && state.registers.rip == user_call as *const () as u64 + USER_CALL_AT;
    checks.report("a user's system call", right, format_args!("{state:x?}"));
    let word = fs_word();
    checks.report(
        "the segment base is not the user's",
        word == own_word,
        format_args!("{word:#x}"),
    );
    state = start.state(user_fault);
    start.run(&mut state)?;
    let right = state.reason == RUN_EXCEPTION
        && state.vector == PAGE_FAULT
        && state.fault_address == NOWHERE
        && state.error_code == 4 | 2;
    checks.report("a user's page fault", right, format_args!("{state:x?}"));
    state = start.state(user_host_call);
    start.run(&mut state)?;
    let right = state.reason == RUN_EXCEPTION && state.vector == UNDEFINED_OPCODE;
    checks.report("a user cannot call the host", right, format_args!("{state:x?}"));
    Ok(())
}

fn refusals(checks: &mut Checks, start: &Start<'_>) -> Result<(), Errno> {
    let mut state = start.state(user_spin);
    state.timeout = 0;
    start.run(&mut state)?;
    let right = state.reason == RUN_TIMEOUT;
    checks.report("no time for a user", right, format_args!("{state:x?}"));
    state.timeout = MILLISECOND;
    start.run(&mut state)?;
    let right = state.reason == RUN_TIMEOUT && state.registers.rbx == 77;
    checks.report(
        "a user that spins until its time is over",
        right,
        format_args!("{state:x?}"),
    );
    // Its time is over before its first instruction: the bases in the guest's registers are still those of this program.
    state = start.state(user_spin);
    state.timeout = 1;
    start.run(&mut state)?;
    let right = state.reason == RUN_TIMEOUT && state.registers.fs_base == start.fs_base;
    checks.report(
        "a user that never ran keeps its segment base",
        right,
        format_args!("{state:x?}"),
    );
    for (name, root) in [
        ("a root that CR3 cannot have", start.table.root() + 8),
        ("no root", 0),
        ("a root behind guest-physical memory", 1 << 46),
    ] {
        let refused = syscall::vmm_run_user(root, &mut state);
        checks.report(name, refused == Err(Errno::EINVAL), format_args!("{refused:?}"));
    }
    // An address that is none: the user jumps there, and gets a fault there.
    state = start.state(user_far_away);
    start.run(&mut state)?;
    let right = state.reason == RUN_EXCEPTION && state.vector == 13;
    checks.report(
        "a user that jumps out of all addresses",
        right,
        format_args!("{state:x?}"),
    );
    // A root where nothing is: the first fetch is a fault of the process, reported as one of the user's table.
    state = start.state(user_call);
    syscall::vmm_run_user(EMPTY_ROOT, &mut state)?;
    let right = state.reason == RUN_EXCEPTION && state.vector == PAGE_FAULT;
    checks.report("a root where no memory is", right, format_args!("{state:x?}"));
    Ok(())
}

/// Steps through a user, and breakpoints.
fn steps(checks: &mut Checks, start: &Start<'_>) -> Result<(), Errno> {
    let base = user_steps as *const () as u64;
    let mut state = start.state(user_steps);
    let mut seen = alloc::vec::Vec::new();
    for _ in 0..STEPS.len() {
        state.registers.rflags |= TRAP_FLAG;
        state.timeout = FOREVER;
        start.run(&mut state)?;
        seen.push((state.reason, state.vector, state.registers.rip.wrapping_sub(base)));
    }
    let right = seen
        .iter()
        .zip(STEPS)
        .all(|(seen, (vector, rip))| *seen == (RUN_EXCEPTION, vector, rip));
    checks.report("single steps", right, format_args!("{seen:x?}"));
    for (name, code, vector) in [
        ("int3", user_breakpoint as Code, BREAKPOINT),
        ("int1", user_debug as Code, DEBUG),
    ] {
        let mut state = start.state(code);
        start.run(&mut state)?;
        let right = state.reason == RUN_EXCEPTION
            && state.vector == vector
            && state.registers.rip == code as *const () as u64 + 1;
        checks.report(name, right, format_args!("{state:x?}"));
    }
    Ok(())
}

/// A page table that changes under a user.
fn changes(checks: &mut Checks, start: &Start<'_>) -> Result<(), Errno> {
    let tables = Mapping::anonymous(4 * PAGE_SIZE)?;
    let pages = Mapping::anonymous(2 * PAGE_SIZE)?;
    let allow = Vpte::VALID | Vpte::WRITE | Vpte::USER;
    let [first, second] = [0, PAGE_SIZE].map(|distance| (pages.address() + distance) | allow);
    let at = |table: u64, index: u64| tables.word(table * PAGE_SIZE + index * 8);
    pages.word(0)?.store(1, Ordering::Relaxed);
    pages.word(PAGE_SIZE)?.store(2, Ordering::Relaxed);
    at(0, 0)?.store(start.table.first_entry(), Ordering::Relaxed);
    at(0, 2)?.store((tables.address() + PAGE_SIZE) | allow, Ordering::Relaxed);
    at(1, 0)?.store((tables.address() + 2 * PAGE_SIZE) | allow, Ordering::Relaxed);
    at(2, 0)?.store((tables.address() + 3 * PAGE_SIZE) | allow, Ordering::Relaxed);
    let entry = at(3, 0)?;
    entry.store(first, Ordering::Relaxed);
    let seen = || -> Result<u64, Errno> {
        let mut state = start.state(user_load);
        syscall::vmm_run_user(tables.address(), &mut state)?;
        Ok(if state.vector == UNDEFINED_OPCODE {
            state.registers.rax
        } else {
            u64::from(state.vector) << 32 | state.error_code
        })
    };
    let used = Vpte::ACCESSED;
    let before = seen()?;
    let marked = entry.load(Ordering::Relaxed);
    checks.report(
        "the MMU walks the user's table and marks what it used",
        before == 1 && marked == first | used,
        format_args!("{before}, {marked:#x}"),
    );
    entry.store(second, Ordering::Relaxed);
    // SAFETY: no memory of this program changes.
    unsafe { syscall::madvise(OWN_PAGE, PAGE_SIZE, Advice::Invalidate)? };
    let after = seen()?;
    checks.report(
        "another page after an invalidation",
        after == 2,
        format_args!("{after}"),
    );
    let mut word = 0;
    let address = tables.address() + 3 * PAGE_SIZE;
    // SAFETY: a word that only this function reads, and by atomic accesses.
    unsafe {
        syscall::vmm_guest_sync_addr(
            Some(core::ptr::with_exposed_provenance_mut(address as usize)),
            &mut word,
        )?
    };
    let gone = seen()?;
    checks.report(
        "an exchanged word is what it was, with its marks, and what replaces it holds",
        word == second | used && gone == u64::from(PAGE_FAULT) << 32 | 4,
        format_args!("{word:#x}, {gone:#x}"),
    );
    for (name, address, length) in [
        ("a crooked range to invalidate", OWN_PAGE + 1, PAGE_SIZE),
        ("a range between the halves", 1 << 47, PAGE_SIZE),
        ("a range that wraps", !0 << 12, 2 * PAGE_SIZE),
    ] {
        // SAFETY: no memory of this program changes.
        let refused = unsafe { syscall::madvise(address, length, Advice::Invalidate) };
        checks.report(name, refused == Err(Errno::EINVAL), format_args!("{refused:?}"));
    }
    // SAFETY: as above.
    let all = unsafe { syscall::madvise(0, 1 << 47, Advice::Invalidate) };
    checks.report("all addresses", all.is_ok(), format_args!("{all:?}"));
    Ok(())
}

/// Bytes from the start of [`user_call`] to its `syscall`.
const USER_CALL_AT: u64 = 13;

/// # Safety
/// 1. Run as a user only.
#[unsafe(naked)]
unsafe extern "C" fn user_call() -> ! {
    naked_asm!("lea rax, [rbx + 1]", "mov rcx, fs:[0]", "syscall", "ud2")
}

/// # Safety
/// 1. Run as a user only.
#[unsafe(naked)]
unsafe extern "C" fn user_fault() -> ! {
    naked_asm!("mov rax, {nowhere}", "mov [rax], rax", "ud2", nowhere = const NOWHERE)
}

/// # Safety
/// 1. Run as a user only.
#[unsafe(naked)]
unsafe extern "C" fn user_host_call() -> ! {
    naked_asm!("xor eax, eax", "vmcall", "ud2")
}

/// # Safety
/// 1. Run as a user only.
#[unsafe(naked)]
unsafe extern "C" fn user_spin() -> ! {
    naked_asm!("2:", "pause", "jmp 2b")
}

/// # Safety
/// 1. Run as a user only.
#[unsafe(naked)]
unsafe extern "C" fn user_far_away() -> ! {
    naked_asm!("mov rax, {far}", "jmp rax", far = const 1u64 << 47)
}

/// Vector and distance of the instruction pointer after each step of [`user_steps`]: CPUID is stepped over as well, the host answers it.
const STEPS: [(u32, u64); 4] = [(DEBUG, 1), (DEBUG, 3), (DEBUG, 4), (UNDEFINED_OPCODE, 4)];

/// # Safety
/// 1. Run as a user only.
#[unsafe(naked)]
unsafe extern "C" fn user_steps() -> ! {
    naked_asm!("nop", "cpuid", "nop", "ud2")
}

/// # Safety
/// 1. Run as a user only.
#[unsafe(naked)]
unsafe extern "C" fn user_breakpoint() -> ! {
    naked_asm!("int3", "ud2")
}

/// # Safety
/// 1. Run as a user only.
#[unsafe(naked)]
unsafe extern "C" fn user_debug() -> ! {
    naked_asm!(".byte 0xf1", "ud2")
}

/// # Safety
/// 1. Run as a user only.
#[unsafe(naked)]
unsafe extern "C" fn user_load() -> ! {
    naked_asm!("mov rax, {page}", "mov rax, [rax]", "ud2", page = const OWN_PAGE)
}
