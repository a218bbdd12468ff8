//! One run of a machine, from its start to its end, without a terminal: what `run --exec` and the scenarios share.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use symbolize::Symbols;

use crate::bochs;
use crate::build::Built;
use crate::console::Console;
use crate::diagnose;
use crate::firmware;
use crate::image::{self, Loader};
use crate::machine::{Emulator, Firmware, Machine, Medium};
use crate::payload::{Extras, Payload};
use crate::process::{self, Running, Scratch};
use crate::qemu::{self, Launch, Source};
use crate::wire::Wire;
use crate::workspace;

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It reported this status and left.
    Status(u8),
    /// It was still running when its time was up.
    Hang,
    /// The emulator ended without a word of the kernel, or complained about the kernel.
    Died,
    /// The user left it.
    Left,
}

impl End {
    /// The exit status that stands for it: 124 a hang, 125 an emulator that died.
    pub fn code(self) -> u8 {
        match self {
            Self::Status(status) => status,
            Self::Left => 0,
            Self::Hang => 124,
            Self::Died => 125,
        }
    }
}

/// What a run leaves behind.
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Everything the machine wrote to its serial port.
    pub serial: String,
    /// What there is to say beyond that: backtraces, the CPUs' state, the emulator's words. Empty when all is well.
    pub report: String,
}

/// A machine that is prepared: its files are written, its command line is known.
pub struct Prepared {
    /// Holds every file below; they go when this goes.
    scratch: Scratch,
    payload: Payload,
    image: Option<PathBuf>,
    flash: Option<(PathBuf, PathBuf)>,
}

impl Prepared {
    /// Writes what the machine boots from.
    pub fn new(machine: &Machine, built: &Built, extras: &Extras) -> Result<Self> {
        let scratch = Scratch::new()?;
        let payload = Payload::new(&built.staged, machine, extras, scratch.path())?;
        let image = match machine.medium {
            Medium::Direct => None,
            Medium::Cd | Medium::Usb => {
                let image = scratch.path().join("dragonet.iso");
                image::create(&payload, &Loader::find(), &image)?;
                Some(image)
            }
        };
        let flash = match machine.firmware {
            Firmware::Bios => None,
            Firmware::Uefi => {
                let (code, variables) = firmware::uefi()?;
                let copy = scratch.path().join("variables.fd");
                std::fs::copy(&variables, &copy)
                    .with_context(|| format!("could not copy {}", variables.display()))?;
                Some((code, copy))
            }
        };
        Ok(Self {
            scratch,
            payload,
            image,
            flash,
        })
    }

    /// A file of this run.
    pub fn file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// QEMU's command for it.
    pub fn qemu(
        &self,
        machine: &Machine,
        serial: qemu::Serial,
        debugger: Option<u16>,
    ) -> std::process::Command {
        let launch = Launch {
            source: self
                .image
                .as_deref()
                .map_or(Source::Payload(&self.payload), Source::Image),
            serial,
            control: Some(self.file("control")),
            flash: self.flash.clone(),
            debugger,
        };
        let mut command = process::command(qemu::PROGRAM);
        command.args(qemu::arguments(machine, &launch));
        command
    }

    /// Bochs' command for it.
    fn bochs(
        &self,
        program: &bochs::Program,
        machine: &Machine,
        serial: &bochs::Serial,
    ) -> Result<std::process::Command> {
        let image = self.image.as_deref().context("Bochs boots from an image only")?;
        let configuration = bochs::configuration(program, machine, image, serial, &self.file(bochs::LOG))?;
        std::fs::write(self.file("bochsrc"), configuration)?;
        let mut command = process::command(program.path());
        command.arg("-q").arg("-f").arg(self.file("bochsrc"));
        if *program == bochs::Program::Installed {
            std::fs::write(self.file("bochs.start"), bochs::START)?;
            command.arg("-rc").arg(self.file("bochs.start"));
        }
        Ok(command)
    }
}

/// Who is at the machine's serial port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Nobody: the machine does what it was told.
    Nobody,
    /// Whoever is at the terminal.
    Terminal,
}

/// Runs the machine until it ends, `limit` is over or the operator leaves; its serial output goes to `sink` as it
/// comes.
pub fn run(
    machine: &Machine,
    built: &Built,
    extras: &Extras,
    limit: Option<Duration>,
    operator: Operator,
    sink: Box<dyn Write + Send + '_>,
) -> Result<Outcome> {
    let prepared = Prepared::new(machine, built, extras)?;
    let serial = prepared.file("serial");
    let output = prepared.file("output");
    let mut wire = match operator {
        Operator::Nobody => Wire::file(&serial)?,
        Operator::Terminal => Wire::terminal()?,
    };
    let bochs = match machine.emulator {
        Emulator::Qemu => None,
        Emulator::Bochs => Some(bochs::Program::find(machine)?),
    };
    let mut command = match (&bochs, wire.port()) {
        (None, None) => prepared.qemu(machine, qemu::Serial::File(serial), None),
        (None, Some(port)) => prepared.qemu(machine, qemu::Serial::Port(port), None),
        (Some(bochs), None) => prepared.bochs(bochs, machine, &bochs::Serial::File(serial))?,
        (Some(bochs), Some(port)) => prepared.bochs(bochs, machine, &bochs::Serial::Port(port))?,
    };
    let printed = File::create(&output).with_context(|| format!("could not write {}", output.display()))?;
    // The installed Bochs' debugger reads from its standard input; at its end it would leave.
    command.stdin(if machine.emulator == Emulator::Bochs {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    command.stdout(printed.try_clone()?).stderr(printed);
    let text = process::shown(&command);
    let mut running = Running::start(&mut command, true)?;
    let mut console = Console::new(sink);

    let end = follow(&mut running, &mut wire, &mut console, limit)?;
    wire.hang_up();
    let symbols = Symbols::open(&built.kernel, &workspace::root());
    let symbols = symbols.as_ref().ok();
    let mut report = String::new();
    if end == End::Hang {
        let _ = writeln!(
            report,
            "the machine still runs after {} s: a hang",
            limit.unwrap_or_default().as_secs()
        );
        report.push_str(&match bochs {
            None => diagnose::qemu(&prepared.file("control"), machine.smp, symbols),
            Some(bochs::Program::Ours(_)) => {
                diagnose::bochs(&mut running, &prepared.file(bochs::LOG), machine.smp, symbols)
            }
            Some(bochs::Program::Installed) => {
                diagnose::installed_bochs(&mut running, &output, machine.smp, symbols)
            }
        });
    }
    running.end();
    console.feed(&wire.read());
    console.finish();
    report.push_str(&backtraces(&console, symbols));
    let end = judge(end, machine, extras, &prepared, &text, &mut running, &mut report);
    Ok(Outcome {
        end,
        serial: console.text().to_owned(),
        report,
    })
}

/// The backtraces the kernel printed, with names.
pub fn backtraces(console: &Console, symbols: Option<&Symbols>) -> String {
    let mut text = String::new();
    for (addresses, symbols) in console.backtraces().iter().zip(symbols.into_iter().cycle()) {
        let _ = writeln!(text, "backtrace:");
        for line in symbols.backtrace(addresses) {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

/// Waits for the machine's end. An emulator that stays although the kernel said goodbye is given five seconds.
fn follow(
    running: &mut Running,
    wire: &mut Wire,
    console: &mut Console,
    limit: Option<Duration>,
) -> Result<End> {
    let mut deadline = limit.map(|limit| Instant::now() + limit);
    let mut said_goodbye = false;
    loop {
        let gone = running.poll()?.is_some();
        let bytes = wire.read();
        if !bytes.is_empty() {
            console.feed(&bytes);
        }
        if gone {
            console.feed(&wire.read());
            console.finish();
        }
        match console.status() {
            Some(status) if gone => return Ok(End::Status(status)),
            None if gone => return Ok(End::Died),
            Some(_) if !said_goodbye => {
                said_goodbye = true;
                let grace = Instant::now() + Duration::from_secs(5);
                deadline = Some(deadline.map_or(grace, |deadline| deadline.min(grace)));
            }
            _ => {}
        }
        if wire.left() {
            return Ok(End::Left);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(console.status().map_or(End::Hang, End::Status));
        }
    }
}

/// Adds the emulator's own words to the verdict.
fn judge(
    end: End,
    machine: &Machine,
    extras: &Extras,
    prepared: &Prepared,
    ran: &str,
    running: &mut Running,
    report: &mut String,
) -> End {
    let mut end = end;
    let log = std::fs::read(prepared.file(bochs::LOG)).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let complaints = if machine.emulator == Emulator::Bochs {
        bochs::complaints(&log, extras.failing_entries)
    } else {
        Vec::new()
    };
    if !complaints.is_empty() {
        let _ = writeln!(report, "Bochs complains:");
        complaints.iter().take(20).for_each(|line| {
            let _ = writeln!(report, "    {line}");
        });
        end = End::Died;
    }
    if end == End::Died {
        let printed = std::fs::read(prepared.file("output")).unwrap_or_default();
        let printed = String::from_utf8_lossy(&printed);
        let status = running
            .poll()
            .ok()
            .flatten()
            .map_or("unknown".to_owned(), |status| status.to_string());
        let what = "run the machine to its end";
        let advice = "the last lines of the serial output above tell how far it came; a machine that dies without a word has \
                      reset itself or was not started at all";
        let _ = writeln!(
            report,
            "{}",
            process::failure(what, ran, &status, &last_lines(&printed, 30), advice)
        );
    }
    end
}

/// The last `count` lines.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines
        .get(lines.len().saturating_sub(count)..)
        .unwrap_or_default()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_have_their_codes() {
        assert_eq!(
            [End::Status(3), End::Hang, End::Died].map(End::code),
            [3, 124, 125]
        );
    }

    #[test]
    fn the_last_lines_are_the_last() {
        assert_eq!(last_lines("a\nb\nc", 2), "b\nc");
        assert_eq!(last_lines("a", 2), "a");
    }
}

#[cfg(test)]
#[path = "session_test.rs"]
mod machines;
