//! `ls`: lists directories and files of the root archive.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::string::String;
use dragonet_programs::options::Syntax;
use dragonet_rt::archive::{self, Archive};
use dragonet_rt::{Arguments, ExitCode, eprintln, println};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: ls [-l] [PATH...]

Lists what is in directories of the root archive (the top one without PATH), and files.
  -l        with sizes in bytes";

const SYNTAX: Syntax = Syntax {
    flags: "l",
    operands: (0, usize::MAX),
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
            eprintln!("ls: no root archive: {errno}");
            return ExitCode::FAILURE;
        }
    };
    let paths = if options.operands().is_empty() {
        &["/"]
    } else {
        options.operands()
    };
    let mut status = ExitCode::SUCCESS;
    for path in paths {
        let entries = entries(&root, path);
        if entries.is_empty() {
            eprintln!("ls: {path}: no such file or directory");
            status = ExitCode::FAILURE;
        }
        for (name, size) in entries {
            match size {
                Some(size) if options.has('l') => println!("{size:10}  {name}"),
                None if options.has('l') => println!("{:>10}  {name}/", "-"),
                Some(_) => println!("{name}"),
                None => println!("{name}/"),
            }
        }
    }
    status
}

/// Names below a path, with the sizes of files; directories have none.
fn entries(root: &Archive, path: &str) -> BTreeMap<String, Option<usize>> {
    let path = path.trim_start_matches("./").trim_matches('/');
    let path = if path == "." { "" } else { path };
    let mut entries = BTreeMap::new();
    for file in root.files() {
        if file.path == path {
            entries.insert(file.path, Some(file.bytes.len()));
            continue;
        }
        let below = if path.is_empty() {
            Some(file.path.as_str())
        } else {
            file.path
                .strip_prefix(path)
                .and_then(|rest| rest.strip_prefix('/'))
        };
        match below.map(|below| below.split_once('/').ok_or(below)) {
            Some(Ok((directory, _))) => drop(entries.insert(directory.into(), None)),
            Some(Err(name)) => drop(entries.insert(name.into(), Some(file.bytes.len()))),
            None => {}
        }
    }
    entries
}
