//! Signals that were sent and not yet delivered.

use crate::linux::signal::{SIGNALS, bit};
use crate::linux::structures::SignalInformation;
use alloc::collections::BTreeMap;

/// A signal with what the handler is told about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// 1 to 64.
    pub signal: u8,
    /// `si_code`.
    pub code: i32,
    /// The rest.
    pub detail: Detail,
}

/// The part of `siginfo_t` that depends on the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    None,
    /// Who sent it.
    Sender(u32),
    /// The address of a fault or of the instruction that caused it.
    Address(u64),
    /// A child and its status.
    Child(u32, i32),
}

impl Notice {
    /// What a handler finds at `siginfo_t`.
    pub fn information(&self) -> SignalInformation {
        let mut information = SignalInformation {
            signal: i32::from(self.signal),
            code: self.code,
            ..SignalInformation::default()
        };
        match self.detail {
            Detail::None => {}
            Detail::Sender(process) => information.fields[0] = u64::from(process),
            Detail::Address(address) => information.fields[0] = address,
            Detail::Child(process, status) => {
                information.fields[0] = u64::from(process);
                information.fields[1] = u64::from(status.cast_unsigned());
            }
        }
        information
    }
}

/// Pending signals of a thread or a process: each at most once, as for the standard signals.
#[derive(Default)]
pub struct PendingSignals {
    notices: BTreeMap<u8, Notice>,
}

impl PendingSignals {
    /// None.
    pub const fn new() -> Self {
        PendingSignals {
            notices: BTreeMap::new(),
        }
    }

    /// Adds a signal, unless it is pending already.
    pub fn add(&mut self, notice: Notice) {
        debug_assert!((1..=SIGNALS).contains(&notice.signal));
        self.notices.entry(notice.signal).or_insert(notice);
    }

    /// Takes the lowest-numbered signal that is not in `blocked`.
    pub fn take(&mut self, blocked: u64) -> Option<Notice> {
        let signal = *self.notices.keys().find(|&&signal| blocked & bit(signal) == 0)?;
        self.notices.remove(&signal)
    }

    /// Forgets a signal.
    pub fn discard(&mut self, signal: u8) {
        self.notices.remove(&signal);
    }

    /// Which signals are pending.
    pub fn mask(&self) -> u64 {
        self.notices.keys().fold(0, |mask, &signal| mask | bit(signal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::signal::{SIGCHLD, SIGKILL, SIGUSR1};

    fn notice(signal: u8, sender: u32) -> Notice {
        Notice {
            signal,
            code: 0,
            detail: Detail::Sender(sender),
        }
    }

    #[test]
    fn signals_are_kept_once_and_taken_unless_blocked() {
        let mut pending = PendingSignals::new();
        pending.add(notice(SIGUSR1, 1));
        pending.add(notice(SIGUSR1, 2));
        pending.add(notice(SIGCHLD, 3));
        pending.add(notice(SIGNALS, 4));
        assert_eq!(pending.mask(), bit(SIGUSR1) | bit(SIGCHLD) | bit(SIGNALS));
        assert_eq!(pending.take(bit(SIGUSR1)), Some(notice(SIGCHLD, 3)));
        assert_eq!(pending.take(0), Some(notice(SIGUSR1, 1)));
        pending.discard(SIGNALS);
        pending.discard(SIGKILL);
        assert_eq!(pending.take(0), None);
    }

    #[test]
    fn a_fault_tells_its_address() {
        let fault = Notice {
            signal: 11,
            code: 1,
            detail: Detail::Address(0xdead_0000),
        };
        let information = fault.information();
        assert_eq!(
            (information.signal, information.code, information.fields[0]),
            (11, 1, 0xdead_0000)
        );
    }
}
