//! Reads lines from standard input and prints each backwards, until the input ends or a line says `end`.

use std::io::BufRead;

fn main() {
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("standard input can be read");
        if line == "end" {
            break;
        }
        println!("{}", line.chars().rev().collect::<String>());
    }
}
