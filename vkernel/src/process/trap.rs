//! Exceptions of programs: page faults are served, everything else becomes the signal that Linux sends.

use crate::kernel::kernel;
use crate::linux::signal::{
    BUS_ADRALN, BUS_ADRERR, FPE_FLTINV, FPE_INTDIV, ILL_ILLOPN, SEGV_ACCERR, SEGV_MAPERR, SI_KERNEL, SIGBUS,
    SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGTRAP, TRAP_BRKPT, TRAP_TRACE,
};
use crate::memory::fault::{Access, Fault, Resolution};
use crate::process::{ExitStatus, Task};
use crate::sched::cpu::Counters;
use crate::signal::Detail;

/// Vector of a page fault.
const PAGE_FAULT: u32 = 14;
/// A page that the table allows and the host still faults on is tried this often before the program is told.
const MOST_IDLE_FAULTS: u32 = 1000;

/// After so many such faults on end the host is told to forget the page.
const FORGET_AFTER: u32 = 2;

impl Task {
    /// Serves the exception that ended the run.
    pub fn exception(&mut self) {
        let counters = self.cpu().counters();
        if self.run_state.vector == PAGE_FAULT {
            Counters::count(&counters.faults);
            self.page_fault();
        } else {
            Counters::count(&counters.exceptions);
            let at = Detail::Address(self.run_state.registers.rip);
            let (signal, code, detail) = match self.run_state.vector {
                0 => (SIGFPE, FPE_INTDIV, at),
                1 => (SIGTRAP, TRAP_TRACE, at),
                3 => (SIGTRAP, TRAP_BRKPT, Detail::None),
                6 => (SIGILL, ILL_ILLOPN, at),
                11 | 12 => (SIGBUS, SI_KERNEL, Detail::None),
                16 | 19 => (SIGFPE, FPE_FLTINV, at),
                17 => (SIGBUS, BUS_ADRALN, Detail::None),
                _ => (SIGSEGV, SI_KERNEL, Detail::None),
            };
            self.force_signal(signal, code, detail);
        }
    }

    fn page_fault(&mut self) {
        let address = self.run_state.fault_address;
        let detail = Detail::Address(address);
        match self
            .space
            .fault(address, Access::from_error_code(self.run_state.error_code))
        {
            Ok(Resolution::Changed) => self.idle_faults = (0, 0),
            Ok(Resolution::Already) => {
                let (last, count) = self.idle_faults;
                self.idle_faults = if last == address {
                    (address, count + 1)
                } else {
                    (address, 1)
                };
                // The host dropped what it knew of the page when the access faulted, or it should have: once more, to be sure.
                if self.idle_faults.1 == FORGET_AFTER {
                    self.space.forget(address);
                }
                if self.idle_faults.1 > MOST_IDLE_FAULTS {
                    crate::message!("the host does not translate {address:#x} although the table does");
                    self.force_signal(SIGBUS, BUS_ADRERR, detail);
                }
            }
            Err(Fault::NotMapped) => self.force_signal(SIGSEGV, SEGV_MAPERR, detail),
            Err(Fault::Forbidden) => self.force_signal(SIGSEGV, SEGV_ACCERR, detail),
            Err(Fault::BehindEnd) => self.force_signal(SIGBUS, BUS_ADRERR, detail),
            Err(Fault::OutOfMemory) if kernel().reclaim() > 0 => {}
            Err(Fault::OutOfMemory) => {
                crate::message!("out of memory: process {} is ended", self.process.id);
                self.process.begin_exit(ExitStatus::Signal(SIGKILL));
            }
        }
    }
}
