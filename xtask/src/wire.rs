//! The other end of the machine's serial line: a file that the emulator writes, or a socket that joins the line to
//! the terminal.
//!
//! A socket serves both emulators in the same way and leaves the terminal to xtask: it stays in order however the
//! emulator ends.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::terminal::Raw;

/// The key that begins a command to xtask itself.
const ESCAPE: u8 = 0x01;

/// One end of a serial line.
pub enum Wire {
    /// The emulator writes to a file; the machine hears nothing.
    File(File),
    /// The emulator connects to this listener; what is typed goes to the machine.
    Terminal(Terminal),
}

/// A line that is joined to the terminal.
pub struct Terminal {
    listener: TcpListener,
    line: Option<TcpStream>,
    left: Arc<AtomicBool>,
    /// Puts the terminal back in order when it is dropped.
    raw: Option<Raw>,
}

impl Wire {
    /// Makes the file and follows it from its beginning.
    pub fn file(path: &Path) -> Result<Self> {
        let options = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path);
        options
            .map(Self::File)
            .with_context(|| format!("could not make {}", path.display()))
    }

    /// Waits for the emulator on a port of its own.
    pub fn terminal() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .context("there is no free TCP port for the serial line")?;
        listener.set_nonblocking(true)?;
        let left = Arc::new(AtomicBool::new(false));
        Ok(Self::Terminal(Terminal {
            listener,
            line: None,
            left,
            raw: None,
        }))
    }

    /// The port, if there is one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::File(_) => None,
            Self::Terminal(terminal) => terminal.listener.local_addr().ok().map(|address| address.port()),
        }
    }

    /// Whether the user has asked to leave.
    pub fn left(&self) -> bool {
        match self {
            Self::File(_) => false,
            Self::Terminal(terminal) => terminal.left.load(Ordering::Relaxed),
        }
    }

    /// What the machine has written since the last call; waits for at most some milliseconds.
    pub fn read(&mut self) -> Vec<u8> {
        let bytes = match self {
            Self::File(file) => {
                let mut bytes = Vec::new();
                // An error here ends as silence, and silence is judged by the caller.
                let _ = file.take(1 << 20).read_to_end(&mut bytes);
                bytes
            }
            Self::Terminal(terminal) => terminal.read(),
        };
        if bytes.is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        bytes
    }

    /// Gives the terminal back.
    pub fn hang_up(&mut self) {
        if let Self::Terminal(terminal) = self {
            terminal.raw = None;
        }
    }
}

impl Terminal {
    fn read(&mut self) -> Vec<u8> {
        if self.line.is_none() {
            self.accept();
        }
        let Some(line) = &mut self.line else {
            return Vec::new();
        };
        let mut bytes = vec![0; 64 << 10];
        let length = line.read(&mut bytes).unwrap_or(0);
        bytes.truncate(length);
        bytes
    }

    /// Takes the emulator's call, if it has called, and from then on what is typed.
    fn accept(&mut self) {
        let Ok((line, _)) = self.listener.accept() else {
            return;
        };
        let ready = line
            .set_nonblocking(false)
            .and_then(|()| line.set_nodelay(true))
            .and_then(|()| line.set_read_timeout(Some(Duration::from_millis(5))))
            .and_then(|()| line.try_clone());
        if let Ok(to_machine) = ready {
            self.raw = Raw::enter();
            let left = Arc::clone(&self.left);
            std::thread::spawn(move || pass_keys(std::io::stdin(), to_machine, &left));
        }
        self.line = Some(line);
    }
}

/// Passes what is typed on to the machine, until the end of the input or of the machine.
fn pass_keys(mut keys: impl Read, mut machine: impl Write, left: &AtomicBool) {
    let mut buffer = [0; 256];
    let mut escaped = false;
    loop {
        let typed = match keys.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => buffer.get(..length).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let mut passed = Vec::new();
        for &key in typed {
            match (std::mem::take(&mut escaped), key) {
                (true, b'x' | b'X') => left.store(true, Ordering::Relaxed),
                (true, b'h' | b'H' | b'?') => {
                    eprintln!("\nCtrl-A X  leave\nCtrl-A H  this help\nCtrl-A Ctrl-A  Ctrl-A itself");
                }
                (true, ESCAPE) => passed.push(ESCAPE),
                (true, _) => {}
                (false, ESCAPE) => escaped = true,
                (false, key) => passed.push(key),
            }
        }
        if machine.write_all(&passed).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Scratch;

    #[test]
    fn a_file_is_followed_and_may_be_truncated_at_the_start() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().join("serial");
        let mut wire = Wire::file(&path).unwrap();
        assert!(wire.read().is_empty());
        let mut writer = File::create(&path).unwrap();
        writer.write_all(b"one").unwrap();
        assert_eq!(wire.read(), b"one");
        writer.write_all(b"two").unwrap();
        assert_eq!(wire.read(), b"two");
    }

    #[test]
    fn a_socket_is_read_as_it_is_written() {
        let mut wire = Wire::terminal().unwrap();
        assert!(wire.read().is_empty());
        let mut emulator = TcpStream::connect((Ipv4Addr::LOCALHOST, wire.port().unwrap())).unwrap();
        emulator.write_all(b"up\n").unwrap();
        let mut seen = Vec::new();
        for _ in 0..200 {
            seen.extend(wire.read());
        }
        assert_eq!(seen, b"up\n");
    }

    #[test]
    fn keys_are_passed_on_except_commands() {
        let left = AtomicBool::new(false);
        let mut machine = Vec::new();
        pass_keys(&b"ls\r\x01\x01\x01qend"[..], &mut machine, &left);
        assert_eq!(machine, b"ls\r\x01end");
        assert!(!left.load(Ordering::Relaxed));
        pass_keys(&b"\x01x"[..], &mut machine, &left);
        assert!(left.load(Ordering::Relaxed));
    }
}
