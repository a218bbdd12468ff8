//! Signals: what is pending, what a process wants done, and the frames that handlers run on.
//!
//! `pending` and `actions` are data; `deliver` and `sigreturn` change a task's registers between two runs of its program. Everything
//! that a program puts into a frame is checked as if it had never been ours.

pub mod actions;
pub mod deliver;
pub mod pending;
pub mod sigreturn;

pub use actions::SignalActions;
pub use pending::{Detail, Notice, PendingSignals};
