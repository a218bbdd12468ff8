//! `sh`: the shell. Reads commands from the console or from `-c`, runs programs and its own commands, keeps jobs.
//!
//! The grammar and the line editor are in the package's library. Everything here runs in one thread.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod builtins;
mod jobs;
mod shell;

use alloc::collections::VecDeque;
use dragonet_abi::Errno;
use dragonet_programs::line_editor::{Event, LineEditor};
use dragonet_programs::options::Syntax;
use dragonet_rt::{Arguments, ExitCode, console, eprintln, print};
use shell::Shell;

dragonet_rt::main!(main);

const HELP: &str = "\
usage: sh [-c SCRIPT]

Runs commands: those of SCRIPT, or those typed on the console. 'help' lists the commands.
  -c SCRIPT  run SCRIPT and exit with the status of its last command

Commands are separated by ';', line ends, '&' (runs the command in the background), '&&' (next only
after success) and '||' (next only after failure). '...' and \"...\" quote, \\ quotes one character,
$NAME and $? (last status) are replaced, # begins a comment. A name without '/' is looked up in bin/.
Statuses: 127 command not found, 128 + vector for a program ended by an exception, 137 killed.";

const SYNTAX: Syntax = Syntax {
    values: "c",
    ..Syntax::new(HELP)
};

fn main(arguments: Arguments) -> ExitCode {
    let options = match SYNTAX.parse(&arguments) {
        Ok(options) => options,
        Err(status) => return status,
    };
    // So that whoever counts objects before and after a command finds no difference that is the shell's own. Without memory
    // for it, output takes the slow way.
    let _ = console::prepare();
    let mut shell = Shell::new();
    match options.value('c') {
        Some(script) => {
            shell.run(script);
        }
        None => run_interactively(&mut shell),
    }
    ExitCode(shell.status())
}

fn run_interactively(shell: &mut Shell) {
    let mut editor = LineEditor::new("dragonet$ ");
    // What was typed behind the end of a line is the beginning of the next one.
    let mut typed = VecDeque::new();
    while !shell.is_finished() {
        shell.report_jobs();
        editor.begin();
        let event = read_line(&mut editor, &mut typed);
        print!("{}", editor.take_screen());
        match event {
            Ok(Event::Line(line)) => shell.run_line(&line, editor.history()),
            Ok(Event::Cancelled) => {}
            Ok(Event::EndOfInput) => break,
            Err(errno) => {
                eprintln!("sh: no input: {errno}");
                shell.finish(1);
            }
        }
    }
}

fn read_line(editor: &mut LineEditor, typed: &mut VecDeque<u8>) -> Result<Event, Errno> {
    let mut input = [0; 48];
    loop {
        while let Some(byte) = typed.pop_front() {
            if let Some(event) = editor.feed(byte) {
                return Ok(event);
            }
        }
        print!("{}", editor.take_screen());
        let count = console::read_blocking(&mut input)?;
        typed.extend(&input[..count]);
    }
}
