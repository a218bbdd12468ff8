//! Backtraces by frame pointers: every function begins with `push rbp; mov rbp, rsp`, so RBP points to a chain of (caller's RBP, return
//! address) pairs. The entry code adds such a pair for interrupted kernel code.

use crate::arch::{boot, paging};

/// Longest backtrace.
pub const MAX_DEPTH: usize = 32;
/// A frame is not larger than this; the first must lie so close above the stack pointer.
const LARGEST_STEP: u64 = 64 * 1024;
const WORD: u64 = 8;

fn is_code(address: u64) -> bool {
    let text = boot::sections().text;
    (text.start.as_u64()..text.end.as_u64()).contains(&address)
}

/// Calls `visit` with `instruction` and then with the return addresses that the chain at `frame` has, innermost first. Reads nothing that
/// is not mapped RAM, and stops at whatever is not a chain of kernel frames.
pub fn walk(instruction: u64, stack: u64, frame: u64, mut visit: impl FnMut(u64)) {
    visit(instruction);
    if frame.checked_sub(stack).is_some_and(|step| step < LARGEST_STEP) {
        walk_chain(frame, visit);
    }
}

/// The same without a first instruction: `frame` is the frame pointer of a function, whose return address comes first.
pub fn walk_chain(mut frame: u64, mut visit: impl FnMut(u64)) {
    for _ in 0..MAX_DEPTH {
        let (Some(next), Some(address)) = (
            paging::read_kernel_word(frame),
            frame.checked_add(WORD).and_then(paging::read_kernel_word),
        ) else {
            return;
        };
        if !is_code(address) {
            return;
        }
        visit(address);
        frame = next;
    }
}
