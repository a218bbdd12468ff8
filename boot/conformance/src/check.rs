//! The result of a check, and the macro that makes one.
#![forbid(unsafe_code)]

use arrayvec::ArrayString;

/// Why a check failed; longer texts are cut.
pub type Why = ArrayString<112>;

/// What a check finds.
pub type Outcome = Result<(), Why>;

/// Formats a reason.
pub fn why(arguments: core::fmt::Arguments<'_>) -> Why {
    let mut text = Why::new();
    let _ = core::fmt::Write::write_fmt(&mut text, arguments);
    text
}

/// Returns from a check with a reason unless a condition holds.
#[macro_export]
macro_rules! require {
    ($condition:expr, $($reason:tt)*) => {
        if !$condition {
            return Err($crate::check::why(format_args!($($reason)*)));
        }
    };
}

/// The value in an option, or the failure that there is none.
pub fn present<T>(value: Option<T>, name: &str) -> Result<T, Why> {
    value.ok_or_else(|| why(format_args!("no {name}")))
}
