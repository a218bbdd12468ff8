//! What can go wrong in a torture, and how it is told.

use alloc::string::String;
use core::fmt;
use dragonet_abi::Errno;

/// What went wrong.
#[derive(Debug)]
pub enum Problem {
    /// The kernel refused something that it must not refuse.
    Refused(&'static str, Errno),
    /// An oracle was not satisfied.
    Wrong(String),
}

/// How a step went.
pub type Outcome<T = ()> = Result<T, Problem>;

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Refused(what, errno) => write!(formatter, "{what}: {errno}"),
            Problem::Wrong(what) => formatter.write_str(what),
        }
    }
}

/// Names what was being done when the kernel refused it.
pub fn doing(what: &'static str) -> impl Fn(Errno) -> Problem {
    move |errno| Problem::Refused(what, errno)
}

/// Fails with a message unless the condition holds.
#[macro_export]
macro_rules! demand {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            return Err($crate::torture::problem::Problem::Wrong(alloc::format!($($message)*)));
        }
    };
}
