//! Host tests.

mod capability;
mod checker;
mod controls;
mod cpuid;
mod difference;
mod exit;
mod field;
mod mutation;
mod recorded;
