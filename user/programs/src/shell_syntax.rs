//! The shell's grammar: from a line to commands.
//!
//! A line is a list of commands separated by `;`, line ends, `&` (which also puts the command before it into the
//! background), `&&` and `||`. Words are separated by blanks; `'...'` keeps everything, `"..."` everything but `$NAME`, `$?`
//! and `\`, and `\` the next character. `#` at the start of a word begins a comment. Variables are expanded when the
//! command is run, because `$?` changes from one to the next; what they expand to is never split.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Part of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// The name of a variable, or `?`.
    Variable(String),
}

/// A word before expansion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    pieces: Vec<Piece>,
    /// Quoted words stay even when they expand to nothing.
    quoted: bool,
}

/// When a command is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// After the command before it, or its start if that is in the background.
    Always,
    /// If the last status is 0.
    IfSuccess,
    /// If the last status is not 0.
    IfFailure,
}

/// One command of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// When to run it.
    pub condition: Condition,
    /// The command and its arguments, at least one word.
    pub words: Vec<Word>,
    /// Not waited for.
    pub background: bool,
    /// As it was written, for lists of jobs.
    pub text: String,
}

/// Why a line has no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyntaxError {
    /// A `'` or `"` without its partner.
    OpenQuote(char),
    /// Nothing follows a `\`.
    OpenEscape,
    /// A command is missing before this operator, or behind it.
    MissingCommand(&'static str),
    /// `${` without a name and `}`.
    BadVariable,
    /// An operator that this shell does not have.
    Unsupported(char),
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SyntaxError::OpenQuote(quote) => write!(formatter, "a {quote} is not closed"),
            SyntaxError::OpenEscape => formatter.write_str("nothing follows the last \\"),
            SyntaxError::MissingCommand(operator) => {
                write!(formatter, "a command is missing beside '{operator}'")
            }
            SyntaxError::BadVariable => formatter.write_str("a variable's name is missing or not closed"),
            SyntaxError::Unsupported(operator) => {
                write!(
                    formatter,
                    "'{operator}' is not supported; quote it to use the character itself"
                )
            }
        }
    }
}

impl Word {
    /// What the word stands for now; `None` for an unquoted word that expands to nothing.
    pub fn expand(&self, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
        let mut result = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => result.push_str(text),
                Piece::Variable(name) => result.push_str(&variable(name).unwrap_or_default()),
            }
        }
        (self.quoted || !result.is_empty()).then_some(result)
    }

    fn push(&mut self, character: char) {
        if let Some(Piece::Text(text)) = self.pieces.last_mut() {
            text.push(character);
        } else {
            self.pieces.push(Piece::Text(String::from(character)));
        }
    }

    fn is_empty(&self) -> bool {
        self.pieces.is_empty() && !self.quoted
    }
}

/// Takes a line apart.
///
/// # Errors
/// What is wrong with it; nothing of the line should be run then.
pub fn parse(line: &str) -> Result<Vec<Statement>, SyntaxError> {
    let mut parser = Parser {
        line,
        position: 0,
        start: 0,
        statements: Vec::new(),
        words: Vec::new(),
    };
    parser.run()?;
    Ok(parser.statements)
}

struct Parser<'line> {
    line: &'line str,
    position: usize,
    /// Where the statement being read begins.
    start: usize,
    statements: Vec<Statement>,
    words: Vec<Word>,
}

impl Parser<'_> {
    fn run(&mut self) -> Result<(), SyntaxError> {
        let mut condition = Condition::Always;
        // The operator that demands a command behind it.
        let mut demand = None;
        loop {
            let operator = self.read_words()?;
            let empty = self.words.is_empty();
            if empty && let Some(operator) = demand {
                if self.line[..self.position].ends_with('\n') && self.position < self.line.len() {
                    continue; // a line may end behind && and ||
                }
                return Err(SyntaxError::MissingCommand(operator));
            }
            if empty && matches!(operator, "&" | "&&" | "||") {
                return Err(SyntaxError::MissingCommand(operator));
            }
            if !empty {
                let text = self.line[self.start..self.position - operator.len()].trim();
                self.statements.push(Statement {
                    condition,
                    words: core::mem::take(&mut self.words),
                    background: operator == "&",
                    text: String::from(text),
                });
            }
            (condition, demand) = match operator {
                "&&" => (Condition::IfSuccess, Some("&&")),
                "||" => (Condition::IfFailure, Some("||")),
                "" => return Ok(()),
                _ => (Condition::Always, None),
            };
            self.start = self.position;
        }
    }

    fn next(&mut self) -> Option<char> {
        let character = self.line[self.position..].chars().next()?;
        self.position += character.len_utf8();
        Some(character)
    }

    fn peek(&self) -> Option<char> {
        self.line[self.position..].chars().next()
    }

    /// Reads words up to an operator, which is returned; the end of the line is the empty operator.
    fn read_words(&mut self) -> Result<&'static str, SyntaxError> {
        let mut word = Word::default();
        let operator = loop {
            let Some(character) = self.next() else { break "" };
            match character {
                ' ' | '\t' | '\r' => self.end_word(&mut word),
                '\n' => break "\n",
                ';' => break ";",
                '&' | '|' => {
                    let doubled = self.peek() == Some(character);
                    if doubled {
                        self.next();
                    }
                    match (character, doubled) {
                        ('&', false) => break "&",
                        ('&', true) => break "&&",
                        (_, true) => break "||",
                        (_, false) => return Err(SyntaxError::Unsupported('|')),
                    }
                }
                '<' | '>' | '(' | ')' | '`' => return Err(SyntaxError::Unsupported(character)),
                '#' if word.is_empty() => {
                    while self.peek().is_some_and(|character| character != '\n') {
                        self.next();
                    }
                }
                '\'' => self.read_single_quoted(&mut word)?,
                '"' => self.read_double_quoted(&mut word)?,
                '\\' => match self.next() {
                    Some('\n') => {}
                    Some(character) => word.push(character),
                    None => return Err(SyntaxError::OpenEscape),
                },
                '$' => self.read_variable(&mut word)?,
                character => word.push(character),
            }
        };
        self.end_word(&mut word);
        Ok(operator)
    }

    fn end_word(&mut self, word: &mut Word) {
        if !word.is_empty() {
            self.words.push(core::mem::take(word));
        }
    }

    fn read_single_quoted(&mut self, word: &mut Word) -> Result<(), SyntaxError> {
        word.quoted = true;
        loop {
            match self.next().ok_or(SyntaxError::OpenQuote('\''))? {
                '\'' => return Ok(()),
                character => word.push(character),
            }
        }
    }

    fn read_double_quoted(&mut self, word: &mut Word) -> Result<(), SyntaxError> {
        const OPEN: SyntaxError = SyntaxError::OpenQuote('"');
        word.quoted = true;
        loop {
            match self.next().ok_or(OPEN)? {
                '"' => return Ok(()),
                '$' => self.read_variable(word)?,
                '\\' => match self.next().ok_or(OPEN)? {
                    '\n' => {}
                    character @ ('"' | '\\' | '$') => word.push(character),
                    character => {
                        word.push('\\');
                        word.push(character);
                    }
                },
                character => word.push(character),
            }
        }
    }

    /// Reads what follows a `$`; without a name it is an ordinary character.
    fn read_variable(&mut self, word: &mut Word) -> Result<(), SyntaxError> {
        let mut name = String::new();
        match self.peek() {
            Some('?' | '!') => name.extend(self.next()),
            Some('{') => {
                self.next();
                loop {
                    match self.next() {
                        Some('}') if !name.is_empty() => break,
                        Some(character) if is_name(character) || character == '?' => name.push(character),
                        _ => return Err(SyntaxError::BadVariable),
                    }
                }
            }
            _ => {
                while self.peek().is_some_and(is_name) {
                    name.extend(self.next());
                }
            }
        }
        if name.is_empty() {
            word.push('$');
        } else {
            word.pieces.push(Piece::Variable(name));
        }
        Ok(())
    }
}

fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// Splits `NAME=value`, if the text has that form.
#[must_use]
pub fn assignment(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once('=')?;
    let good = !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(is_name);
    good.then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn words(line: &str) -> Vec<Vec<String>> {
        let lookup = |name: &str| match name {
            "?" => Some("7".to_string()),
            "HOME" => Some("a b".to_string()),
            _ => None,
        };
        let statements = parse(line).unwrap();
        statements
            .iter()
            .map(|one| one.words.iter().filter_map(|word| word.expand(lookup)).collect())
            .collect()
    }

    #[test]
    fn words_and_quotes() {
        assert_eq!(words("echo  a\tb"), [["echo", "a", "b"]]);
        assert_eq!(
            words("vkernel -c '/bin/hello from a vkernel'"),
            [["vkernel", "-c", "/bin/hello from a vkernel"]]
        );
        assert_eq!(
            words(r#"e "a ' $HOME \" \n" 'x $HOME \'y"#),
            [["e", "a ' a b \" \\n", "x $HOME \\y"]]
        );
        assert_eq!(words(r"a\ b \; \'"), [["a b", ";", "'"]]);
        assert_eq!(words("echo '' \"\""), [["echo", "", ""]]);
        assert_eq!(words("a'b'\"c\"d"), [["abcd"]]);
    }

    #[test]
    fn variables() {
        assert_eq!(
            words("e $? $HOME $NONE x$NONE ${HOME}s $ a$"),
            [["e", "7", "a b", "x", "a bs", "$", "a$"]]
        );
        assert_eq!(words("e \"$NONE\" \"$?\""), [["e", "", "7"]]);
        assert_eq!(parse("echo ${"), Err(SyntaxError::BadVariable));
        assert_eq!(parse("echo ${}"), Err(SyntaxError::BadVariable));
        assert_eq!(parse("echo ${a b}"), Err(SyntaxError::BadVariable));
    }

    #[test]
    fn lists() {
        let list = parse("a 1; b &c && d || e\n# no command\nf # comment\n").unwrap();
        let seen: Vec<_> = list
            .iter()
            .map(|one| (one.text.as_str(), one.condition, one.background))
            .collect();
        assert_eq!(
            seen,
            [
                ("a 1", Condition::Always, false),
                ("b", Condition::Always, true),
                ("c", Condition::Always, false),
                ("d", Condition::IfSuccess, false),
                ("e", Condition::IfFailure, false),
                ("f # comment", Condition::Always, false),
            ]
        );
        assert_eq!(words("f # comment; g\nh"), [["f"], ["h"]]);
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse(" ;; \n ; ").unwrap(), []);
        assert_eq!(words("a &&\n b"), [["a"], ["b"]]);
    }

    #[test]
    fn mistakes() {
        assert_eq!(parse("echo 'a"), Err(SyntaxError::OpenQuote('\'')));
        assert_eq!(parse("echo \"a"), Err(SyntaxError::OpenQuote('"')));
        assert_eq!(parse("echo \\"), Err(SyntaxError::OpenEscape));
        assert_eq!(parse("& a"), Err(SyntaxError::MissingCommand("&")));
        assert_eq!(parse("a &&"), Err(SyntaxError::MissingCommand("&&")));
        assert_eq!(parse("a && \n"), Err(SyntaxError::MissingCommand("&&")));
        assert_eq!(parse("a || ; b"), Err(SyntaxError::MissingCommand("||")));
        assert_eq!(parse("a | b"), Err(SyntaxError::Unsupported('|')));
        assert_eq!(parse("a > b"), Err(SyntaxError::Unsupported('>')));
    }

    #[test]
    fn assignments() {
        assert_eq!(assignment("A_1=x=y"), Some(("A_1", "x=y")));
        assert_eq!(assignment("A="), Some(("A", "")));
        assert_eq!(assignment("=x"), None);
        assert_eq!(assignment("1A=x"), None);
        assert_eq!(assignment("a-b=x"), None);
        assert_eq!(assignment("plain"), None);
    }
}
