//! The microkernel as host.
//!
//! `memory` has RAM and what is common to both ways of running programs; `soft` and `exit` are the two. Which one it is, is decided
//! once, by [`map_ram`], because it says what page-table entries count from.
#![allow(unsafe_code)]

mod exit;
mod memory;
mod soft;

use crate::linux::Errno;
use core::sync::atomic::AtomicU32;
use dragonet_abi::Handle;
use dragonet_abi::time::{Clock, FOREVER};
use dragonet_rt::thread::Builder;
use dragonet_rt::{archive, console, syscall};

pub use memory::{Vmspace, back_ram, map_ram};

/// Bytes of the stack of a virtual CPU.
const STACK_SIZE: u64 = 256 * 1024;
/// The ways in which the host can run programs, `MODE_*`.
pub fn modes() -> u64 {
    syscall::system_info().map_or(0, |information| information.vkernel_modes)
}

/// The file with this path in the host's root archive.
pub fn root_image(path: &str) -> Option<&'static [u8]> {
    archive::root().ok()?.find(path).map(|file| file.bytes)
}

/// A host thread that interrupts can be posted to.
pub struct Thread {
    handle: Handle,
}

impl Thread {
    /// Posts virtual interrupts to the thread.
    pub fn post(&self, bits: u64) {
        // It fails only when the thread has ended, which those of CPUs do not.
        let _ = syscall::virq_post(self.handle, bits);
    }
}

/// Starts a host thread, in exit mode as a guest: the first as master, the others as slaves. When this returns it is one.
pub fn spawn_thread(body: impl FnOnce() + Send + 'static) -> Result<Thread, Errno> {
    let builder = Builder::new().stack_size(STACK_SIZE);
    let started = match memory::guest() {
        Some(guest) => guest.spawn(builder, body)?,
        None => builder.spawn(body)?,
    };
    let handle = started.handle();
    // The thread runs as long as the process; its handle stays open.
    core::mem::forget(started);
    Ok(Thread { handle })
}

/// From now on these bits end runs and waits of the calling thread. Returns those that did so far.
pub fn enable_interrupts(mask: u64) -> u64 {
    // SAFETY: without a handler no code of ours is interrupted.
    unsafe { syscall::virq_control(0, mask) }.unwrap_or(0)
}

/// Takes pending bits of the calling thread.
pub fn take_interrupts(mask: u64) -> u64 {
    syscall::virq_take(mask).unwrap_or(0)
}

/// Waits for bits of the calling thread and takes them; 0 when the time has passed.
pub fn wait_for_interrupt(mask: u64, timeout: u64) -> u64 {
    syscall::virq_wait(mask, timeout).unwrap_or(0)
}

/// Arms the calling thread's timer: posts `bit` at the monotonic time `deadline`.
pub fn set_timer(deadline: u64, bit: u32) {
    // The bit is below 64 and there is no period, so there is nothing to refuse.
    let _ = syscall::timer_set(deadline, 0, bit);
}

/// Lets other host threads run.
pub fn thread_yield() {
    syscall::thread_yield();
}

/// Sleeps until the word no longer has the value `expected`, or for no reason.
pub fn sleep_on(word: &AtomicU32, expected: u32) {
    let _ = syscall::umtx_sleep(word, expected, FOREVER);
}

/// Wakes the thread that sleeps on a word.
pub fn wake_sleeper(word: &AtomicU32) {
    let _ = syscall::umtx_wakeup(word, 0);
}

/// Nanoseconds of a clock.
pub fn clock(clock: Clock) -> u64 {
    syscall::clock_get(clock).unwrap_or(0)
}

/// Writes bytes to the console, all of them. No interrupt may end the call to the console's server half-way.
pub fn console_write(bytes: &[u8]) {
    let enabled = enable_interrupts(0);
    console::write(bytes);
    console::flush();
    enable_interrupts(enabled);
}

/// Typed bytes come one by one, with no echo.
pub const CONSOLE_IS_RAW: bool = true;

/// Waits for typed bytes; 0 if there will never be any.
pub fn console_read(buffer: &mut [u8]) -> usize {
    console::read_blocking(buffer).unwrap_or(0)
}

/// Ends the process.
pub fn exit(status: u8) -> ! {
    dragonet_rt::exit::exit(status)
}
