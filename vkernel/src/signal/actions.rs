//! What a process wants done about each signal. Shared by its threads, and by processes made with `CLONE_SIGHAND`.

use crate::linux::signal::{
    IGNORED_BY_DEFAULT, SA_NOCLDWAIT, SIG_DFL, SIG_IGN, SIGCHLD, SIGNALS, UNSTOPPABLE, bit,
};
use crate::linux::structures::SignalAction;
use crate::sync::Lock;

/// What happens when a signal is delivered.
#[derive(Clone, Copy, Debug)]
pub enum Disposition {
    /// Nothing.
    Ignore,
    /// The process ends.
    Terminate,
    /// A handler runs.
    Handle(SignalAction),
}

/// One action for each signal.
pub struct SignalActions {
    actions: Lock<[SignalAction; SIGNALS as usize]>,
}

impl SignalActions {
    /// Every action the default.
    pub fn new() -> Self {
        SignalActions {
            actions: Lock::new([SignalAction::default(); SIGNALS as usize]),
        }
    }

    /// A copy for a new process.
    pub fn duplicate(&self) -> Self {
        SignalActions {
            actions: Lock::new(*self.actions.lock()),
        }
    }

    /// The action of a signal (1 to 64).
    pub fn get(&self, signal: u8) -> SignalAction {
        self.actions.lock()[usize::from(signal) - 1]
    }

    /// Changes the action of a signal (1 to 64, not SIGKILL or SIGSTOP).
    pub fn set(&self, signal: u8, mut action: SignalAction) {
        action.mask &= !UNSTOPPABLE;
        self.actions.lock()[usize::from(signal) - 1] = action;
    }

    /// For a new program: handled signals get their default action, ignored ones stay ignored.
    pub fn reset_handlers(&self) {
        for action in self.actions.lock().iter_mut() {
            let handler = if action.handler == SIG_IGN {
                SIG_IGN
            } else {
                SIG_DFL
            };
            *action = SignalAction {
                handler,
                ..SignalAction::default()
            };
        }
    }

    /// What happens when `signal` is delivered.
    pub fn disposition(&self, signal: u8) -> Disposition {
        let action = self.get(signal);
        let fixed = UNSTOPPABLE & bit(signal) != 0;
        match action.handler {
            SIG_IGN if !fixed => Disposition::Ignore,
            SIG_DFL | SIG_IGN if IGNORED_BY_DEFAULT & bit(signal) != 0 => Disposition::Ignore,
            SIG_DFL | SIG_IGN => Disposition::Terminate,
            _ => Disposition::Handle(action),
        }
    }

    /// True if children leave nothing to wait for when they end.
    pub fn discards_children(&self) -> bool {
        let action = self.get(SIGCHLD);
        action.handler == SIG_IGN || action.flags & SA_NOCLDWAIT != 0
    }
}

impl Default for SignalActions {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::signal::{SIGKILL, SIGSEGV, SIGTERM};

    #[test]
    fn dispositions() {
        let actions = SignalActions::new();
        assert!(matches!(actions.disposition(SIGTERM), Disposition::Terminate));
        assert!(matches!(actions.disposition(SIGCHLD), Disposition::Ignore));
        actions.set(
            SIGTERM,
            SignalAction {
                handler: SIG_IGN,
                ..SignalAction::default()
            },
        );
        assert!(matches!(actions.disposition(SIGTERM), Disposition::Ignore));
        actions.set(
            SIGKILL,
            SignalAction {
                handler: SIG_IGN,
                ..SignalAction::default()
            },
        );
        assert!(matches!(actions.disposition(SIGKILL), Disposition::Terminate));
        let handler = SignalAction {
            handler: 0x1000,
            mask: u64::MAX,
            ..SignalAction::default()
        };
        actions.set(SIGSEGV, handler);
        let Disposition::Handle(found) = actions.disposition(SIGSEGV) else {
            panic!()
        };
        assert_eq!(found.mask & UNSTOPPABLE, 0);
        actions.reset_handlers();
        assert!(matches!(actions.disposition(SIGSEGV), Disposition::Terminate));
        assert!(matches!(actions.disposition(SIGTERM), Disposition::Ignore));
    }
}
