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
    /// Long names of options: `--NAME` is the same as the letter.
    pub long: &'static [(&'static str, char)],
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
            long: &[],
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
                text if !only_operands && text.starts_with("--") => {
                    let found = self.long.iter().find(|(name, _)| text[2..] == **name);
                    let (_, letter) = found.ok_or_else(|| unknown(text))?;
                    self.take_option(*letter, "", &mut rest, &mut options)?;
                }
                text if !only_operands && text.len() > 1 && text.starts_with('-') => {
                    let mut letters = text[1..].chars();
                    while let Some(letter) = letters.next() {
                        if !self.flags.contains(letter) && !self.values.contains(letter) {
                            return Err(unknown(text));
                        }
                        let attached = letters.as_str();
                        if self.take_option(letter, attached, &mut rest, &mut options)? {
                            break;
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

    /// Takes one option, and its value if it has one: what is attached to it, or else the next argument. True if it has.
    fn take_option(
        &self,
        letter: char,
        attached: &'static str,
        rest: &mut core::slice::Iter<'_, &'static str>,
        options: &mut Options,
    ) -> Result<bool, String> {
        let takes_value = self.values.contains(letter);
        let value = match (takes_value, attached) {
            (false, _) => "",
            (true, "") => rest
                .next()
                .copied()
                .ok_or_else(|| alloc::format!("option -{letter} needs a value"))?,
            (true, attached) => attached,
        };
        options.given.push((letter, value));
        Ok(takes_value)
    }
}

fn unknown(option: &str) -> String {
    alloc::format!("unknown option '{option}'")
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

#[cfg(test)]
mod tests {
    use super::*;

    const SYNTAX: Syntax = Syntax {
        flags: "ab",
        values: "nx",
        long: &[("number", 'n'), ("all", 'a')],
        operands: (0, 2),
        ..Syntax::new("")
    };

    fn parsed(arguments: &[&'static str]) -> Options {
        SYNTAX.take_apart(arguments).unwrap().unwrap()
    }

    #[test]
    fn options_and_operands() {
        let options = parsed(&["-ab", "one", "-n", "5", "two"]);
        assert!(options.has('a') && options.has('b') && !options.has('x'));
        assert_eq!(
            (options.value('n'), options.operands()),
            (Some("5"), &["one", "two"][..])
        );
        assert_eq!(parsed(&["-an5"]).value('n'), Some("5"));
        assert_eq!(parsed(&["-n", "1", "--number", "2"]).number('n', 0), Ok(2));
        assert!(parsed(&["--all"]).has('a'));
        assert_eq!(parsed(&["--", "-a", "--help"]).operands(), ["-a", "--help"]);
        assert_eq!(parsed(&["-"]).operands(), ["-"]);
        assert!(SYNTAX.take_apart(&["-a", "--help"]).unwrap().is_none());
    }

    #[test]
    fn operands_end_options() {
        let syntax = Syntax {
            stops_at_operand: true,
            ..SYNTAX
        };
        let options = syntax.take_apart(&["-a", "run", "-b"]).unwrap().unwrap();
        assert_eq!(
            (options.has('b'), options.operands()),
            (false, &["run", "-b"][..])
        );
    }

    #[test]
    fn mistakes() {
        let problem = |arguments: &[&'static str]| SYNTAX.take_apart(arguments).unwrap_err();
        assert_eq!(problem(&["-z"]), "unknown option '-z'");
        assert_eq!(problem(&["-az"]), "unknown option '-az'");
        assert_eq!(problem(&["--none"]), "unknown option '--none'");
        assert_eq!(problem(&["-n"]), "option -n needs a value");
        assert_eq!(problem(&["1", "2", "3"]), "unexpected operand '3'");
        let syntax = Syntax {
            operands: (1, 2),
            ..SYNTAX
        };
        assert_eq!(syntax.take_apart(&["-a"]).unwrap_err(), "an operand is missing");
    }
}
