//! `fork-basic`: a native program makes copies of itself, and both sides check what they see; then what limits do.
//!
//! There is no fork in the kernel's processes: a copy is a new process whose vmspace is filled by `vmspace_fork` and whose first thread
//! begins where its creator says. What copies report goes into a shared page, since all else that they write is their own.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod copies;
mod limits;
mod users;

use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::Errno;
use dragonet_abi::layout::PAGE_SIZE;
use dragonet_abi::memory::Protection;
use dragonet_programs::checks::Checks;
use dragonet_programs::ledger::Ledger;
use dragonet_programs::options::Syntax;
use dragonet_rt::memory::Mapping;
use dragonet_rt::process::{Child, Ending, fork};
use dragonet_rt::{Arguments, ExitCode, syscall};

dragonet_rt::main!(main);

const HELP: &str = "\
usage: fork-basic

Copies itself and checks that both sides begin alike and then go their own ways, and that limits hold.";

const SYNTAX: Syntax = Syntax::new(HELP);

type Part = fn() -> Result<(), Problem>;

const PARTS: [(&str, Part); 12] = [
    ("both sides begin alike and diverge", copies::divergence),
    ("a copy makes copies", copies::generations),
    ("variables and the heap are copied", copies::variables),
    ("a copy has the handles of its roles", copies::roles),
    ("inheritance is as asked for", copies::inheritance),
    ("threads go on while copies are made", copies::busy_threads),
    ("a user of a vkernel begins as a copy", users::begins_as_a_copy),
    ("the limit of memory is exact", limits::memory),
    ("the limit of addresses is exact", limits::addresses),
    ("nobody gives more than he has", limits::authority),
    ("a copy above a limit leaves nothing", limits::copies),
    ("objects of many terabytes", limits::sparse_objects),
];

/// What went wrong.
pub enum Problem {
    /// The kernel refused something.
    Refused(&'static str, Errno),
    /// An answer is wrong.
    Wrong(String),
}

impl core::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Problem::Refused(what, errno) => write!(formatter, "{what}: {errno}"),
            Problem::Wrong(what) => formatter.write_str(what),
        }
    }
}

/// Names what was being done when the kernel refused it.
pub fn doing(what: &'static str) -> impl Fn(Errno) -> Problem {
    move |errno| Problem::Refused(what, errno)
}

/// Fails with a text unless the condition holds.
pub fn demand(condition: bool, problem: &str) -> Result<(), Problem> {
    if condition {
        Ok(())
    } else {
        Err(Problem::Wrong(String::from(problem)))
    }
}

fn main(arguments: Arguments) -> ExitCode {
    if let Err(status) = SYNTAX.parse(&arguments) {
        return status;
    }
    let mut checks = Checks::default();
    for (name, part) in PARTS {
        // The first time makes what stays: heap, stacks to be used again, caches of the kernel.
        let mut outcome = part();
        let before = Ledger::now();
        outcome = outcome.and_then(|()| part());
        let left = outcome.and_then(|()| before.settle().map_err(Problem::Wrong));
        match left {
            Ok(()) => checks.report(name, true, format_args!("")),
            Err(problem) => checks.report(name, false, format_args!("{problem}")),
        }
    }
    checks.finish()
}

/// A page that copies share: words by number.
pub struct Board(Mapping);

impl Board {
    /// All zero.
    pub fn new() -> Result<Arc<Self>, Problem> {
        let object = syscall::object_create(PAGE_SIZE).map_err(doing("making an object"))?;
        Mapping::of_object(object.get(), 0, PAGE_SIZE, Protection::READ | Protection::WRITE)
            .map(|mapping| Arc::new(Board(mapping)))
            .map_err(doing("mapping an object"))
    }

    /// Where it is mapped.
    pub fn address(&self) -> u64 {
        self.0.address()
    }

    fn word(&self, number: u64) -> Option<&AtomicU64> {
        self.0.word(8 * number).ok()
    }

    /// Reads a word.
    pub fn get(&self, number: u64) -> u64 {
        self.word(number).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    /// Writes a word.
    pub fn set(&self, number: u64, value: u64) {
        if let Some(word) = self.word(number) {
            word.store(value, Ordering::SeqCst);
        }
    }

    /// Waits until the other side sets a word.
    pub fn wait_for(&self, number: u64, value: u64) {
        while self.get(number) != value {
            dragonet_rt::thread::yield_now();
        }
    }
}

/// A copy of this program that does something.
pub fn copy(function: impl FnOnce() -> ExitCode + Send + 'static) -> Result<Child, Problem> {
    fork("fork-basic-copy", function).map_err(doing("making a copy"))
}

/// Waits for the end of a copy, which must be one with status 0.
pub fn finish(child: &Child) -> Result<(), Problem> {
    let ending = end_of(child)?;
    if ending.is_success() {
        Ok(())
    } else {
        Err(Problem::Wrong(alloc::format!("a copy ended with: {ending}")))
    }
}

/// Waits for the end of a copy.
pub fn end_of(child: &Child) -> Result<Ending, Problem> {
    child.wait().map_err(doing("waiting for a copy"))
}

/// What a copy ends with.
pub fn verdict(outcome: Result<(), Problem>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            dragonet_rt::eprintln!("fork-basic: in a copy: {problem}");
            ExitCode::FAILURE
        }
    }
}
