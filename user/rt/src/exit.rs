//! Ends of a program.

#![forbid(unsafe_code)]

use crate::console;
use crate::syscall;
use dragonet_abi::Errno;

/// How a program ended: 0 is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitCode(pub u8);

impl ExitCode {
    /// All is well.
    pub const SUCCESS: ExitCode = ExitCode(0);
    /// It did not work.
    pub const FAILURE: ExitCode = ExitCode(1);
    /// The program was called wrongly.
    pub const USAGE: ExitCode = ExitCode(2);
}

/// What a main function may return.
pub trait Termination {
    /// The exit status.
    fn status(self) -> u8;
}

impl Termination for () {
    fn status(self) -> u8 {
        0
    }
}

impl Termination for ExitCode {
    fn status(self) -> u8 {
        self.0
    }
}

impl<T: Termination> Termination for Result<T, Errno> {
    fn status(self) -> u8 {
        match self {
            Ok(value) => value.status(),
            Err(errno) => {
                crate::eprintln!("{}: {errno}", crate::startup::program());
                1
            }
        }
    }
}

/// Writes out what was printed and ends the program, all threads included.
pub fn exit(status: u8) -> ! {
    console::flush();
    syscall::process_exit(status)
}
