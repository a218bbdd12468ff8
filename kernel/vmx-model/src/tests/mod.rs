//! Host tests.

mod capability;
mod checker;
mod controls;
mod cpuid;
mod cpuid_state;
mod difference;
mod exit;
mod field;
mod mutation;
mod reading;
mod recorded;
