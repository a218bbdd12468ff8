//! `cargo xtask run`: builds, boots, and passes the machine's verdict on as the exit status.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::build;
use crate::machine::{Emulator, MachineOptions};
use crate::payload::Extras;
use crate::session::{self, Operator};
use crate::setup::{self, Consent};

/// Options of `run`.
#[derive(Clone, Debug, clap::Args)]
pub struct RunOptions {
    #[command(flatten)]
    machine: MachineOptions,
    /// Commands for the shell, separated by `;`; then the machine powers off. xtask's exit status is that of the last
    /// command, 101 after a panic, 124 when time runs out, 125 when the emulator dies
    #[arg(long, value_name = "CMD; CMD")]
    exec: Option<String>,
    /// Seconds until the machine counts as hanging [default with --exec: QEMU 120, Bochs 300; otherwise: none]
    #[arg(long, value_name = "S")]
    timeout: Option<u64>,
    /// Also write the serial output to this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// More words for the kernel's command line, such as log=debug or test=all
    #[arg(long, value_name = "WORDS", default_value = "")]
    append: String,
    /// Build with all optimizations and without debug assertions
    #[arg(long)]
    release: bool,
}

/// Time limit of a run with commands.
pub fn default_limit(emulator: Emulator) -> Duration {
    Duration::from_secs(match emulator {
        Emulator::Qemu => 120,
        Emulator::Bochs => 300,
    })
}

/// `cargo xtask run`; returns xtask's exit status.
pub fn command(options: &RunOptions) -> Result<u8> {
    let machine = options.machine.resolve()?;
    let consent = Consent::of(false);
    setup::needs(&machine.needs(), consent)?;
    let built = build::everything(&setup::kernel_toolchain(consent)?, options.release)?;
    let extras = Extras {
        exec: options.exec.clone(),
        append: options.append.clone(),
        ..Extras::default()
    };
    let limit = options.timeout.map(Duration::from_secs);
    // The in-kernel tests leave by themselves, like commands.
    let leaves = options.exec.is_some()
        || options
            .append
            .split_whitespace()
            .any(|word| word.starts_with("test="));
    let (operator, limit) = if leaves {
        (
            Operator::Nobody,
            Some(limit.unwrap_or_else(|| default_limit(machine.emulator))),
        )
    } else {
        eprintln!("Ctrl-A X leaves.");
        (Operator::Terminal, limit)
    };
    let mut sinks = Sinks(vec![Box::new(std::io::stdout())]);
    if let Some(log) = &options.log {
        sinks.0.push(Box::new(create(log)?));
    }
    let outcome = session::run(&machine, &built, &extras, limit, operator, Box::new(sinks))?;
    eprint!("{}", outcome.report);
    Ok(outcome.end.code())
}

fn create(log: &Path) -> Result<File> {
    File::create(log).with_context(|| {
        format!(
            "could not write {}\n  what to do: choose another file for --log",
            log.display()
        )
    })
}

/// Several places for the same output. One that fails does not keep the others from theirs.
struct Sinks(Vec<Box<dyn Write + Send>>);

impl Write for Sinks {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for sink in &mut self.0 {
            let _ = sink.write_all(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        for sink in &mut self.0 {
            let _ = sink.flush();
        }
        Ok(())
    }
}
