//! `vmm-hello`: a program that becomes a virtual machine, looks around, runs a user of its own, and comes back.
#![no_std]
#![no_main]

extern crate alloc;

mod users;

use core::sync::atomic::Ordering;
use dragonet_abi::Errno;
use dragonet_abi::Handle;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::process::ThreadControl;
use dragonet_abi::time::Clock;
use dragonet_programs::checks::Checks;
use dragonet_programs::cpuid::Native;
use dragonet_programs::guest::require_guest_mode;
use dragonet_programs::options::Syntax;
use dragonet_programs::text::fault;
use dragonet_rt::guest::IdentityMap;
use dragonet_rt::memory::Mapping;
use dragonet_rt::processor::is_guest;
use dragonet_rt::{Arguments, ExitCode, println, syscall};
use vmx_model::cpuid::{Cpuid, SIGNATURE, SIGNATURE_LEAF};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: vmm-hello

Enters guest mode, prints from inside, executes CPUID, touches memory, makes system calls, runs a
user, and leaves again. Status 69 if the machine has no guest mode.";

/// Pages that are touched for the first time in guest mode.
const PAGES: u64 = 64;
/// The words at the segment bases of this program and of its user.
const OWN_WORD: u64 = 0x0123_4567;
const USER_WORD: u64 = 0x89ab_cdef;

fn main(arguments: Arguments) -> ExitCode {
    if let Err(status) = Syntax::new(HELP).parse(&arguments) {
        return status;
    }
    if let Err(status) = require_guest_mode() {
        return status;
    }
    let mut checks = Checks::default();
    match rounds(&mut checks) {
        Ok(()) => checks.finish(),
        Err(errno) => fault("guest mode", errno),
    }
}

fn rounds(checks: &mut Checks) -> Result<(), Errno> {
    let map = IdentityMap::new()?;
    let user = IdentityMap::new()?;
    checks.report(
        "an ordinary thread to begin with",
        !is_guest(),
        format_args!("a guest"),
    );
    // Bases that the kernel must neither lose nor mix up, in or out of guest mode.
    let words = Mapping::anonymous(PAGE_SIZE)?;
    words.word(0)?.store(OWN_WORD, Ordering::Relaxed);
    words.word(8)?.store(USER_WORD, Ordering::Relaxed);
    syscall::thread_control(Handle::SELF_THREAD, ThreadControl::SetFsBase, words.address())?;
    map.run(true, || inside(checks, &map, &user, words.address() + 8))??;
    checks.report("an ordinary thread again", !is_guest(), format_args!("a guest"));
    let word = fs_word();
    checks.report(
        "its segment base is its own",
        word == OWN_WORD,
        format_args!("{word:#x}"),
    );
    let again = map.run(true, is_guest)?;
    checks.report("a guest a second time", again, format_args!("not a guest"));
    let slave = map.run(false, || ());
    checks.report(
        "no slave without a master",
        slave == Err(Errno::ENOENT),
        format_args!("{slave:?}"),
    );
    Ok(())
}

/// What happens in guest mode.
fn inside(checks: &mut Checks, map: &IdentityMap, user: &IdentityMap, user_base: u64) -> Result<(), Errno> {
    checks.report("in guest mode", is_guest(), format_args!("not a guest"));
    println!("vmm-hello: hello from VMX non-root mode");
    let leaf = Native.leaf(SIGNATURE_LEAF, 0);
    let mut signature = [0; 12];
    for (place, register) in signature.chunks_exact_mut(4).zip([leaf.ebx, leaf.ecx, leaf.edx]) {
        place.copy_from_slice(&register.to_le_bytes());
    }
    checks.report(
        "CPUID has our signature",
        signature == *SIGNATURE,
        format_args!("{signature:?}"),
    );
    let memory = Mapping::anonymous(PAGES * PAGE_SIZE)?;
    let mut wrong = 0;
    for page in 0..PAGES {
        let word = memory.word(page * PAGE_SIZE)?;
        if word.swap(page + 1, Ordering::Relaxed) != 0 {
            wrong += 1;
        }
    }
    for page in 0..PAGES {
        if memory.word(page * PAGE_SIZE)?.load(Ordering::Relaxed) != page + 1 {
            wrong += 1;
        }
    }
    checks.report(
        "memory that is touched first here",
        wrong == 0,
        format_args!("{wrong} words"),
    );
    let before = syscall::clock_get(Clock::Monotonic)?;
    let null = syscall::null();
    let after = syscall::clock_get(Clock::Monotonic)?;
    checks.report(
        "system calls",
        null.is_ok() && after >= before,
        format_args!("{null:?}, {before} then {after}"),
    );
    let word = fs_word();
    checks.report(
        "the segment base came along",
        word == OWN_WORD,
        format_args!("{word:#x}"),
    );
    let twice = map.run(true, || ());
    checks.report("not twice", twice == Err(Errno::EBUSY), format_args!("{twice:?}"));
    users::all(checks, user, OWN_WORD, user_base)
}

/// The word at the base of FS.
fn fs_word() -> u64 {
    let word: u64;
    // SAFETY: the base is the address of mapped memory for as long as this is called.
    unsafe { core::arch::asm!("mov {}, fs:[0]", out(reg) word, options(nostack, readonly, preserves_flags)) };
    word
}
