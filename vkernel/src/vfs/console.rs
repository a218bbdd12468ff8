//! The console: output that keeps lines whole, input from the initial host thread, which waits for it.
//!
//! Only one CPU at a time speaks to the host's console server; others leave their bytes in the buffer for it and go on. A line that has no end yet
//! is held back for a moment, so that what a program writes in pieces is not mixed with the lines of others.

use crate::clock;
use crate::host;
use crate::sched::wait::WaitQueue;
use crate::sync::Lock;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use dragonet_abi::time::FOREVER;

/// Bytes of an unfinished line that are held back at most.
const MAX_PARTIAL: usize = 4096;
/// Bytes in the buffer above which a writer waits for the console.
const MAX_BUFFERED: usize = 256 * 1024;
/// Nanoseconds that an unfinished line is held back.
const HOLD_BACK: u64 = 20_000_000;
/// Bytes of typed input that are kept at most.
const MAX_INPUT: usize = 64 * 1024;

/// The vkernel's console.
pub struct Console {
    output: Lock<Output>,
    /// When the unfinished line is to be written; [`FOREVER`] if there is none.
    flush_time: AtomicU64,
    input: Lock<Input>,
    input_changed: WaitQueue,
    /// 1 once a program has asked for input.
    listening: AtomicU32,
}

struct Output {
    buffer: Vec<u8>,
    speaking: bool,
    /// The vkernel is about to end: nothing more is taken.
    closed: bool,
}

struct Input {
    bytes: VecDeque<u8>,
    ended: bool,
}

impl Console {
    /// A console that has said and heard nothing.
    pub const fn new() -> Self {
        Console {
            output: Lock::new(Output {
                buffer: Vec::new(),
                speaking: false,
                closed: false,
            }),
            flush_time: AtomicU64::new(FOREVER),
            input: Lock::new(Input {
                bytes: VecDeque::new(),
                ended: false,
            }),
            input_changed: WaitQueue::new(),
            listening: AtomicU32::new(0),
        }
    }

    /// Writes bytes, all of them, whole lines at once.
    pub fn write(&self, bytes: &[u8]) {
        let mut output = self.output.lock();
        while output.speaking && output.buffer.len() > MAX_BUFFERED {
            drop(output);
            host::thread_yield();
            output = self.output.lock();
        }
        if output.closed {
            return;
        }
        output.buffer.extend_from_slice(bytes);
        if !output.speaking {
            drop(output);
            self.speak(false);
        }
    }

    /// Writes an unfinished line as well.
    pub fn flush_partial(&self) {
        if self.flush_time.load(Ordering::Relaxed) != FOREVER {
            self.speak(true);
        }
    }

    /// Writes an unfinished line that has been held back long enough.
    pub fn flush_due(&self) {
        let time = self.flush_time();
        if time != FOREVER && time <= clock::monotonic() {
            self.speak(true);
        }
    }

    /// When [`Self::flush_due`] has something to do; [`FOREVER`] for never.
    pub fn flush_time(&self) -> u64 {
        self.flush_time.load(Ordering::Relaxed)
    }

    /// Takes no more, writes everything, and waits for a CPU that is writing. The last thing before the end.
    pub fn close(&self) {
        self.output.lock().closed = true;
        loop {
            self.speak(true);
            let output = self.output.lock();
            if !output.speaking && output.buffer.is_empty() {
                return;
            }
            drop(output);
            host::thread_yield();
        }
    }

    fn speak(&self, everything: bool) {
        let mut output = self.output.lock();
        if output.speaking {
            return;
        }
        loop {
            let line_end = output
                .buffer
                .iter()
                .rposition(|&byte| byte == b'\n')
                .map_or(0, |last| last + 1);
            let rest = output.buffer.len() - line_end;
            let length = if everything || rest > MAX_PARTIAL {
                output.buffer.len()
            } else {
                line_end
            };
            if length == 0 {
                let time = if rest == 0 {
                    FOREVER
                } else {
                    clock::monotonic() + HOLD_BACK
                };
                self.flush_time.store(time, Ordering::Relaxed);
                return;
            }
            let chunk: Vec<u8> = output.buffer.drain(..length).collect();
            output.speaking = true;
            drop(output);
            host::console_write(&chunk);
            output = self.output.lock();
            output.speaking = false;
        }
    }

    /// Told when input has come or ended.
    pub fn input_changed(&self) -> &WaitQueue {
        &self.input_changed
    }

    /// Takes typed bytes. `None` if there are none yet; 0 after the end.
    pub fn read(&self, buffer: &mut [u8]) -> Option<usize> {
        let mut input = self.input.lock();
        if buffer.is_empty() {
            return Some(0);
        }
        if input.bytes.is_empty() && !input.ended {
            drop(input);
            self.flush_partial();
            if self.listening.load(Ordering::Relaxed) == 0 {
                self.listen();
            }
            return None;
        }
        let length = buffer.len().min(input.bytes.len());
        for (byte, typed) in buffer.iter_mut().zip(input.bytes.drain(..length)) {
            *byte = typed;
        }
        Some(length)
    }

    /// True if a read would not wait.
    pub fn has_input(&self) -> bool {
        let input = self.input.lock();
        !input.bytes.is_empty() || input.ended
    }

    /// Asks [`Self::serve_input`] to begin.
    fn listen(&self) {
        self.listening.store(1, Ordering::SeqCst);
        host::wake_sleeper(&self.listening);
    }

    /// Waits for typed input for ever, once a program has asked for some. What the initial host thread does.
    pub fn serve_input(&self) -> ! {
        while self.listening.load(Ordering::SeqCst) == 0 {
            host::sleep_on(&self.listening, 0);
        }
        let mut typed = [0; 256];
        loop {
            let length = host::console_read(&mut typed);
            let mut input = self.input.lock();
            if length == 0 {
                input.ended = true;
            } else if input.bytes.len() < MAX_INPUT {
                input.bytes.extend(&typed[..length]);
            }
            drop(input);
            self.input_changed.notify();
            if length == 0 {
                break;
            }
        }
        loop {
            host::sleep_on(&self.listening, 1);
        }
    }
}
