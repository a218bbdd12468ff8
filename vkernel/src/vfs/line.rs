//! The line discipline of a raw console: typed bytes become lines, with echo and a little editing (termios(3), canonical mode).

use alloc::vec::Vec;

/// Bytes of one line at most; what is typed beyond is not taken.
const MAX_LINE: usize = 4095;
/// Ctrl-D: ends the input, or the line at once.
const END: u8 = 0x04;
/// Ctrl-U: forgets the line.
const KILL: u8 = 0x15;
/// Ctrl-W: forgets the last word.
const WORD_ERASE: u8 = 0x17;
/// What terminals send for the erase key: either.
const ERASE: [u8; 2] = [0x08, 0x7f];
/// Takes one character off the screen.
const RUB_OUT: &[u8] = b"\x08 \x08";

/// A line that is being typed.
pub struct Line {
    typed: Vec<u8>,
}

impl Line {
    /// An empty line.
    pub const fn new() -> Self {
        Line { typed: Vec::new() }
    }

    /// Takes a typed byte. Adds to `echo` what the screen is to show. Returns the line if it is complete; an empty one is the end of
    /// the input.
    pub fn input(&mut self, byte: u8, echo: &mut Vec<u8>) -> Option<Vec<u8>> {
        match byte {
            b'\r' | b'\n' => {
                self.typed.push(b'\n');
                echo.push(b'\n');
                return Some(core::mem::take(&mut self.typed));
            }
            END => return Some(core::mem::take(&mut self.typed)),
            KILL => while self.rub_out(echo) {},
            WORD_ERASE => {
                while self.typed.last() == Some(&b' ') && self.rub_out(echo) {}
                while self.typed.last().is_some_and(|&last| last != b' ') && self.rub_out(echo) {}
            }
            byte if ERASE.contains(&byte) => {
                self.rub_out(echo);
            }
            b'\t' | b' '.. if self.typed.len() < MAX_LINE => {
                self.typed.push(byte);
                echo.push(byte);
            }
            _ => {}
        }
        None
    }

    /// Forgets the last character, which is several bytes in UTF-8. False if there is none.
    fn rub_out(&mut self, echo: &mut Vec<u8>) -> bool {
        let continues = |byte: u8| byte & 0xc0 == 0x80;
        while self.typed.last().is_some_and(|&last| continues(last)) {
            self.typed.pop();
        }
        let erased = self.typed.pop().is_some();
        if erased {
            echo.extend_from_slice(RUB_OUT);
        }
        erased
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(typed: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut line = Line::new();
        let mut echo = Vec::new();
        let lines = typed
            .iter()
            .filter_map(|&byte| line.input(byte, &mut echo))
            .collect();
        (lines, echo)
    }

    #[test]
    fn lines_end_with_return_or_newline() {
        let (found, echo) = lines(b"one\rtwo\nthr");
        assert_eq!(found, [b"one\n", b"two\n"]);
        assert_eq!(echo, b"one\ntwo\nthr");
    }

    #[test]
    fn mistakes_are_rubbed_out() {
        assert_eq!(lines(b"\x7f\x7fab\x7fc\r").0, [b"ac\n"]);
        assert_eq!(lines("äö\x08x\r".as_bytes()).0, ["äx\n".as_bytes()]);
        assert_eq!(lines(b"gone\x15kept\r").0, [b"kept\n"]);
        assert_eq!(lines(b"first second  \x17third\r").0, [b"first third\n"]);
        assert_eq!(lines(b"a\x7f").1, b"a\x08 \x08");
    }

    #[test]
    fn the_end_is_an_empty_line() {
        let (found, _) = lines(b"part\x04\x04");
        assert_eq!(found, [b"part".to_vec(), Vec::new()]);
    }

    #[test]
    fn control_characters_and_endless_lines_are_not_taken() {
        assert_eq!(lines(b"a\x00\x1b[A\tb\r").0, [b"a[A\tb\n"]);
        let mut typed = alloc::vec![b'x'; 2 * MAX_LINE];
        typed.push(b'\r');
        assert_eq!(lines(&typed).0[0].len(), MAX_LINE + 1);
    }
}
