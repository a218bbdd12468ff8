//! `cargo xtask run`: builds, boots, and passes the machine's verdict on as the exit status.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use symbolize::Symbols;

use crate::build::{self, Built};
use crate::console::Console;
use crate::diagnose;
use crate::machine::{Emulator, Machine, MachineOptions};
use crate::payload::Extras;
use crate::process::Running;
use crate::qemu::Serial;
use crate::session::{self, End, Prepared};
use crate::setup::{self, Consent};
use crate::workspace;

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
    if !leaves && machine.emulator == Emulator::Qemu {
        return interactive(&machine, &built, &extras, limit, options.log.as_deref());
    }
    if !leaves && limit.is_none() {
        bail!(
            "an interactive run needs QEMU: Bochs gives no terminal\n  what to do: add --exec \"COMMANDS\", --timeout SECONDS, or leave out --emulator bochs"
        );
    }
    let limit = limit.unwrap_or_else(|| default_limit(machine.emulator));
    let mut sinks = Sinks(vec![Box::new(std::io::stdout())]);
    if let Some(log) = &options.log {
        sinks.0.push(Box::new(create(log)?));
    }
    let outcome = session::run(&machine, &built, &extras, limit, Box::new(sinks))?;
    eprint!("{}", outcome.report);
    Ok(outcome.end.code())
}

/// The machine's serial port and QEMU's monitor on the terminal, until the machine or the user ends it.
fn interactive(
    machine: &Machine,
    built: &Built,
    extras: &Extras,
    limit: Option<Duration>,
    log: Option<&Path>,
) -> Result<u8> {
    let prepared = Prepared::new(machine, built, extras)?;
    let copy = prepared.file("serial");
    File::create(&copy)?;
    eprintln!("Ctrl-A X leaves, Ctrl-A H shows what else there is.");
    let mut command = prepared.qemu(machine, Serial::Terminal(copy.clone()), None);
    command.stdin(Stdio::inherit());
    // In the terminal's foreground group: it reads from the terminal.
    let mut running = Running::start(&mut command, false)?;
    let symbols = Symbols::open(&built.kernel, &workspace::root()).ok();
    let ended = running.wait(limit)?;
    if ended.is_none() {
        eprintln!(
            "\nthe machine still runs after {} s",
            limit.unwrap_or_default().as_secs()
        );
        eprint!(
            "{}",
            diagnose::qemu(&prepared.file("control"), machine.smp, symbols.as_ref())
        );
        running.end();
    }
    let serial = std::fs::read(&copy).unwrap_or_default();
    if let Some(log) = log {
        create(log)?
            .write_all(&serial)
            .with_context(|| format!("could not write {}", log.display()))?;
    }
    let mut console = Console::new(Box::new(std::io::sink()));
    console.feed(&serial);
    console.finish();
    eprint!("{}", session::backtraces(&console, symbols.as_ref()));
    Ok(match (console.status(), ended) {
        (Some(status), _) => status,
        (None, None) => End::Hang.code(),
        // Left by the user.
        (None, Some(status)) if status.success() => 0,
        (None, Some(_)) => End::Died.code(),
    })
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
