//! `log`: shows the kernel's log.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

use alloc::vec;
use core::mem::size_of;
use core::time::Duration;
use dragonet_abi::Errno;
use dragonet_abi::system::LogRecord;
use dragonet_programs::options::Syntax;
use dragonet_programs::text::fault;
use dragonet_rt::{Arguments, ExitCode, println, syscall, system, time};
use zerocopy::FromBytes;

dragonet_rt::main!(main);

const HELP: &str = "\
usage: log [-f] [-l LEVEL]

Shows the records in the kernel's log.
  -f        goes on as new ones come, until interrupted
  -l LEVEL  only records up to this level: 1 error, 2 warning, 3 info, 4 debug, 5 trace (default)";

const SYNTAX: Syntax = Syntax {
    flags: "f",
    values: "l",
    ..Syntax::new(HELP)
};
const PAUSE: Duration = Duration::from_millis(200);

fn main(arguments: Arguments) -> ExitCode {
    let options = match SYNTAX.parse(&arguments) {
        Ok(options) => options,
        Err(status) => return status,
    };
    let level = match options.number('l', 5_u16) {
        Ok(level) => level,
        Err(status) => return status,
    };
    let mut position = 0;
    loop {
        match show(&mut position, level) {
            Ok(true) => {}
            Ok(false) if options.has('f') => time::sleep(PAUSE),
            Ok(false) => return ExitCode::SUCCESS,
            Err(errno) => return fault("reading the log", errno),
        }
    }
}

/// Shows some records from `position` on, and moves it behind them; false if there are none.
fn show(position: &mut u64, most: u16) -> Result<bool, Errno> {
    let mut buffer = vec![0; 8192];
    let count = syscall::log_read(system::handle()?, *position, &mut buffer)?;
    let mut rest = &buffer[..count.min(buffer.len())];
    while let Ok((record, behind)) = LogRecord::read_from_prefix(rest) {
        let length = record.length as usize;
        let text = behind.get(..length).ok_or(Errno::EIO)?;
        if record.level <= most {
            let LogRecord { time, cpu, level, .. } = record;
            let (seconds, micros) = (time / 1_000_000_000, time / 1000 % 1_000_000);
            let level = match level {
                1 => "error",
                2 => "warn ",
                3 => "info ",
                4 => "debug",
                _ => "trace",
            };
            println!(
                "[{seconds:5}.{micros:06} cpu{cpu} {level}] {}",
                alloc::string::String::from_utf8_lossy(text)
            );
        }
        *position = record.sequence + 1;
        let size = size_of::<LogRecord>() + length.next_multiple_of(8);
        rest = rest.get(size..).unwrap_or(&[]);
    }
    Ok(count > 0)
}
