//! Watches a machine's serial output: passes it on, and picks out the lines that are meant for the runner.

use std::io::Write;

/// Says with which status the machine ended.
const EXIT: &str = "dragonet: exit status ";
/// Lists return addresses of a panic, innermost first.
const BACKTRACE: &str = "dragonet: backtrace ";
/// Output is kept for the tests up to this many bytes.
const KEPT: usize = 16 << 20;

/// A watcher of one machine's output.
pub struct Console<'a> {
    sink: Box<dyn Write + Send + 'a>,
    /// The unfinished last line, as it came.
    line: Vec<u8>,
    /// How much of `line` has been passed on.
    passed: usize,
    /// The firmware and the boot loader draw with escape sequences; from the kernel's first line on, all is passed on
    /// as it is.
    in_firmware: bool,
    text: String,
    status: Option<u8>,
    backtraces: Vec<Vec<u64>>,
}

impl<'a> Console<'a> {
    /// A watcher that passes the output on to `sink`.
    pub fn new(sink: Box<dyn Write + Send + 'a>) -> Self {
        Self {
            sink,
            line: Vec::new(),
            passed: 0,
            in_firmware: true,
            text: String::new(),
            status: None,
            backtraces: Vec::new(),
        }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes.iter().filter(|&&byte| byte != b'\r') {
            self.line.push(byte);
            if byte == b'\n' {
                self.end_line();
            }
        }
        if !self.in_firmware {
            self.pass_on();
        }
        let _ = self.sink.flush();
    }

    /// There is no more; an unfinished line counts as a line.
    pub fn finish(&mut self) {
        if !self.line.is_empty() {
            self.line.push(b'\n');
            self.end_line();
        }
        let _ = self.sink.flush();
    }

    /// The status the machine reported, if it did.
    pub fn status(&self) -> Option<u8> {
        self.status
    }

    /// The addresses of every backtrace.
    pub fn backtraces(&self) -> &[Vec<u64>] {
        &self.backtraces
    }

    /// All lines so far, without carriage returns and, before the kernel's first line, without escape sequences.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        if self.in_firmware && is_kernel_line(&plain(&line)) {
            self.in_firmware = false;
            self.line = plain(&line).into_bytes();
        }
        let line = if self.in_firmware {
            let line = plain(&line);
            if line.trim().is_empty() {
                self.line.clear();
                self.passed = 0;
                return;
            }
            self.line = line.clone().into_bytes();
            line
        } else {
            String::from_utf8_lossy(&self.line).into_owned()
        };
        self.pass_on();
        self.line.clear();
        self.passed = 0;
        if self.text.len() < KEPT {
            self.text.push_str(&line);
        }
        if let Some((_, number)) = line.rsplit_once(EXIT)
            && let Ok(status) = number.trim().parse()
        {
            self.status = Some(status);
        }
        if let Some((_, addresses)) = line.rsplit_once(BACKTRACE) {
            let addresses = addresses.split_whitespace();
            let parse = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
            self.backtraces.push(addresses.map_while(parse).collect());
        }
    }

    fn pass_on(&mut self) {
        if let Some(fresh) = self.line.get(self.passed..) {
            // Nobody listens any more (a closed pipe): the run goes on for its status.
            let _ = self.sink.write_all(fresh);
        }
        self.passed = self.line.len();
    }
}

/// `[    1.234567 cpu0 ...`, or a line of ours before the log is up.
fn is_kernel_line(line: &str) -> bool {
    let line = line.trim_start();
    let stamp = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_whitespace().next());
    line.starts_with("dragonet") || stamp.is_some_and(|stamp| stamp.parse::<f64>().is_ok())
}

/// `text` without escape sequences and other control characters.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' => {
                if characters.next_if_eq(&'[').is_some() {
                    // A control sequence ends with its first letter or other character from @ on.
                    while characters.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
                } else {
                    characters.next();
                }
            }
            '\n' | '\t' => plain.push(character),
            character if character.is_control() => {}
            character => plain.push(character),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn watch(chunks: &[&str]) -> (Console<'static>, String) {
        let shared = Shared::default();
        let mut console = Console::new(Box::new(shared.clone()));
        chunks.iter().for_each(|chunk| console.feed(chunk.as_bytes()));
        console.finish();
        let passed = String::from_utf8(shared.0.lock().unwrap().clone()).unwrap();
        (console, passed)
    }

    #[test]
    fn the_status_is_found_across_chunks_and_behind_other_output() {
        let (console, passed) = watch(&[
            "[    0.1 cpu0 info ] up\r\nno newline: drago",
            "net: exit stat",
            "us 42\r\n",
        ]);
        assert_eq!(console.status(), Some(42));
        assert_eq!(
            passed,
            "[    0.1 cpu0 info ] up\nno newline: dragonet: exit status 42\n"
        );
        assert_eq!(console.text(), passed);
    }

    #[test]
    fn a_line_without_end_counts_when_the_machine_is_gone() {
        assert_eq!(watch(&["dragonet: exit status 7"]).0.status(), Some(7));
        assert_eq!(watch(&["dragonet: exit status 700\n"]).0.status(), None);
        assert_eq!(watch(&["nothing of the kind\n"]).0.status(), None);
    }

    #[test]
    fn backtraces_are_read() {
        let (console, _) =
            watch(&["dragonet: panic: why\ndragonet: backtrace 0xffffffff80001000 0xffffffff80002000\n"]);
        assert_eq!(
            console.backtraces(),
            [vec![0xffff_ffff_8000_1000, 0xffff_ffff_8000_2000]]
        );
    }

    #[test]
    fn the_firmware_does_not_draw_on_the_terminal_but_programs_may() {
        let (_, passed) = watch(&[
            "\x1b[2J\x1b[01;01H\n\x1b[0mSeaBIOS\n\x1b[m[    0.000001 cpu0 info ] hello\n",
            "\x1b[1mbold\x1b[m\n",
        ]);
        assert_eq!(
            passed,
            "SeaBIOS\n[    0.000001 cpu0 info ] hello\n\x1b[1mbold\x1b[m\n"
        );
    }

    #[test]
    fn an_unfinished_line_of_a_program_is_passed_on_at_once() {
        let shared = Shared::default();
        let mut console = Console::new(Box::new(shared.clone()));
        console.feed(b"[ 1.0 cpu0 info ] up\n# ");
        assert!(shared.0.lock().unwrap().ends_with(b"# "));
    }
}
