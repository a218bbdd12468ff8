//! The kernel's log: the back end of the `log` crate. Records go into a ring that programs read; those of the chosen level also go to the
//! serial line and the screen, a line each: `[    1.234567 cpu0 info ] text`.

use super::framebuffer;
use super::log_ring::LogRing;
use crate::arch::{clock, cpu, serial};
use crate::sync::{Rank, SpinLock, SpinLockGuard};
use arrayvec::ArrayString;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use dragonet_abi::system::MAX_LOG_TEXT;
use log::{Level, LevelFilter, Log, Metadata, Record};

static RING: SpinLock<LogRing> = SpinLock::new(Rank::Log, LogRing::new());
/// Keeps lines apart. What it guards has no state that could be torn, so a panic may do without.
static OUTPUT: SpinLock<()> = SpinLock::new(Rank::Serial, ());
/// Set by the first panic: from then on nobody waits for a lock of the log.
static EMERGENCY: AtomicBool = AtomicBool::new(false);
/// The highest level that is written out, as a number of the interface.
static OUTPUT_LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);
/// Tries to get a lock before a report does without it.
const PATIENCE: usize = 1_000_000;
/// The same in an emergency: who holds the lock then has been stopped.
const EMERGENCY_PATIENCE: usize = 100;

struct KernelLog;

static LOG: KernelLog = KernelLog;

impl Log for KernelLog {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        line(record.level(), *record.args());
    }

    fn flush(&self) {
        serial::flush();
    }
}

/// Text of one record. What does not fit is cut, and control characters, which could forge lines, become question marks.
struct Text(ArrayString<MAX_LOG_TEXT>);

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let shown = if character.is_control() { '?' } else { character };
            if self.0.try_push(shown).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// Writes straight to serial line and screen.
struct Output;

impl Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        serial::write(text);
        framebuffer::write(text);
        Ok(())
    }
}

/// Makes the `log` crate's macros work. The first thing after the serial line.
pub fn init_early() {
    // The only failure is a logger that is set already.
    let _ = log::set_logger(&LOG);
    log::set_max_level(LevelFilter::Debug);
}

/// Chooses what is written out, from the command line's `log=`: error, warn, info, debug or trace; default info. The ring has debug
/// and above in any case.
pub fn set_serial_level(name: Option<&str>) {
    let level = match name {
        None => Level::Info,
        Some(name) => name.parse().unwrap_or_else(|_| {
            log::warn!("unknown log level on the command line");
            Level::Info
        }),
    };
    OUTPUT_LEVEL.store(level as u8, Ordering::Relaxed);
    log::set_max_level(level.max(Level::Debug).to_level_filter());
}

/// Copies records from number `position` on into `buffer`, each a `LogRecord` and its text padded to 8 bytes; as many whole ones
/// as fit. Returns the bytes written. Records that have been overwritten are skipped.
pub fn read(position: u64, buffer: &mut [u8]) -> usize {
    RING.lock().read(position, buffer)
}

fn line(level: Level, arguments: fmt::Arguments<'_>) {
    let time = clock::now();
    let index = cpu::index();
    let mut text = Text(ArrayString::new());
    // Writing to it cannot fail, and what a faulty Display leaves out is left out.
    let _ = text.write_fmt(arguments);
    let text = text.0.as_str();
    match lock(&RING) {
        Some(mut ring) => ring.push(time, level as u16, index as u16, text.as_bytes()),
        None => debug_assert!(EMERGENCY.load(Ordering::Relaxed)),
    }
    if level as u8 > OUTPUT_LEVEL.load(Ordering::Relaxed) {
        return;
    }
    let _guard = lock(&OUTPUT);
    let (seconds, microseconds) = (time / 1_000_000_000, time / 1000 % 1_000_000);
    let name = match level {
        Level::Error => "error",
        Level::Warn => "warn ",
        Level::Info => "info ",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    // The output never fails.
    let _ = writeln!(Output, "[{seconds:5}.{microseconds:06} cpu{index} {name}] {text}");
}

/// The lock, or in an emergency None when it is not to be had.
fn lock<T>(lock: &'static SpinLock<T>) -> Option<SpinLockGuard<'static, T>> {
    if !EMERGENCY.load(Ordering::Relaxed) {
        return Some(lock.lock());
    }
    try_for_long(lock)
}

fn try_for_long<T>(lock: &'static SpinLock<T>) -> Option<SpinLockGuard<'static, T>> {
    let tries = if EMERGENCY.load(Ordering::Relaxed) {
        EMERGENCY_PATIENCE
    } else {
        PATIENCE
    };
    (0..tries).find_map(|_| {
        core::hint::spin_loop();
        lock.try_lock()
    })
}

/// Stops all waiting for locks of the log: the CPUs that hold them have been stopped.
pub fn enter_emergency() {
    EMERGENCY.store(true, Ordering::Relaxed);
}

/// Writes a bare line to serial line and screen, whatever the levels. For reports about a kernel that may be broken: it waits for the
/// output lock only so long.
pub fn last_line(arguments: fmt::Arguments<'_>) {
    let _guard = try_for_long(&OUTPUT);
    // The output never fails.
    let _ = writeln!(Output, "{arguments}");
}
