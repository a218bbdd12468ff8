//! Sending signals, and finding the one to deliver next.

use crate::kernel::kernel;
use crate::linux::signal::{SIGKILL, bit, name};
use crate::process::{ExitStatus, Process, Task, Thread};
use crate::signal::actions::Disposition;
use crate::signal::{Detail, Notice};
use alloc::string::String;
use alloc::sync::Arc;

impl Process {
    /// Sends a signal to the process; some thread that does not block it will take it.
    pub fn send(&self, notice: Notice) {
        if self.drops(notice.signal) {
            return;
        }
        if notice.signal == SIGKILL {
            self.begin_exit(ExitStatus::Signal(SIGKILL));
            return;
        }
        self.pending.lock().add(notice);
        let threads = self.threads();
        let open = threads
            .iter()
            .find(|thread| thread.blocked() & bit(notice.signal) == 0);
        if let Some(thread) = open {
            thread.interrupt();
        }
    }

    /// Sends a signal to one thread.
    pub fn send_to_thread(&self, thread: &Arc<Thread>, notice: Notice) {
        if self.drops(notice.signal) {
            return;
        }
        if notice.signal == SIGKILL {
            self.begin_exit(ExitStatus::Signal(SIGKILL));
            return;
        }
        thread.pending.lock().add(notice);
        thread.interrupt();
    }

    /// Ignored signals are forgotten at once, so that they end no wait.
    fn drops(&self, signal: u8) -> bool {
        matches!(self.actions().disposition(signal), Disposition::Ignore)
    }
}

impl Task {
    /// True if a wait has to end: a signal can be delivered, or the thread is to end.
    pub fn is_interrupted(&self) -> bool {
        self.must_end() || {
            let pending = self.thread.pending.lock().mask() | self.process.pending.lock().mask();
            pending & !self.thread.blocked() != 0
        }
    }

    /// The next signal to deliver.
    pub fn take_signal(&self) -> Option<Notice> {
        let blocked = self.thread.blocked();
        let own = self.thread.pending.lock().take(blocked);
        own.or_else(|| self.process.pending.lock().take(blocked))
    }

    /// Changes the mask of blocked signals; what is no longer blocked is delivered before the program goes on.
    pub fn set_blocked(&mut self, mask: u64) {
        self.thread.set_blocked(mask & !crate::linux::signal::UNSTOPPABLE);
    }

    /// Says on the console why a program ends that did not ask for it: always for the first process, for others if asked to be verbose.
    pub fn report_fatal(&self, notice: &Notice) {
        if self.process.id != 1 && !kernel().options().verbose {
            return;
        }
        let program = self.process.name();
        let program = String::from_utf8_lossy(&program);
        let registers = &self.run_state.registers;
        match notice.detail {
            Detail::Address(address) => crate::message!(
                "{program} (process {}) ended by {}: address {address:#x}, rip {:#x}, rsp {:#x}",
                self.process.id,
                name(notice.signal),
                registers.rip,
                registers.rsp
            ),
            _ => crate::message!(
                "{program} (process {}) ended by {}: exception {}, error {:#x}, rip {:#x}, rsp {:#x}",
                self.process.id,
                name(notice.signal),
                self.run_state.vector,
                self.run_state.error_code,
                registers.rip,
                registers.rsp
            ),
        }
    }
}
