//! What a thread in guest mode has around it: the trap entries of others, for the run loop of the crate `guest-mode`.

use crate::arch::cpu;
use crate::arch::irq::IrqGuard;
use crate::arch::trap::TrapFrame;
use crate::debug::counters;
use crate::proc::{self, RunEvent, Thread};
use crate::sched::{self, work};
use crate::sys::{self, Outcome};
use crate::vm::FaultError;
use crate::vmm::{Guest, NestedFault};
use alloc::boxed::Box;
use dragonet_abi::counters::Counter;
use dragonet_abi::vmspace as abi;
use guest_mode::{Departure, Ending, Exception, Fate, Mode, Provision, Surroundings};

/// Runs the thread in guest mode, with the registers in `frame`, until it leaves it. Does not return if the thread ends.
///
/// Out of line: its frame would be that of every system call.
#[inline(never)]
pub(super) fn run(thread: &Thread, frame: &mut TrapFrame, mut guest: Box<Guest>) {
    let mut around = Around { thread, frame };
    match guest_mode::run(&mut *guest, &mut around) {
        Departure::Ordinary => {}
        Departure::Ends => {
            thread.abandon_user(&mut guest);
            drop(guest);
            thread.leave_for_good();
        }
    }
}

/// A thread and its registers.
struct Around<'run> {
    thread: &'run Thread,
    frame: &'run mut TrapFrame,
}

impl Surroundings for Around<'_> {
    type Guest = Guest;

    fn work(&mut self, guest: &mut Guest) -> Fate {
        let bits = {
            let interrupts = IrqGuard::new();
            cpu::slot(interrupts.witness()).take_work()
        };
        if bits & work::RESCHEDULE != 0 {
            sched::preempt_if_due();
        }
        match self.thread.before_user(self.frame, Some(guest)) {
            proc::Fate::Stays => Fate::Stays,
            proc::Fate::Goes => Fate::Goes,
        }
    }

    #[inline]
    fn interrupts_off(&self) -> IrqGuard {
        IrqGuard::new()
    }

    #[inline]
    fn has_work(&self, _guard: &IrqGuard) -> bool {
        cpu::has_work()
    }

    #[inline]
    fn registers(&mut self) -> &mut TrapFrame {
        self.frame
    }

    fn host_call(&mut self, guest: &mut Guest, length: u64) -> Mode {
        counters::count(Counter::Syscall);
        let frame = &mut *self.frame;
        frame.rip = frame.rip.wrapping_add(length);
        match sys::dispatch(self.thread, frame, Some(guest)) {
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

    fn provide(&mut self, guest: &mut Guest, fault: &NestedFault) -> Provision {
        match guest.vmspace().handle_nested_fault(fault.address, fault.access) {
            Ok(()) => Provision::Done,
            Err(FaultError::OutOfMemory) => Provision::NoMemory,
            Err(why) => Provision::Refused(why.error_code(fault.access)),
        }
    }

    fn end_user(&mut self, guest: &mut Guest, exception: Exception) {
        counters::count(Counter::UserException);
        let event = RunEvent {
            reason: abi::RUN_EXCEPTION,
            vector: u32::from(exception.vector),
            error_code: exception.error_code,
            fault_address: exception.address,
        };
        self.thread.end_user(self.frame, guest, event);
    }

    fn end_process(&mut self, ending: Ending) {
        let process = self.thread.process();
        match ending {
            Ending::Exception(exception) => {
                counters::count(Counter::UserException);
                process.end_by_exception(proc::Exception {
                    vector: exception.vector,
                    error_code: exception.error_code,
                    address: exception.address,
                    instruction: self.frame.rip,
                    guard: false,
                });
            }
            Ending::NoMemory(address) => process.end_without_memory(address),
            Ending::Dead => process.end_with_guest(self.frame.rip),
        }
    }
}
