//! `cat`: prints files of the root archive.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use dragonet_programs::options::Syntax;
use dragonet_rt::{Arguments, ExitCode, archive, console, eprintln};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: cat FILE...

Prints files of the root archive, one after the other.";

const SYNTAX: Syntax = Syntax {
    operands: (1, usize::MAX),
    ..Syntax::new(HELP)
};

fn main(arguments: Arguments) -> ExitCode {
    let options = match SYNTAX.parse(&arguments) {
        Ok(options) => options,
        Err(status) => return status,
    };
    let root = match archive::root() {
        Ok(root) => root,
        Err(errno) => {
            eprintln!("cat: no root archive: {errno}");
            return ExitCode::FAILURE;
        }
    };
    let mut status = ExitCode::SUCCESS;
    for path in options.operands() {
        match root.find(path) {
            Some(file) => console::write(file.bytes),
            None => {
                eprintln!("cat: {path}: no such file");
                status = ExitCode::FAILURE;
            }
        }
    }
    status
}
