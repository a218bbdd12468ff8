//! A process: what its threads share, and what is left of it until its parent has asked.

use crate::process::Thread;
use crate::sched::wait::WaitQueue;
use crate::signal::{PendingSignals, SignalActions};
use crate::sync::Lock;
use crate::vfs::FileContext;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It said so.
    Code(u8),
    /// A signal ended it.
    Signal(u8),
}

impl ExitStatus {
    /// As wait(2) reports it.
    pub const fn wait_status(self) -> i32 {
        match self {
            ExitStatus::Code(code) => (code as i32) << 8,
            ExitStatus::Signal(signal) => signal as i32,
        }
    }

    /// As a shell reports it: the code, or 128 plus the signal.
    pub const fn shell_status(self) -> u8 {
        match self {
            ExitStatus::Code(code) => code,
            ExitStatus::Signal(signal) => 128_u8.wrapping_add(signal),
        }
    }
}

/// A process.
pub struct Process {
    /// Its id, which is also its first thread's.
    pub id: u32,
    /// Id of the process that waits for it.
    pub parent: AtomicU32,
    /// Its process group.
    pub group: AtomicU32,
    /// Its session.
    pub session: AtomicU32,
    /// The signal that tells the parent of its end; 0 = none.
    pub exit_signal: AtomicU8,
    /// Signals sent to the process as a whole.
    pub pending: Lock<PendingSignals>,
    /// Told when a child ends.
    pub child_events: WaitQueue,
    /// Told when a thread ends and when a `vfork` child lets go of the parent's memory.
    pub thread_events: WaitQueue,
    /// Working directory and file mode mask; shared with `CLONE_FS`.
    pub file_context: Lock<Arc<FileContext>>,
    name: Lock<Vec<u8>>,
    executable: Lock<Vec<u8>>,
    actions: Lock<Arc<SignalActions>>,
    state: Lock<State>,
    /// It no longer uses its parent's memory, if it ever did.
    released: AtomicBool,
}

#[derive(Default)]
struct State {
    threads: Vec<Arc<Thread>>,
    exit: Option<ExitStatus>,
    /// A thread is replacing the program and ends the others.
    executing: bool,
    ended: bool,
}

impl Process {
    /// A process without threads.
    pub fn new(
        id: u32,
        parent: u32,
        exit_signal: u8,
        actions: Arc<SignalActions>,
        file_context: Arc<FileContext>,
    ) -> Self {
        Process {
            id,
            parent: AtomicU32::new(parent),
            group: AtomicU32::new(id),
            session: AtomicU32::new(id),
            exit_signal: AtomicU8::new(exit_signal),
            pending: Lock::new(PendingSignals::new()),
            child_events: WaitQueue::new(),
            thread_events: WaitQueue::new(),
            file_context: Lock::new(file_context),
            name: Lock::new(Vec::new()),
            executable: Lock::new(Vec::new()),
            actions: Lock::new(actions),
            state: Lock::new(State::default()),
            released: AtomicBool::new(false),
        }
    }

    /// What it wants done about signals.
    pub fn actions(&self) -> Arc<SignalActions> {
        self.actions.lock().clone()
    }

    /// Gives it actions of its own.
    pub fn set_actions(&self, actions: Arc<SignalActions>) {
        *self.actions.lock() = actions;
    }

    /// The last part of its program's path, at most 15 bytes.
    pub fn name(&self) -> Vec<u8> {
        self.name.lock().clone()
    }

    /// Changes what [`Self::name`] gives.
    pub fn set_name(&self, name: &[u8]) {
        *self.name.lock() = name[..name.len().min(15)].to_vec();
    }

    /// The path of its program.
    pub fn executable(&self) -> Vec<u8> {
        self.executable.lock().clone()
    }

    /// Sets path and name.
    pub fn set_executable(&self, path: &[u8]) {
        *self.executable.lock() = path.to_vec();
        self.set_name(path.rsplit(|&byte| byte == b'/').next().unwrap_or(path));
    }

    /// Adds a thread, unless the process is ending or being replaced.
    pub fn add_thread(&self, thread: Arc<Thread>) -> bool {
        let mut state = self.state.lock();
        let open = state.exit.is_none() && !state.executing;
        if open {
            state.threads.push(thread);
        }
        open
    }

    /// Removes a thread. True if it was the last.
    pub fn remove_thread(&self, thread: &Arc<Thread>) -> bool {
        let mut state = self.state.lock();
        state.threads.retain(|other| !Arc::ptr_eq(other, thread));
        state.threads.is_empty()
    }

    /// Its threads at this moment.
    pub fn threads(&self) -> Vec<Arc<Thread>> {
        self.state.lock().threads.clone()
    }

    /// Starts its end: every thread stops at its next chance. The first status counts.
    pub fn begin_exit(&self, status: ExitStatus) {
        let threads = {
            let mut state = self.state.lock();
            state.exit.get_or_insert(status);
            state.threads.clone()
        };
        for thread in threads {
            thread.end();
        }
    }

    /// How it ends, if that has been decided.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.state.lock().exit
    }

    /// Ends every thread but `survivor`, which is about to replace the program. False if the process is ending or another thread
    /// was first.
    pub fn begin_exec(&self, survivor: &Arc<Thread>) -> bool {
        let others: Vec<_> = {
            let mut state = self.state.lock();
            if state.exit.is_some() || state.executing {
                return false;
            }
            state.executing = true;
            state
                .threads
                .iter()
                .filter(|thread| !Arc::ptr_eq(thread, survivor))
                .cloned()
                .collect()
        };
        for thread in others {
            thread.end();
        }
        true
    }

    /// The program has been replaced; threads may be made again.
    pub fn finish_exec(&self) {
        self.state.lock().executing = false;
    }

    /// Count of threads.
    pub fn thread_count(&self) -> usize {
        self.state.lock().threads.len()
    }

    /// Marks that nothing of it is left but its status.
    pub fn mark_ended(&self, status: ExitStatus) {
        let mut state = self.state.lock();
        state.exit.get_or_insert(status);
        state.ended = true;
    }

    /// Its status, once it is waitable.
    pub fn ended(&self) -> Option<ExitStatus> {
        let state = self.state.lock();
        if state.ended { state.exit } else { None }
    }

    /// Tells a `vfork` parent that its memory is its own again.
    pub fn release_parent_memory(&self) {
        self.released.store(true, Ordering::SeqCst);
        self.thread_events.notify();
    }

    /// True after [`Self::release_parent_memory`].
    pub fn has_released_parent_memory(&self) -> bool {
        self.released.load(Ordering::SeqCst)
    }
}
