//! What the trap entry of `arch` calls: the one place that knows both the machine's events and the layers that serve them.
#![forbid(unsafe_code)]

mod guest;

use crate::arch::cpu;
use crate::arch::ioapic::InterruptLine;
use crate::arch::irq::{IrqGuard, IrqsOff};
use crate::arch::trap::TrapFrame;
use crate::debug::counters;
use crate::ipc;
use crate::proc::{self, Exception, Fate, RunEvent};
use crate::sched::{self, work};
use crate::sys::{self, Outcome};
use crate::vm::{Access, FaultError};
use dragonet_abi::counters::Counter;
use dragonet_abi::layout::USER_END;
use dragonet_abi::vmspace as abi;

/// Error-code bits of a page fault (Intel SDM volume 3, section 4.7).
const FAULT_WRITE: u64 = 1 << 1;
const FAULT_FETCH: u64 = 1 << 4;
const FAULT_RESERVED: u64 = 1 << 3;
const FAULT_USER: u64 = 1 << 2;
const PAGE_FAULT: u64 = 14;

/// A `syscall` instruction in user mode. Interrupts are enabled.
pub fn on_syscall(frame: &mut TrapFrame) {
    proc::with_current(|thread| {
        if thread.is_guest() {
            thread.leave_guest(frame, RunEvent::plain(abi::RUN_SYSCALL));
            return;
        }
        counters::count(Counter::Syscall);
        match sys::dispatch(thread, frame, None) {
            Ok(Outcome::Value(value)) => frame.rax = value,
            Ok(Outcome::FrameReplaced | Outcome::LeaveGuest) => {}
            Ok(Outcome::EnterGuest(guest)) => {
                frame.rax = 0;
                guest::run(thread, frame, guest);
            }
            Err(errno) => frame.rax = errno.to_result() as u64,
        }
    });
}

/// An exception in user mode. Interrupts are enabled; `fault_address` is CR2 for page faults.
pub fn on_user_exception(frame: &mut TrapFrame, fault_address: u64) {
    counters::count(Counter::UserException);
    proc::with_current(|thread| {
        let (mut address, mut error_code, mut guard) = (0, frame.error_code, false);
        if frame.vector == PAGE_FAULT {
            match resolve_fault(thread, fault_address, frame.error_code) {
                Ok(()) => return,
                Err(fault) => {
                    (address, error_code, guard) = (fault_address, fault.error_code, fault.guard);
                }
            }
        }
        if thread.is_guest() {
            thread.leave_guest(
                frame,
                RunEvent {
                    reason: abi::RUN_EXCEPTION,
                    vector: frame.vector as u32,
                    error_code,
                    fault_address: address,
                },
            );
        } else {
            thread.process().end_by_exception(Exception {
                vector: frame.vector as u8,
                error_code,
                address,
                instruction: frame.rip,
                guard,
            });
        }
    });
}

/// A fault that is the program's own.
struct OwnFault {
    /// Not what the machine's table says, which may have nothing there only because nobody touched it yet, but what the mapping and
    /// the virtual page table say.
    error_code: u64,
    /// In a guard.
    guard: bool,
}

/// Lets the current address space of a user resolve a fault.
///
/// # Errors
/// It is the program's own.
fn resolve_fault(thread: &proc::Thread, address: u64, error_code: u64) -> Result<(), OwnFault> {
    counters::count(Counter::PageFault);
    // An access that the CPU made as a supervisor on the program's behalf is no access of the program: no mapping would
    // resolve it, and trying again for ever would be a hang. Emulators make such accesses for far returns under SMAP.
    if address >= USER_END || error_code & FAULT_RESERVED != 0 || error_code & FAULT_USER == 0 {
        return Err(OwnFault {
            error_code,
            guard: false,
        });
    }
    let access = Access {
        write: error_code & FAULT_WRITE != 0,
        execute: error_code & FAULT_FETCH != 0,
        user: true,
    };
    let guest = thread.guest_vmspace();
    let vmspace = guest.as_ref().unwrap_or(thread.process().vmspace());
    match vmspace.handle_fault(address, access) {
        Ok(()) => Ok(()),
        Err(FaultError::OutOfMemory) => {
            // The program cannot be told by an error; a vkernel's user ends with its vkernel.
            thread.process().end_without_memory(address);
            Ok(())
        }
        Err(error) => Err(OwnFault {
            error_code: error.error_code(access),
            guard: error == FaultError::Guard,
        }),
    }
}

/// A page fault at a user-copy instruction of the kernel. True: try the instruction again.
pub fn on_copy_fault(address: u64, error_code: u64) -> bool {
    counters::count(Counter::PageFault);
    if address >= USER_END {
        return false;
    }
    let access = Access {
        write: error_code & FAULT_WRITE != 0,
        execute: false,
        user: true,
    };
    proc::with_current(|thread| thread.process().vmspace().handle_fault(address, access).is_ok())
        .unwrap_or(false)
}

/// The timer of this CPU.
pub fn on_timer(irqs: &IrqsOff) {
    sched::on_timer_interrupt(irqs);
}

/// Another CPU has left work here: the bits are set already, the return path looks at them.
pub fn on_reschedule(_irqs: &IrqsOff) {}

/// An interrupt line of a device.
pub fn on_device_interrupt(line: InterruptLine, irqs: &IrqsOff) {
    ipc::on_device_interrupt(line, irqs);
}

/// Work before a return to user mode. Interrupts are enabled.
pub fn before_user(frame: &mut TrapFrame) {
    let bits = {
        let guard = IrqGuard::new();
        cpu::slot(guard.witness()).take_work()
    };
    if bits & work::RESCHEDULE != 0 {
        sched::preempt_if_due();
    }
    proc::with_current(|thread| {
        if thread.before_user(frame, None) == Fate::Goes {
            thread.leave_for_good();
        }
    });
}
