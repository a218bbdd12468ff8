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
/// Bit of a page fault's error code: an entry of the table is malformed, or names what the host has not mapped.
const RESERVED_BIT: u64 = 1 << 3;
/// A page that the table allows and the host still faults on is tried this often before the program is told.
const MOST_IDLE_FAULTS: u32 = 1000;
/// Whenever so many more such faults have come on end, the host is told to forget the page.
const FORGET_AFTER: u32 = 2;

/// Page faults on end that found nothing to do, all of one instruction and one address.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IdleFaults {
    instruction: u64,
    address: u64,
    count: u32,
}

impl IdleFaults {
    /// One more. Returns how many there are now; another instruction or another address begins anew.
    fn add(&mut self, instruction: u64, address: u64) -> u32 {
        if (self.instruction, self.address) != (instruction, address) {
            *self = IdleFaults {
                instruction,
                address,
                count: 0,
            };
        }
        self.count += 1;
        self.count
    }
}

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
        if self.run_state.error_code & RESERVED_BIT != 0 {
            crate::message!(
                "the page table is wrong at {address:#x}: process {} is ended",
                self.process.id
            );
            self.process.begin_exit(ExitStatus::Signal(SIGKILL));
            return;
        }
        match self
            .space
            .fault(address, Access::from_error_code(self.run_state.error_code))
        {
            Ok(Resolution::Changed) => self.idle_faults = IdleFaults::default(),
            Ok(Resolution::Already) => {
                let count = self.idle_faults.add(self.run_state.registers.rip, address);
                // The host dropped what it knew of the page when the access faulted, or it should have: once more, to be sure.
                if count.is_multiple_of(FORGET_AFTER) {
                    self.space.forget(address);
                }
                if count > MOST_IDLE_FAULTS {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_faults_count_while_nothing_moves() {
        let mut faults = IdleFaults::default();
        assert_eq!(faults.add(0x1000, 0x5000), 1);
        assert_eq!(faults.add(0x1000, 0x5000), 2);
        assert_eq!(faults.add(0x1003, 0x5000), 1, "another instruction");
        assert_eq!(faults.add(0x1003, 0x5000), 2);
        assert_eq!(faults.add(0x1003, 0x6000), 1, "another address");
    }
}
