//! What a panic does: it says where and why, shows the chain of return addresses, and ends the program with status 101.
//!
//! Nothing here allocates or takes a lock, because the panic may have happened inside either.

use crate::console::UnbufferedConsole;
use core::fmt::Write;
use core::ptr;

/// Exit status of a program that panicked.
#[cfg(target_os = "none")]
const PANIC_STATUS: u8 = 101;
/// Return addresses shown at most.
const MAX_FRAMES: usize = 32;
/// Bytes between two frames at most; more means that the chain is broken.
const MAX_FRAME_SIZE: usize = 1 << 20;

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(information: &core::panic::PanicInfo<'_>) -> ! {
    report(&information.message(), information.location());
    crate::syscall::process_exit(PANIC_STATUS)
}

#[cfg_attr(
    not(target_os = "none"),
    expect(dead_code, reason = "called by the panic handler")
)]
fn report(message: &dyn core::fmt::Display, location: Option<&core::panic::Location<'_>>) {
    let mut console = UnbufferedConsole::new();
    let _ = write!(console, "{}: panic: {message}", crate::startup::program());
    if let Some(location) = location {
        let _ = write!(console, " at {location}");
    }
    let _ = write!(console, "\n{}: backtrace", crate::startup::program());
    for address in return_addresses().into_iter().take_while(|address| *address != 0) {
        let _ = write!(console, " {address:#x}");
    }
    let _ = console.write_str("\n");
    console.finish();
}

/// Follows the frame pointers; unused places are 0.
fn return_addresses() -> [usize; MAX_FRAMES] {
    let mut addresses = [0; MAX_FRAMES];
    let mut frame: usize;
    // SAFETY: only reads a register.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    for slot in &mut addresses {
        if frame == 0 || !frame.is_multiple_of(8) {
            break;
        }
        // SAFETY: with frame pointers in all code, `frame` is the address of a saved frame pointer with the return address
        // behind it, both on this thread's stack; the chain ends with 0 and is followed upwards only, in small steps.
        let (next, address) = unsafe {
            let pointer = ptr::with_exposed_provenance::<usize>(frame);
            (pointer.read(), pointer.add(1).read())
        };
        *slot = address;
        if next <= frame || next - frame > MAX_FRAME_SIZE {
            break;
        }
        frame = next;
    }
    addresses
}
