//! The shell's line editor: bytes from a terminal in, a line and what the terminal must show out.
//!
//! Keys: arrows, Home, End, Delete, Backspace; Ctrl-A E B F P N D H as in Emacs; Ctrl-U, Ctrl-K and Ctrl-W delete to the
//! start, to the end, and the word before the cursor; Ctrl-L clears the screen; Ctrl-C gives the line up; Ctrl-D on an
//! empty line ends the input. The terminal is expected to know the ANSI sequences for cursor movement and erasing.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

/// Lines that the history remembers.
const MAX_HISTORY: usize = 100;

/// What the reader of lines should do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A line is complete.
    Line(String),
    /// The line was given up.
    Cancelled,
    /// There will be no more input.
    EndOfInput,
}

/// Where in an escape sequence the input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    /// After ESC.
    Started,
    /// After ESC [ or ESC O, with the number so far.
    Parameters(u32),
}

/// A line being edited.
#[derive(Debug)]
pub struct LineEditor {
    prompt: String,
    line: Vec<char>,
    cursor: usize,
    history: Vec<String>,
    /// Entry of the history that is shown; `history.len()` is the new line.
    shown: usize,
    /// The new line, while an entry of the history is shown.
    draft: Vec<char>,
    escape: Escape,
    /// Bytes of a character that is not complete yet.
    partial: Vec<u8>,
    after_return: bool,
    screen: String,
}

impl LineEditor {
    /// An editor that has not shown its prompt yet.
    #[must_use]
    pub fn new(prompt: &str) -> Self {
        LineEditor {
            prompt: String::from(prompt),
            line: Vec::new(),
            cursor: 0,
            history: Vec::new(),
            shown: 0,
            draft: Vec::new(),
            escape: Escape::None,
            partial: Vec::new(),
            after_return: false,
            screen: String::new(),
        }
    }

    /// The lines entered so far, oldest first.
    #[must_use]
    pub fn history(&self) -> &[String] {
        &self.history
    }

    /// Begins a new line and shows the prompt.
    pub fn begin(&mut self) {
        self.line.clear();
        self.cursor = 0;
        self.shown = self.history.len();
        self.draft.clear();
        self.screen.push_str(&self.prompt);
    }

    /// Takes what the terminal must be sent.
    pub fn take_screen(&mut self) -> String {
        core::mem::take(&mut self.screen)
    }

    /// Takes a byte of input.
    pub fn feed(&mut self, byte: u8) -> Option<Event> {
        match self.escape {
            Escape::None => {}
            Escape::Started => {
                self.escape = if matches!(byte, b'[' | b'O') {
                    Escape::Parameters(0)
                } else {
                    Escape::None
                };
                return None;
            }
            Escape::Parameters(number) => {
                self.escape_parameter(number, byte);
                return None;
            }
        }
        let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
        match byte {
            b'\n' if after_return => None, // the second half of a line end
            b'\r' | b'\n' => Some(self.finish_line()),
            0x1b => {
                self.escape = Escape::Started;
                None
            }
            0x01 => self.move_to(0),
            0x02 => self.move_to(self.cursor.saturating_sub(1)),
            0x03 => {
                self.screen.push_str("^C\n");
                Some(Event::Cancelled)
            }
            0x04 if self.line.is_empty() => {
                self.screen.push('\n');
                Some(Event::EndOfInput)
            }
            0x04 => self.delete(self.cursor, self.cursor + 1),
            0x05 => self.move_to(self.line.len()),
            0x06 => self.move_to(self.cursor + 1),
            0x08 | 0x7f if self.cursor > 0 => self.delete(self.cursor - 1, self.cursor),
            0x0b => self.delete(self.cursor, self.line.len()),
            0x0c => {
                self.screen.push_str("\x1b[H\x1b[2J");
                self.redraw()
            }
            0x0e => self.show_history(self.shown + 1),
            0x10 => self.show_history(self.shown.wrapping_sub(1)),
            0x15 => self.delete(0, self.cursor),
            0x17 => self.delete(self.word_start(), self.cursor),
            0x20..=0x7e | 0x80.. => self.character_byte(byte),
            _ => None,
        }
    }

    fn escape_parameter(&mut self, number: u32, byte: u8) {
        self.escape = Escape::None;
        match (byte, number) {
            (b'0'..=b'9', _) => {
                self.escape =
                    Escape::Parameters(number.saturating_mul(10).saturating_add(u32::from(byte - b'0')));
            }
            (b';', _) => self.escape = Escape::Parameters(0),
            (b'A', _) => drop(self.show_history(self.shown.wrapping_sub(1))),
            (b'B', _) => drop(self.show_history(self.shown + 1)),
            (b'C', _) => drop(self.move_to(self.cursor + 1)),
            (b'D', _) => drop(self.move_to(self.cursor.saturating_sub(1))),
            (b'H', _) | (b'~', 1 | 7) => drop(self.move_to(0)),
            (b'F', _) | (b'~', 4 | 8) => drop(self.move_to(self.line.len())),
            (b'~', 3) => drop(self.delete(self.cursor, self.cursor + 1)),
            _ => {}
        }
    }

    fn finish_line(&mut self) -> Event {
        self.move_to(self.line.len());
        self.screen.push('\n');
        let line: String = self.line.iter().collect();
        if !line.trim().is_empty() && self.history.last() != Some(&line) {
            if self.history.len() == MAX_HISTORY {
                self.history.remove(0);
            }
            self.history.push(line.clone());
        }
        Event::Line(line)
    }

    fn character_byte(&mut self, byte: u8) -> Option<Event> {
        self.partial.push(byte);
        match core::str::from_utf8(&self.partial) {
            Ok(text) => {
                let characters: Vec<char> = text.chars().collect();
                self.partial.clear();
                for character in characters {
                    self.insert(character);
                }
            }
            Err(error) if error.error_len().is_some() => self.partial.clear(),
            Err(_) => {}
        }
        None
    }

    fn insert(&mut self, character: char) {
        self.line.insert(self.cursor, character);
        self.cursor += 1;
        if self.cursor == self.line.len() {
            self.screen.push(character);
        } else {
            self.redraw();
        }
    }

    fn delete(&mut self, from: usize, to: usize) -> Option<Event> {
        let to = to.min(self.line.len());
        if from < to {
            self.line.drain(from..to);
            self.cursor = from;
            self.redraw();
        }
        None
    }

    fn move_to(&mut self, position: usize) -> Option<Event> {
        let position = position.min(self.line.len());
        let (distance, direction) = if position < self.cursor {
            (self.cursor - position, 'D')
        } else {
            (position - self.cursor, 'C')
        };
        if distance > 0 {
            // Writing to a string does not fail.
            let _ = write!(self.screen, "\x1b[{distance}{direction}");
        }
        self.cursor = position;
        None
    }

    /// Where the word before the cursor begins.
    fn word_start(&self) -> usize {
        let mut start = self.cursor;
        while start > 0 && self.line[start - 1] == ' ' {
            start -= 1;
        }
        while start > 0 && self.line[start - 1] != ' ' {
            start -= 1;
        }
        start
    }

    fn show_history(&mut self, entry: usize) -> Option<Event> {
        if entry > self.history.len() {
            return None;
        }
        if self.shown == self.history.len() {
            self.draft.clone_from(&self.line);
        }
        self.shown = entry;
        self.line = match self.history.get(entry) {
            Some(line) => line.chars().collect(),
            None => self.draft.clone(),
        };
        self.cursor = self.line.len();
        self.redraw()
    }

    fn redraw(&mut self) -> Option<Event> {
        self.screen.push('\r');
        self.screen.push_str(&self.prompt);
        self.screen.extend(&self.line);
        self.screen.push_str("\x1b[K");
        let behind = self.line.len() - self.cursor;
        if behind > 0 {
            let _ = write!(self.screen, "\x1b[{behind}D");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(editor: &mut LineEditor, keys: &[u8]) -> Option<Event> {
        editor.begin();
        keys.iter().find_map(|byte| editor.feed(*byte))
    }

    fn line(keys: &[u8]) -> String {
        let mut editor = LineEditor::new("$ ");
        match typed(&mut editor, &[keys, b"\r"].concat()) {
            Some(Event::Line(line)) => line,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn editing() {
        assert_eq!(line(b"hello"), "hello");
        assert_eq!(line(b"helo\x1b[Dl"), "hello");
        assert_eq!(line(b"ello\x01h\x05!"), "hello!");
        assert_eq!(line(b"ello\x1b[Hh\x1b[F!"), "hello!");
        assert_eq!(line(b"ello\x1b[1~h\x1b[4~!"), "hello!");
        assert_eq!(line(b"ello\x1bOHh\x1bOF!"), "hello!");
        assert_eq!(line(b"helx\x7flo\x08o"), "hello");
        assert_eq!(line(b"\x7f\x08a"), "a");
        assert_eq!(line(b"abc\x1b[D\x1b[3~\x1b[3~"), "ab");
        assert_eq!(line(b"abc\x01\x04"), "bc");
        assert_eq!(line(b"one two  \x17three"), "one three");
        assert_eq!(line(b"one two\x02\x02\x02\x15"), "two");
        assert_eq!(line(b"one two\x01\x06\x06\x06\x0b"), "one");
        assert_eq!(line(b"a\x1b[1;5Cb\x1b[99~c\x1bxd"), "abcd");
        assert_eq!(line("grün\x1b[Dß".as_bytes()), "grüßn");
        assert_eq!(line(b"a\xffb\xc3\x28c"), "abc");
    }

    #[test]
    fn history() {
        let mut editor = LineEditor::new("$ ");
        let up = b"\x1b[A";
        typed(&mut editor, b"first\r");
        typed(&mut editor, b"second\n");
        typed(&mut editor, b"second\n");
        typed(&mut editor, b"   \n");
        assert_eq!(editor.history(), ["first", "second"]);
        assert_eq!(
            typed(&mut editor, &[up, up, up, &b"\r"[..]].concat()),
            Some(Event::Line("first".into()))
        );
        let there_and_back = [b"new", &up[..], up, b"\x1b[B\x1b[B\x1b[B", b"\r"].concat();
        assert_eq!(
            typed(&mut editor, &there_and_back),
            Some(Event::Line("new".into()))
        );
        assert_eq!(
            typed(&mut editor, b"\x10\x10!\r"),
            Some(Event::Line("first!".into()))
        );
    }

    #[test]
    fn ends() {
        let mut editor = LineEditor::new("$ ");
        assert_eq!(typed(&mut editor, b"abc\x03"), Some(Event::Cancelled));
        assert_eq!(typed(&mut editor, b"\x04"), Some(Event::EndOfInput));
        assert_eq!(typed(&mut editor, b"a\r"), Some(Event::Line("a".into())));
        assert_eq!(typed(&mut editor, b"\nb\r"), Some(Event::Line("b".into())));
        assert_eq!(typed(&mut editor, b"\n\n"), Some(Event::Line(String::new())));
    }

    #[test]
    fn the_screen_follows() {
        let mut editor = LineEditor::new("$ ");
        typed(&mut editor, b"ac");
        assert_eq!(editor.take_screen(), "$ ac");
        editor.feed(0x02);
        assert_eq!(editor.take_screen(), "\x1b[1D");
        editor.feed(b'b');
        assert_eq!(editor.take_screen(), "\r$ abc\x1b[K\x1b[1D");
        editor.feed(b'\r');
        assert_eq!(editor.take_screen(), "\x1b[1C\n");
        assert_eq!(editor.take_screen(), "");
    }
}
