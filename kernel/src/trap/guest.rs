//! The run loop of a thread in guest mode: what the trap entries are for others.
//!
//! The guest is owned by this loop. Before each entry the thread does what it would do before a return to user mode; after each exit
//! interrupts are turned on, so that what is pending comes first, and then the exit is served.

use crate::arch::cpu;
use crate::arch::irq::IrqGuard;
use crate::arch::trap::TrapFrame;
use crate::debug::counters;
use crate::proc::{Exception, Fate, RunEvent, Thread};
use crate::sched::{self, work};
use crate::sys::{self, Outcome};
use crate::vm::FaultError;
use crate::vmm::{Exit, Guest, NestedFault};
use alloc::boxed::Box;
use dragonet_abi::counters::Counter;
use dragonet_abi::vmspace as abi;

const UNDEFINED_OPCODE: u8 = 6;
const PAGE_FAULT: u8 = 14;

/// Runs the thread in guest mode, with the registers in `frame`, until it leaves it. Does not return if the thread ends.
///
/// Out of line: its frame would be that of every system call.
#[inline(never)]
pub(super) fn run(thread: &Thread, frame: &mut TrapFrame, mut guest: Box<Guest>) {
    loop {
        let exit = {
            let interrupts = IrqGuard::new();
            (!cpu::has_work()).then(|| guest.enter(interrupts.witness(), frame))
        };
        let Some(exit) = exit else {
            if do_work(thread, frame, &mut guest) == Fate::Goes {
                thread.abandon_user(&mut guest);
                drop(guest);
                thread.leave_for_good();
            }
            continue;
        };
        match exit {
            Exit::Resume => {}
            Exit::HostCall(length) if !guest.is_user() => {
                frame.rip = frame.rip.wrapping_add(length);
                if host_call(thread, frame, &mut guest) == Mode::Ordinary {
                    return;
                }
            }
            // For a user there is no such instruction.
            Exit::HostCall(_) => exception(thread, frame, &mut guest, UNDEFINED_OPCODE, 0, 0),
            Exit::Exception {
                vector,
                error_code,
                address,
            } => exception(thread, frame, &mut guest, vector, error_code, address),
            Exit::Nested(fault) => nested_fault(thread, frame, &mut guest, fault),
            Exit::Dead => thread.process().end_with_guest(frame.rip),
        }
    }
}

/// How a thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Guest,
    Ordinary,
}

/// What a thread does before it goes on when its CPU has work.
fn do_work(thread: &Thread, frame: &mut TrapFrame, guest: &mut Guest) -> Fate {
    let bits = {
        let interrupts = IrqGuard::new();
        cpu::slot(interrupts.witness()).take_work()
    };
    if bits & work::RESCHEDULE != 0 {
        sched::preempt_if_due();
    }
    thread.before_user(frame, Some(guest))
}

/// A system call of the vkernel itself.
fn host_call(thread: &Thread, frame: &mut TrapFrame, guest: &mut Guest) -> Mode {
    counters::count(Counter::Syscall);
    match sys::dispatch(thread, frame, Some(guest)) {
        Ok(Outcome::Value(value)) => frame.rax = value,
        Ok(Outcome::FrameReplaced | Outcome::EnterGuest(_)) => {}
        Ok(Outcome::LeaveGuest) => {
            frame.rax = 0;
            return Mode::Ordinary;
        }
        Err(errno) => frame.rax = errno.to_result() as u64,
    }
    Mode::Guest
}

/// An exception: the vkernel's user's, which ends RUN, or the vkernel's own, which ends the process.
fn exception(
    thread: &Thread,
    frame: &mut TrapFrame,
    guest: &mut Guest,
    vector: u8,
    error_code: u64,
    address: u64,
) {
    counters::count(Counter::UserException);
    if guest.is_user() {
        let event = RunEvent {
            reason: abi::RUN_EXCEPTION,
            vector: u32::from(vector),
            error_code,
            fault_address: address,
        };
        thread.end_user(frame, guest, event);
    } else {
        thread.process().end_by_exception(Exception {
            vector,
            error_code,
            address,
            instruction: frame.rip,
            guard: false,
        });
    }
}

/// An access to guest-physical memory that the nested table does not allow: the process's address space decides.
fn nested_fault(thread: &Thread, frame: &mut TrapFrame, guest: &mut Guest, fault: NestedFault) {
    match guest.vmspace().handle_nested_fault(fault.address, fault.access) {
        Ok(()) => {}
        Err(FaultError::OutOfMemory) => thread.process().end_without_memory(fault.address),
        // To a user it is as if its page table named a page that is not there.
        Err(why) if guest.is_user() => {
            let code = why.error_code(fault.access) | RESERVED;
            exception(
                thread,
                frame,
                guest,
                PAGE_FAULT,
                code,
                fault.linear.unwrap_or(fault.address),
            );
        }
        Err(why) => {
            let code = why.error_code(fault.access);
            exception(thread, frame, guest, PAGE_FAULT, code, fault.address);
        }
    }
}

/// Page-fault error code: a reserved bit in a page table.
const RESERVED: u64 = 1 << 3;
