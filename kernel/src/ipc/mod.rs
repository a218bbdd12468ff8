//! How threads talk and wait for each other: channels, user words (umtx), interrupts of devices.
//!
//! Every wait here ends when its thread must go or a virtual interrupt is due, and no lock is held across a copy
//! to or from user memory. Used by `sys`; `proc` keeps a [`CallSlot`] in each thread and the ends in handles.
#![forbid(unsafe_code)]

mod call;
mod channel;
mod interrupt;
pub mod umtx;

pub use call::{CallSlot, Parcel, Reply};
pub use channel::{ClientEnd, ServerEnd, call, channels_alive, create, receive};
pub use interrupt::{Interrupt, on_device_interrupt};
