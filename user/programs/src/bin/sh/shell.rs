//! Running statements: expansion, conditions, programs in the foreground and in the background.

use crate::builtins;
use crate::jobs::Jobs;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use dragonet_programs::shell_syntax::{Condition, Statement, assignment, parse};
use dragonet_rt::process::{Child, Command, Ending, SpawnError};
use dragonet_rt::{console, eprintln, println, startup};

/// Status of a command that does not exist.
const NOT_FOUND: u8 = 127;
/// Status of a file that cannot be run.
const NOT_EXECUTABLE: u8 = 126;
/// Status after a line that makes no sense, or a command that was called wrongly.
pub const USAGE: u8 = 2;

/// The state of a shell.
pub struct Shell {
    /// Variables; all of them are passed on to programs.
    pub variables: BTreeMap<String, String>,
    pub jobs: Jobs,
    /// Lines typed so far; empty in a script.
    pub history: Vec<String>,
    status: u8,
    finished: bool,
}

impl Shell {
    pub fn new() -> Self {
        Shell {
            variables: startup::environment()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            jobs: Jobs::default(),
            history: Vec::new(),
            status: 0,
            finished: false,
        }
    }

    /// Status of the last command.
    pub const fn status(&self) -> u8 {
        self.status
    }

    /// True once `exit` was run.
    pub const fn is_finished(&self) -> bool {
        self.finished
    }

    /// Ends the shell after the current command.
    pub const fn finish(&mut self, status: u8) {
        self.status = status;
        self.finished = true;
    }

    /// Tells about jobs that have ended since the last look.
    pub fn report_jobs(&mut self) {
        self.jobs.report_ended();
    }

    /// Runs a line that was typed.
    pub fn run_line(&mut self, line: &str, history: &[String]) {
        self.history = history.to_vec();
        self.run(line);
    }

    /// Runs a script.
    pub fn run(&mut self, script: &str) {
        let statements = match parse(script) {
            Ok(statements) => statements,
            Err(mistake) => {
                eprintln!("sh: {mistake}");
                self.status = USAGE;
                return;
            }
        };
        for statement in statements {
            if self.finished {
                break;
            }
            let wanted = match statement.condition {
                Condition::Always => true,
                Condition::IfSuccess => self.status == 0,
                Condition::IfFailure => self.status != 0,
            };
            if wanted {
                self.run_statement(&statement);
            }
        }
    }

    fn run_statement(&mut self, statement: &Statement) {
        let words: Vec<String> = statement
            .words
            .iter()
            .filter_map(|word| word.expand(|name| self.variable(name)))
            .collect();
        let Some((name, arguments)) = words.split_first() else {
            self.status = 0;
            return;
        };
        if arguments.is_empty()
            && let Some((name, value)) = assignment(name)
        {
            self.variables.insert(name.into(), value.into());
            self.status = 0;
            return;
        }
        let arguments = match self.jobs.replace_numbers(name, arguments) {
            Ok(arguments) => arguments,
            Err(problem) => {
                eprintln!("sh: {name}: {problem}");
                self.status = 1;
                return;
            }
        };
        if let Some(builtin) = builtins::find(name) {
            self.status = builtin(self, &arguments);
            return;
        }
        match self.spawn(name, arguments) {
            Ok(child) if statement.background => {
                let (number, process) = self.jobs.add(child, &statement.text);
                println!("[{number}] {process}");
                self.variables.insert("!".into(), process.to_string());
                self.status = 0;
            }
            Ok(child) => self.status = run_in_foreground(&child, name),
            Err(SpawnError::NotFound) => {
                eprintln!("sh: {name}: command not found");
                self.status = NOT_FOUND;
            }
            Err(problem) => {
                eprintln!("sh: {name}: {problem}");
                self.status = NOT_EXECUTABLE;
            }
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        if name == "?" {
            Some(self.status.to_string())
        } else {
            self.variables.get(name).cloned()
        }
    }

    fn spawn(&self, name: &str, arguments: Vec<String>) -> Result<Child, SpawnError> {
        // What was printed so far comes before what the program prints.
        console::flush();
        let environment = self.variables.iter().filter(|(name, _)| *name != "!");
        Command::new(name)
            .arguments(arguments)
            .environment(environment.map(|(name, value)| (name.clone(), value.clone())))
            .spawn()
    }
}

/// Waits for a program, which the interrupt key kills meanwhile, and returns its status.
pub fn run_in_foreground(child: &Child, name: &str) -> u8 {
    // Without a console there is no interrupt key either.
    let _ = console::set_foreground(child.handle());
    let ending = child.wait();
    let _ = console::clear_foreground();
    match ending {
        Ok(ending) => {
            report(name, ending);
            ending.status()
        }
        Err(errno) => {
            eprintln!("sh: {name}: cannot be waited for: {errno}");
            1
        }
    }
}

/// Says why a program ended, unless it ended by itself.
pub fn report(name: &str, ending: Ending) {
    if !ending.is_exit() {
        eprintln!("sh: {name}: {ending}");
    }
}
