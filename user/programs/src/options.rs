//! Command lines: short options, operands, `--help`.

use alloc::string::String;
use alloc::vec::Vec;
use core::str::FromStr;
use dragonet_rt::{Arguments, ExitCode, eprintln, println};

/// What a program accepts, and how it explains itself.
#[derive(Clone, Copy, Debug)]
pub struct Syntax {
    /// Printed by `--help`: usage line, blank line, what the program does and what the options mean.
    pub help: &'static str,
    /// Letters of options without a value.
    pub flags: &'static str,
    /// Letters of options with a value.
    pub values: &'static str,
    /// Least and most count of operands.
    pub operands: (usize, usize),
    /// Everything from the first operand on is operands, even what begins with `-`.
    pub stops_at_operand: bool,
}

impl Syntax {
    /// No options and no operands but `--help`.
    #[must_use]
    pub const fn new(help: &'static str) -> Self {
        Syntax {
            help,
            flags: "",
            values: "",
            operands: (0, 0),
            stops_at_operand: false,
        }
    }

    /// Takes a command line apart.
    ///
    /// # Errors
    /// The status with which the program should end: success after `--help`, usage after a message about what is wrong.
    pub fn parse(&self, arguments: &Arguments) -> Result<Options, ExitCode> {
        match self.take_apart(arguments.rest()) {
            Ok(Some(options)) => Ok(options),
            Ok(None) => {
                println!("{}", self.help.trim_end());
                Err(ExitCode::SUCCESS)
            }
            Err(problem) => Err(usage(arguments, format_args!("{problem}"))),
        }
    }

    /// `None` for `--help`.
    fn take_apart(&self, arguments: &[&'static str]) -> Result<Option<Options>, String> {
        let mut options = Options {
            program: dragonet_rt::startup::program(),
            given: Vec::new(),
            operands: Vec::new(),
        };
        let mut rest = arguments.iter();
        let mut only_operands = false;
        while let Some(argument) = rest.next() {
            match *argument {
                "--help" if !only_operands => return Ok(None),
                "--" if !only_operands => only_operands = true,
                text if !only_operands && text.len() > 1 && text.starts_with('-') => {
                    let mut letters = text[1..].char_indices();
                    while let Some((at, letter)) = letters.next() {
                        if self.flags.contains(letter) {
                            options.given.push((letter, ""));
                        } else if self.values.contains(letter) {
                            let attached = &text[1 + at + letter.len_utf8()..];
                            let value = if attached.is_empty() {
                                rest.next().copied()
                            } else {
                                Some(attached)
                            };
                            let value =
                                value.ok_or_else(|| alloc::format!("option -{letter} needs a value"))?;
                            options.given.push((letter, value));
                            letters = "".char_indices();
                        } else {
                            return Err(alloc::format!("unknown option '{text}'"));
                        }
                    }
                }
                text => {
                    options.operands.push(text);
                    only_operands |= self.stops_at_operand;
                }
            }
        }
        let (least, most) = self.operands;
        match options.operands.len() {
            count if count < least => Err(String::from("an operand is missing")),
            count if count > most => Err(alloc::format!("unexpected operand '{}'", options.operands[most])),
            _ => Ok(Some(options)),
        }
    }
}

/// Says what is wrong with the command line and gives the status for that.
pub fn usage(arguments: &Arguments, problem: core::fmt::Arguments<'_>) -> ExitCode {
    let program = arguments.program();
    eprintln!("{program}: {problem}; '{program} --help' tells more");
    ExitCode::USAGE
}

/// Options and operands that were given.
#[derive(Clone, Debug)]
pub struct Options {
    program: &'static str,
    given: Vec<(char, &'static str)>,
    operands: Vec<&'static str>,
}

impl Options {
    /// True if the flag was given.
    #[must_use]
    pub fn has(&self, letter: char) -> bool {
        self.given.iter().any(|(given, _)| *given == letter)
    }

    /// The value of an option, the last one if it was given more than once.
    #[must_use]
    pub fn value(&self, letter: char) -> Option<&'static str> {
        self.given
            .iter()
            .rev()
            .find(|(given, _)| *given == letter)
            .map(|(_, value)| *value)
    }

    /// The value of an option as a number.
    ///
    /// # Errors
    /// The usage status, after a message, if it is not one.
    pub fn number<T: FromStr>(&self, letter: char, default: T) -> Result<T, ExitCode> {
        let Some(text) = self.value(letter) else {
            return Ok(default);
        };
        text.parse().map_err(|_| {
            let program = self.program;
            eprintln!(
                "{program}: '{text}' is not a valid number for -{letter}; '{program} --help' tells more"
            );
            ExitCode::USAGE
        })
    }

    /// What is left.
    #[must_use]
    pub fn operands(&self) -> &[&'static str] {
        &self.operands
    }
}
