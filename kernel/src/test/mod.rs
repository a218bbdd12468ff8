//! In-kernel tests: run instead of the first process when the command line has `test=FILTER` (`test=all` for all).
//!
//! A module that tests itself has a `pub const TESTS: &[Test]`; [`GROUPS`] lists them. Tests run one after the other
//! in a kernel thread with interrupts enabled and every CPU up; a failing one says why, a panic ends the run.
#![forbid(unsafe_code)]

/// One test.
pub struct Test {
    /// `module::what_must_hold`.
    pub name: &'static str,
    /// The test; an error says which expectation failed.
    pub run: fn() -> Result<(), &'static str>,
}
