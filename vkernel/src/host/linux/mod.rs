//! Linux as host, for developers and tests: address spaces are traced processes, as in User-mode Linux.
//!
//! Not a product and not fast: every translation is a system call made by hand in the traced process. But real threads run real programs,
//! and the walk of the page table and the invalidation follow the rules of the microkernel.
#![allow(unsafe_code)]

mod interrupts;
mod ram;
mod tracee;
mod vmspace;

use dragonet_abi::system::MODE_SOFT;
use dragonet_abi::time::Clock;
use std::boxed::Box;
use std::io::{Read, Write};
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

pub use interrupts::{
    Thread, enable_interrupts, set_timer, spawn_thread, take_interrupts, wait_for_interrupt,
};
pub use ram::{back_ram, map_ram};
pub use tracee::{load_fpu, store_fpu};
pub use vmspace::Vmspace;

/// The ways in which the host can run programs, `MODE_*`.
pub fn modes() -> u64 {
    MODE_SOFT
}

/// The file with this path, from the root directory if there is none from here.
pub fn root_image(path: &str) -> Option<&'static [u8]> {
    let bytes = std::fs::read(path)
        .or_else(|_| std::fs::read(std::format!("/{path}")))
        .ok()?;
    Some(Box::leak(bytes.into_boxed_slice()))
}

/// Lets other host threads run.
pub fn thread_yield() {
    std::thread::yield_now();
}

/// Sleeps until the word no longer has the value `expected`, or for no reason.
pub fn sleep_on(word: &core::sync::atomic::AtomicU32, expected: u32) {
    // SAFETY: the word outlives the call; no time-out is given.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            core::ptr::null::<u8>(),
        )
    };
}

/// Wakes the thread that sleeps on a word.
pub fn wake_sleeper(word: &core::sync::atomic::AtomicU32) {
    // SAFETY: the word outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

/// Nanoseconds of a clock.
pub fn clock(clock: Clock) -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let time = match clock {
        Clock::Realtime => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        Clock::Monotonic | Clock::ThreadCpu => START.get_or_init(Instant::now).elapsed(),
    };
    time.as_nanos() as u64
}

/// Writes bytes to the console, all of them.
pub fn console_write(bytes: &[u8]) {
    let mut output = std::io::stdout().lock();
    // Nobody is left to be told of an error.
    let _ = output.write_all(bytes).and_then(|()| output.flush());
}

/// The terminal makes lines of typed bytes and echoes them.
pub const CONSOLE_IS_RAW: bool = false;

/// Waits for typed bytes; 0 if there will never be any.
pub fn console_read(buffer: &mut [u8]) -> usize {
    std::io::stdin().lock().read(buffer).unwrap_or(0)
}

/// Ends the process.
pub fn exit(status: u8) -> ! {
    std::process::exit(i32::from(status))
}
