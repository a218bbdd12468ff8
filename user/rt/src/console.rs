//! Text in and out, by way of the console server; without one, or when it is gone for good, output goes to the kernel's log.
//!
//! Output is collected until a line is complete, so that lines of several programs do not mix. [`flush`] writes out the
//! rest; the runtime does it at the end of the program, and before something is read.

#![forbid(unsafe_code)]

use crate::console_protocol as protocol;
use crate::memory::Mapping;
use crate::startup::role;
use crate::sync::Mutex;
use crate::{OwnedHandle, channel, log, syscall, time};
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use dragonet_abi::memory::Protection;
use dragonet_abi::startup::ROLE_CONSOLE;
use dragonet_abi::time::FOREVER;
use dragonet_abi::{Errno, Handle, Rights};

/// A call is repeated this often while the server is being restarted ...
const ATTEMPTS: u32 = 50;
/// ... after waiting this long.
const PAUSE: Duration = Duration::from_millis(50);

static OUTPUT: Mutex<LineBuffer> = Mutex::new(LineBuffer {
    bytes: [0; LineBuffer::SIZE],
    length: 0,
});
/// Memory that is lent to the server for long writes; made when first needed.
static GRANT: Mutex<Option<Grant>> = Mutex::new(None);
/// Set once the server did not come back.
static GONE: AtomicBool = AtomicBool::new(false);

struct Grant {
    object: OwnedHandle,
    mapping: Mapping,
}

impl Grant {
    fn new() -> Result<Self, Errno> {
        let object = syscall::object_create(protocol::OBJECT_BYTES as u64)?;
        let protection = Protection::READ | Protection::WRITE;
        let mapping = Mapping::of_object(object.get(), 0, protocol::OBJECT_BYTES as u64, protection)?;
        Ok(Grant { object, mapping })
    }
}

/// Forgets the memory that is lent to the server: in a copy of the program its handle names nothing.
pub(crate) fn forget_grant() {
    if let Some(Grant { object, mapping }) = GRANT.lock().take() {
        let _ = object.into_raw();
        drop(mapping);
    }
}

/// Output that is not yet written.
struct LineBuffer {
    bytes: [u8; Self::SIZE],
    length: usize,
}

impl LineBuffer {
    const SIZE: usize = 1024;

    fn flush(&mut self) {
        let length = core::mem::take(&mut self.length);
        write_out(&self.bytes[..length]);
    }

    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = bytes.len().min(Self::SIZE - self.length);
            self.bytes[self.length..self.length + count].copy_from_slice(&bytes[..count]);
            self.length += count;
            bytes = &bytes[count..];
            if self.length == Self::SIZE {
                self.flush_lines();
            }
        }
    }

    /// Writes out the complete lines; all of it if the buffer is full without one.
    fn flush_lines(&mut self) {
        let bytes = &self.bytes[..self.length];
        let complete = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(position) => position + 1,
            None if self.length == Self::SIZE => self.length,
            None => return,
        };
        write_out(&bytes[..complete]);
        self.bytes.copy_within(complete..self.length, 0);
        self.length -= complete;
    }
}

impl fmt::Write for LineBuffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// Prints; complete lines are written out.
pub fn print(text: fmt::Arguments<'_>) {
    let mut output = OUTPUT.lock();
    // A `Display` that fails leaves its text incomplete; there is nothing better to do about it.
    let _ = fmt::Write::write_fmt(&mut *output, text);
    output.flush_lines();
}

/// Prints and writes everything out.
pub fn print_now(text: fmt::Arguments<'_>) {
    let mut output = OUTPUT.lock();
    let _ = fmt::Write::write_fmt(&mut *output, text);
    output.flush();
}

/// Prints bytes, which need not be text; complete lines are written out.
pub fn write(bytes: &[u8]) {
    let mut output = OUTPUT.lock();
    output.push(bytes);
    output.flush_lines();
}

/// Writes out what was printed so far.
pub fn flush() {
    OUTPUT.lock().flush();
}

/// Makes now what long writes need, instead of with the first one: for programs whose counts of objects should stay as they are.
///
/// # Errors
/// `ENOMEM`, `EMFILE`.
pub fn prepare() -> Result<(), Errno> {
    let mut grant = GRANT.lock();
    if grant.is_none() {
        *grant = Some(Grant::new()?);
    }
    Ok(())
}

/// Waits for input and returns the count of bytes read, at least 1. `timeout` in nanoseconds from now.
///
/// # Errors
/// `ENODEV` without a console, `ETIMEDOUT`, `EINTR`.
pub fn read(buffer: &mut [u8], timeout: u64) -> Result<usize, Errno> {
    flush();
    let most = buffer.len().min(protocol::INLINE_BYTES);
    let reply = repeat(|console| {
        let label = protocol::call_label(protocol::READ, 0);
        channel::call(console, label, [most as u64, timeout, 0, 0, 0, 0])
    })?;
    let count = protocol::split_reply(reply.info.label())?.min(most);
    buffer[..count].copy_from_slice(&protocol::unpack(&reply.words)[..count]);
    Ok(count)
}

/// Names the process that the interrupt key kills. `process` needs the rights KILL, DUPLICATE and TRANSFER.
///
/// # Errors
/// `ENODEV` without a console, `EPERM`.
pub fn set_foreground(process: Handle) -> Result<(), Errno> {
    let reply = repeat(|console| {
        let process = syscall::handle_duplicate(process, Rights::KILL | Rights::TRANSFER)?;
        channel::call_with_handle(
            console,
            protocol::call_label(protocol::SET_FOREGROUND, 0),
            [0; 6],
            process,
        )
    })?;
    protocol::split_reply(reply.info.label()).map(drop)
}

/// Makes the interrupt key ordinary input again.
///
/// # Errors
/// `ENODEV` without a console.
pub fn clear_foreground() -> Result<(), Errno> {
    let label = protocol::call_label(protocol::CLEAR_FOREGROUND, 0);
    let reply = repeat(|console| channel::call(console, label, [0; 6]))?;
    protocol::split_reply(reply.info.label()).map(drop)
}

/// Calls the console, again while its server is being restarted.
fn repeat<T>(call: impl Fn(Handle) -> Result<T, Errno>) -> Result<T, Errno> {
    let console = role(ROLE_CONSOLE).ok_or(Errno::ENODEV)?;
    for _ in 0..ATTEMPTS {
        if GONE.load(Ordering::Relaxed) {
            break;
        }
        match call(console) {
            Err(Errno::EPIPE) => time::sleep(PAUSE),
            outcome => return outcome,
        }
    }
    GONE.store(true, Ordering::Relaxed);
    Err(Errno::ENODEV)
}

/// Writes bytes at once, in pieces that the server does not mix with other output.
fn write_out(bytes: &[u8]) {
    for piece in bytes.chunks(protocol::OBJECT_BYTES) {
        if piece.len() > protocol::INLINE_BYTES && write_granted(piece).is_ok() {
            continue;
        }
        if piece
            .chunks(protocol::INLINE_BYTES)
            .try_for_each(write_inline)
            .is_err()
        {
            for line in piece.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                log::write_line(log::Level::Info, line);
            }
        }
    }
}

fn write_inline(bytes: &[u8]) -> Result<(), Errno> {
    let label = protocol::call_label(protocol::WRITE_INLINE, bytes.len());
    loop {
        match repeat(|console| channel::call(console, label, protocol::pack(bytes))) {
            Err(Errno::EINTR) => {}
            Ok(reply) => return protocol::split_reply(reply.info.label()).map(drop),
            Err(errno) => return Err(errno),
        }
    }
}

fn write_granted(bytes: &[u8]) -> Result<(), Errno> {
    let mut slot = GRANT.lock();
    let grant = match &mut *slot {
        Some(grant) => grant,
        empty => empty.insert(Grant::new()?),
    };
    grant.mapping.write(0, bytes)?;
    let label = protocol::call_label(protocol::WRITE_OBJECT, 0);
    let words = [bytes.len() as u64, 0, 0, 0, 0, 0];
    loop {
        let reply = repeat(|console| {
            let object = grant.object.duplicate(Rights::READ | Rights::TRANSFER)?;
            channel::call_with_handle(console, label, words, object)
        });
        match reply {
            Err(Errno::EINTR) => {}
            Ok(reply) => return protocol::split_reply(reply.info.label()).map(drop),
            Err(errno) => return Err(errno),
        }
    }
}

/// Output for the panic handler: takes no lock and allocates nothing.
pub(crate) struct UnbufferedConsole {
    bytes: [u8; protocol::INLINE_BYTES],
    length: usize,
}

impl UnbufferedConsole {
    pub(crate) const fn new() -> Self {
        UnbufferedConsole {
            bytes: [0; protocol::INLINE_BYTES],
            length: 0,
        }
    }

    /// Writes out what is left.
    pub(crate) fn finish(&mut self) {
        let bytes = &self.bytes[..core::mem::take(&mut self.length)];
        let label = protocol::call_label(protocol::WRITE_INLINE, bytes.len());
        let written = match role(ROLE_CONSOLE) {
            Some(console) => channel::call(console, label, protocol::pack(bytes)).is_ok(),
            None => false,
        };
        if !written {
            log::write_line(log::Level::Error, bytes.trim_ascii_end());
        }
    }
}

impl fmt::Write for UnbufferedConsole {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.length == self.bytes.len() {
                self.finish();
            }
            self.bytes[self.length] = byte;
            self.length += 1;
        }
        Ok(())
    }
}

/// Waits for input without a limit.
///
/// # Errors
/// As for [`read`].
pub fn read_blocking(buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match read(buffer, FOREVER) {
            Err(Errno::EINTR) => {}
            outcome => return outcome,
        }
    }
}

/// Prints text.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::console::print(format_args!($($argument)*)) };
}

/// Prints a line.
#[macro_export]
macro_rules! println {
    () => { $crate::console::print(format_args!("\n")) };
    ($($argument:tt)*) => { $crate::console::print(format_args!("{}\n", format_args!($($argument)*))) };
}

/// Prints a line about something wrong.
#[macro_export]
macro_rules! eprintln {
    ($($argument:tt)*) => { $crate::console::print_now(format_args!("{}\n", format_args!($($argument)*))) };
}
