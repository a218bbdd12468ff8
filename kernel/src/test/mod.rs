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

use crate::arch::{boot, power};
use crate::sched;

/// Tests of every module.
const GROUPS: &[&[Test]] = &[
    crate::arch::tests::TESTS,
    crate::sync::tests::TESTS,
    crate::mm::tests::TESTS,
    crate::mm::pressure_tests::TESTS,
    crate::mm::sharing_tests::TESTS,
    crate::vm::tests::TESTS,
    crate::sched::TESTS,
    crate::proc::TESTS,
    crate::vmm::TESTS,
];

/// Starts the tests whose names contain the filter of the command line, in a thread of their own.
pub fn start(_filter: &str) {
    sched::spawn_kernel_thread(run, 16, u64::MAX).expect("memory for the test thread at boot");
}

fn run() {
    let filter = boot::option("test").unwrap_or("all");
    let mut alone = crate::arch::tests::CRASHES
        .iter()
        .chain(crate::sync::tests::CRASHES)
        .chain(crate::vmm::ALONE);
    if let Some(test) = alone.find(|test| test.name == filter) {
        // It ends the kernel, or tells by its result what failed.
        let result = (test.run)();
        log::info!("{} came back: {result:?}", test.name);
        power::exit_status(u8::from(result.is_err()));
    }
    let (mut passed, mut failed) = (0, 0);
    for test in GROUPS.iter().copied().flatten() {
        if filter != "all" && !test.name.contains(filter) {
            continue;
        }
        match (test.run)() {
            Ok(()) => {
                passed += 1;
                log::info!("test {} ... ok", test.name);
            }
            Err(why) => {
                failed += 1;
                log::error!("test {} ... FAILED: {why}", test.name);
            }
        }
    }
    log::info!("{passed} passed, {failed} failed");
    power::exit_status(u8::from(failed > 0 || passed == 0));
}
