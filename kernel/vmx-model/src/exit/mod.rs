//! VM exits: why, with what information, and what is done.
//!
//! The kernel decodes [`ExitReason`] and, as the reason asks, a qualification or an event; [`table`] says for every reason whether a guest
//! thread can cause it and what is done, and is what the book's table of exits is printed from.

mod event;
mod qualification;
mod reason;
pub mod table;

pub use event::{Event, EventKind, Injection};
pub use qualification::{ControlRegisterAccess, CrAccess, DebugException, EptViolation, IoAccess};
pub use reason::{ExitReason, Reason};
pub use table::{Action, ExitKind, of_event, of_reason};
