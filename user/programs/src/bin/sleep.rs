//! `sleep`: waits.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use core::time::Duration;
use dragonet_programs::options::{Syntax, usage};
use dragonet_programs::text::seconds;
use dragonet_rt::{Arguments, ExitCode, time};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: sleep SECONDS

Waits for so many seconds, which may have a fraction: 0.25.";

const SYNTAX: Syntax = Syntax {
    operands: (1, 1),
    ..Syntax::new(HELP)
};

fn main(arguments: Arguments) -> ExitCode {
    let options = match SYNTAX.parse(&arguments) {
        Ok(options) => options,
        Err(status) => return status,
    };
    let text = options.operands()[0];
    let Some(duration) = seconds(text) else {
        return usage(&arguments, format_args!("'{text}' is not a number of seconds"));
    };
    time::sleep(Duration::min(duration, Duration::from_secs(u64::from(u32::MAX))));
    ExitCode::SUCCESS
}
