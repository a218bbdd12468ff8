//! `echo`: prints its operands.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use dragonet_rt::{Arguments, ExitCode, print, println};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: echo [-n] [TEXT...]

Prints the texts with a space between them and a line end behind the last.
  -n        no line end";

fn main(arguments: Arguments) -> ExitCode {
    let mut texts = arguments.rest();
    if texts == ["--help"] {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let line_end = texts.first() != Some(&"-n");
    if !line_end {
        texts = &texts[1..];
    }
    for (index, text) in texts.iter().enumerate() {
        print!("{}{text}", if index > 0 { " " } else { "" });
    }
    if line_end {
        println!();
    }
    ExitCode::SUCCESS
}
