//! The command line: options as in vkernel(7).

use crate::words::{self, UnclosedQuote};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Most virtual CPUs.
pub const MAX_CPUS: usize = 64;
/// Least RAM: enough for the tables and pages of a small program.
const MIN_MEMORY: u64 = 1 << 20;
/// Most RAM: it is mapped below 64 GiB together with everything else.
const MAX_MEMORY: u64 = 32 << 30;

/// What `-h` prints.
pub const HELP: &str = "\
usage: vkernel [-m SIZE] [-n CPUS] [-r IMAGE] [-d] [-v] [-c COMMAND]

Runs a kernel of its own as a process, and in it a static Linux program.

  -m SIZE     memory, in bytes or with K, M or G (default 64M)
  -n CPUS     virtual CPUs, 1 to 64 (default 2)
  -r IMAGE    root file system: a tar archive in the host's root archive (default images/linux.tar)
  -d          do not use hardware virtualization
  -v          say what happens, and count
  -c COMMAND  the first program with its arguments, quoted as in sh (default /bin/hello)
  -h          this text

The exit status is that of the first program; 128 + N if signal N ended it; 2 for a wrong command line; 1 if the
vkernel could not start.
";

/// A checked command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of RAM, whole pages.
    pub memory: u64,
    /// Virtual CPUs.
    pub cpus: usize,
    /// Path of the root image in the host's root archive.
    pub root: String,
    /// Guest mode is not to be used.
    pub no_vmm: bool,
    /// Say what happens.
    pub verbose: bool,
    /// The first program and its arguments; at least one word.
    pub command: Vec<Vec<u8>>,
}

/// Why there are no options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Help was asked for.
    Help,
    /// Something is wrong; the text says what.
    Wrong(String),
}

impl Options {
    /// Reads the arguments behind the program's name.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub fn parse<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Self, Refusal> {
        let mut options = Options {
            memory: 64 << 20,
            cpus: 2,
            root: "images/linux.tar".to_string(),
            no_vmm: false,
            verbose: false,
            command: [b"/bin/hello".to_vec()].into(),
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut letters = match argument.strip_prefix('-') {
                Some(letters) if !letters.is_empty() => letters.chars(),
                _ => return wrong(format!("'{argument}' is not an option")),
            };
            while let Some(letter) = letters.next() {
                match letter {
                    'd' => options.no_vmm = true,
                    'v' => options.verbose = true,
                    'h' => return Err(Refusal::Help),
                    'm' | 'n' | 'r' | 'c' => {
                        let rest = letters.as_str();
                        let value = if rest.is_empty() {
                            arguments.next()
                        } else {
                            Some(rest)
                        };
                        let Some(value) = value else {
                            return wrong(format!("-{letter} needs a value"));
                        };
                        options.set(letter, value)?;
                        break;
                    }
                    _ => return wrong(format!("there is no option -{letter}")),
                }
            }
        }
        Ok(options)
    }

    fn set(&mut self, letter: char, value: &str) -> Result<(), Refusal> {
        match letter {
            'm' => {
                let size = parse_size(value);
                let allowed = size.filter(|size| (MIN_MEMORY..=MAX_MEMORY).contains(size));
                let Some(size) = allowed else {
                    return wrong(format!("-m {value}: memory must be a size from 1M to 32G"));
                };
                self.memory = size & !4095;
            }
            'n' => match value.parse() {
                Ok(cpus) if (1..=MAX_CPUS).contains(&cpus) => self.cpus = cpus,
                _ => {
                    return wrong(format!(
                        "-n {value}: the number of CPUs must be from 1 to {MAX_CPUS}"
                    ));
                }
            },
            'r' => self.root = value.trim_start_matches('/').to_string(),
            _ => match words::split(value) {
                Ok(words) if words.is_empty() => return wrong("-c: there is no command".to_string()),
                Ok(words) => self.command = words,
                Err(UnclosedQuote) => return wrong("-c: a quote is not closed".to_string()),
            },
        }
        Ok(())
    }
}

fn wrong<T>(text: String) -> Result<T, Refusal> {
    Err(Refusal::Wrong(text))
}

fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.char_indices().last()? {
        (end, 'k' | 'K') => (&text[..end], 10),
        (end, 'm' | 'M') => (&text[..end], 20),
        (end, 'g' | 'G') => (&text[..end], 30),
        _ => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, Refusal> {
        Options::parse(arguments.iter().copied())
    }

    #[test]
    fn defaults() {
        let options = parse(&[]).unwrap();
        assert_eq!((options.memory, options.cpus), (64 << 20, 2));
        assert_eq!(options.command, [b"/bin/hello"]);
        assert_eq!(options.root, "images/linux.tar");
        assert!(!options.no_vmm && !options.verbose);
    }

    #[test]
    fn everything_at_once() {
        let options = parse(&[
            "-dv",
            "-n4",
            "-m",
            "1G",
            "-r",
            "/images/other.tar",
            "-c",
            "/bin/a 'b c'",
        ])
        .unwrap();
        assert_eq!((options.memory, options.cpus), (1 << 30, 4));
        assert!(options.no_vmm && options.verbose);
        assert_eq!(options.root, "images/other.tar");
        assert_eq!(options.command, [&b"/bin/a"[..], b"b c"]);
    }

    #[test]
    fn mistakes_are_named() {
        for (arguments, part) in [
            (&["-m"][..], "-m needs a value"),
            (&["-m", "12Q"], "12Q"),
            (&["-m", "0"], "1M"),
            (&["-m", "-5M"], "-5M"),
            (&["-m", "+5M"], "+5M"),
            (&["-m", "99999999999999999999G"], "size"),
            (&["-m", "18446744073709551615K"], "size"),
            (&["-n", "0"], "1 to 64"),
            (&["-n", "65"], "1 to 64"),
            (&["-n", "two"], "two"),
            (&["-x"], "-x"),
            (&["hello"], "hello"),
            (&["-"], "'-'"),
            (&["-c", ""], "no command"),
            (&["-c", "'open"], "quote"),
            (&["-dm"], "-m needs"),
        ] {
            match parse(arguments) {
                Err(Refusal::Wrong(text)) => assert!(text.contains(part), "{arguments:?}: {text}"),
                other => panic!("{arguments:?}: {other:?}"),
            }
        }
        assert_eq!(parse(&["-vh"]), Err(Refusal::Help));
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("4096"), Some(4096));
        assert_eq!(parse_size("3k"), Some(3072));
        assert_eq!(parse_size("é"), None);
        assert_eq!(parse_size("M"), None);
        assert_eq!(parse_size(""), None);
    }
}
