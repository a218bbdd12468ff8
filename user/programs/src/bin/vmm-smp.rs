//! `vmm-smp`: several threads in guest mode at once, which move between CPUs all the time.
//!
//! Thread 0 is the master. Each has memory of its own and a word that all add to; each checks after every step that registers,
//! memory and segment base are its own.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::process::ThreadControl;
use dragonet_abi::vmm::MAX_GUEST_THREADS;
use dragonet_abi::{Errno, Handle};
use dragonet_programs::checks::Checks;
use dragonet_programs::guest::require_guest_mode;
use dragonet_programs::options::{Syntax, usage};
use dragonet_rt::guest::IdentityMap;
use dragonet_rt::memory::Mapping;
use dragonet_rt::processor::is_guest;
use dragonet_rt::sync::Mutex;
use dragonet_rt::{Arguments, ExitCode, println, syscall, thread};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: vmm-smp [-n THREADS] [-r ROUNDS]

Runs so many threads in guest mode, 4 unless told, and moves them between CPUs for so many rounds,
100 unless told. Status 69 if the machine has no guest mode.";

const SYNTAX: Syntax = Syntax {
    values: "nr",
    ..Syntax::new(HELP)
};

/// Pages of each thread.
const PAGES: u64 = 4;

/// What all threads share.
struct Shared {
    map: IdentityMap,
    threads: u32,
    rounds: u64,
    cpus: u64,
    /// Threads that have entered.
    entered: AtomicU32,
    /// Threads that are done.
    done: AtomicU32,
    sum: AtomicU64,
    failures: AtomicU64,
    first: Mutex<Option<&'static str>>,
}

impl Shared {
    fn fail(&self, what: &'static str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.first.lock().get_or_insert(what);
    }
}

fn main(arguments: Arguments) -> ExitCode {
    let options = match SYNTAX.parse(&arguments) {
        Ok(options) => options,
        Err(status) => return status,
    };
    let number = |letter, default: u64| {
        options
            .value(letter)
            .map_or(Some(default), |text| text.parse().ok())
    };
    let (Some(threads), Some(rounds)) = (number('n', 4), number('r', 100)) else {
        return usage(&arguments, format_args!("THREADS and ROUNDS are numbers"));
    };
    if threads == 0 || threads > MAX_GUEST_THREADS as u64 {
        return usage(&arguments, format_args!("1 to {MAX_GUEST_THREADS} threads"));
    }
    if let Err(status) = require_guest_mode() {
        return status;
    }
    let mut checks = Checks::default();
    if let Err(errno) = run(&mut checks, threads as u32, rounds) {
        return dragonet_programs::text::fault("guest mode", errno);
    }
    checks.finish()
}

fn run(checks: &mut Checks, threads: u32, rounds: u64) -> Result<(), Errno> {
    let shared = Arc::new(Shared {
        map: IdentityMap::new()?,
        threads,
        rounds,
        cpus: u64::from(syscall::system_info()?.cpus),
        entered: AtomicU32::new(0),
        done: AtomicU32::new(0),
        sum: AtomicU64::new(0),
        failures: AtomicU64::new(0),
        first: Mutex::new(None),
    });
    let mut handles = Vec::new();
    for number in 0..threads {
        // A slave needs a master.
        while number > 0
            && shared.entered.load(Ordering::Acquire) == 0
            && shared.done.load(Ordering::Acquire) == 0
        {
            syscall::thread_yield();
        }
        let own = Arc::clone(&shared);
        handles.push(thread::spawn(move || one(&own, number))?);
    }
    for (number, handle) in handles.into_iter().enumerate() {
        let outcome = handle.join().unwrap_or(Err(Errno::ESRCH));
        checks.report(
            &alloc::format!("thread {number}"),
            outcome.is_ok(),
            format_args!("{outcome:?}"),
        );
    }
    let (sum, wanted) = (shared.sum.load(Ordering::Relaxed), u64::from(threads) * rounds);
    checks.report(
        "the sum of all",
        sum == wanted,
        format_args!("{sum}, not {wanted}"),
    );
    let failures = shared.failures.load(Ordering::Relaxed);
    let first = *shared.first.lock();
    checks.report(
        "nothing of one is another's",
        failures == 0,
        format_args!("{failures} times, first: {}", first.unwrap_or("?")),
    );
    Ok(())
}

/// A thread.
fn one(shared: &Shared, number: u32) -> Result<(), Errno> {
    let memory = Mapping::anonymous(PAGES * PAGE_SIZE)?;
    let result = shared.map.run(number == 0, || {
        shared.entered.fetch_add(1, Ordering::AcqRel);
        let outcome = rounds(shared, number, &memory);
        println!("vmm-smp: thread {number} is done on cpu {}", cpu()?);
        outcome
    });
    shared.done.fetch_add(1, Ordering::AcqRel);
    // The master leaves last, so that slaves that come late find one.
    while number == 0 && shared.done.load(Ordering::Acquire) < shared.threads {
        syscall::thread_yield();
    }
    result?
}

fn rounds(shared: &Shared, number: u32, memory: &Mapping) -> Result<(), Errno> {
    let mark = u64::from(number) << 32 | 0xa5a5;
    memory.word(0)?.store(mark, Ordering::Relaxed);
    syscall::thread_control(Handle::SELF_THREAD, ThreadControl::SetFsBase, memory.address())?;
    for round in 0..shared.rounds {
        if !is_guest() {
            shared.fail("a thread is no guest");
        }
        let page = round % PAGES;
        let word = memory.word(page * PAGE_SIZE + 8)?;
        let before = word.swap(mark + round, Ordering::Relaxed);
        let wanted = if round < PAGES { 0 } else { mark + round - PAGES };
        if before != wanted {
            shared.fail("a word of one's own memory");
        }
        shared.sum.fetch_add(1, Ordering::Relaxed);
        let target = (u64::from(number) + round) % shared.cpus;
        syscall::thread_control(Handle::SELF_THREAD, ThreadControl::SetAffinity, 1 << target)?;
        if cpu()? != target {
            shared.fail("the CPU that was asked for");
        }
        if registers(mark) != mark {
            shared.fail("a register");
        }
        if fs_word() != mark {
            shared.fail("the segment base");
        }
    }
    Ok(())
}

/// The CPU that runs the calling thread.
fn cpu() -> Result<u64, Errno> {
    syscall::thread_control(Handle::SELF_THREAD, ThreadControl::GetCpu, 0)
}

/// Keeps a value in many registers while the processor identifies itself, which is an exit, and gives back what they have in common.
fn registers(mark: u64) -> u64 {
    let all: u64;
    // SAFETY: changes only the registers that are named.
    unsafe {
        asm!(
            "mov r8, {mark}", "mov r9, {mark}", "mov r10, {mark}", "mov r11, {mark}",
            "mov r12, {mark}", "mov r13, {mark}", "mov r14, {mark}", "mov r15, {mark}",
            "mov {saved}, rbx",
            "xor eax, eax", "xor ecx, ecx", "cpuid",
            "mov rbx, {saved}",
            "mov rax, r8", "and rax, r9", "and rax, r10", "and rax, r11",
            "and rax, r12", "and rax, r13", "and rax, r14", "and rax, r15",
            mark = in(reg) mark, saved = out(reg) _,
            out("rax") all, out("rcx") _, out("rdx") _,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _, out("r12") _, out("r13") _, out("r14") _, out("r15") _,
            options(nostack),
        );
    }
    all
}

/// The word at the base of FS.
fn fs_word() -> u64 {
    let word: u64;
    // SAFETY: the base is the address of the thread's own memory.
    unsafe { asm!("mov {}, fs:[0]", out(reg) word, options(nostack, readonly, preserves_flags)) };
    word
}
