//! What the test programs share: results are printed one by one and counted.

use dragonet_rt::{ExitCode, println};

/// Counts passed and failed checks.
#[derive(Debug, Default)]
pub struct Checks {
    passed: u32,
    failed: u32,
}

impl Checks {
    /// Prints and counts one result; `problem` says what was seen if it did not pass.
    pub fn report(&mut self, name: &str, passed: bool, problem: core::fmt::Arguments<'_>) {
        if passed {
            self.passed += 1;
            println!("test {name} ... ok");
        } else {
            self.failed += 1;
            println!("test {name} ... FAILED: {problem}");
        }
    }

    /// True if nothing failed so far.
    #[must_use]
    pub const fn all_passed(&self) -> bool {
        self.failed == 0
    }

    /// Prints the sum; the status is 1 if anything failed.
    #[must_use]
    pub fn finish(&self) -> ExitCode {
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
