//! `cargo xtask gdb`: the machine waits before its first instruction, gdb knows the kernel's symbols.

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::build;
use crate::machine::{Emulator, MachineOptions};
use crate::payload::Extras;
use crate::process::{self, Running};
use crate::qemu::Serial;
use crate::session::Prepared;
use crate::setup::{self, Consent, Need};
use crate::workspace;

/// Options of `gdb`.
#[derive(Clone, Debug, clap::Args)]
pub struct GdbOptions {
    #[command(flatten)]
    machine: MachineOptions,
    /// Connect to a stub that is already there (HOST:PORT) instead of starting a machine
    #[arg(long, value_name = "HOST:PORT")]
    attach: Option<String>,
    /// Commands for the shell
    #[arg(long, value_name = "CMD; CMD")]
    exec: Option<String>,
    /// More words for the kernel's command line
    #[arg(long, value_name = "WORDS", default_value = "")]
    append: String,
    /// Build with all optimizations and without debug assertions
    #[arg(long)]
    release: bool,
    /// Arguments for gdb itself
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// `cargo xtask gdb`; returns gdb's exit status.
pub fn command(options: &GdbOptions) -> Result<u8> {
    let machine = options.machine.resolve()?;
    if machine.emulator != Emulator::Qemu {
        bail!("only QEMU has a stub for gdb\n  what to do: leave out --emulator bochs");
    }
    let consent = Consent::of(false);
    let mut needs = machine.needs();
    needs.push(Need::Debugger);
    setup::needs(&needs, consent)?;
    let built = build::everything(&setup::kernel_toolchain(consent)?, options.release)?;
    let extras = Extras {
        exec: options.exec.clone(),
        append: options.append.clone(),
        ..Extras::default()
    };

    let prepared = Prepared::new(&machine, &built, &extras)?;
    let log = serial_log()?;
    let (address, _machine) = match &options.attach {
        Some(address) => (address.clone(), None),
        None => {
            let port = free_port()?;
            let mut command = prepared.qemu(&machine, Serial::File(log.clone()), Some(port));
            command.stdin(Stdio::null());
            eprintln!("the serial port is written to {}", log.display());
            // In its own group, so that Ctrl-C in gdb stops the machine by the stub and does not end it.
            (
                format!("127.0.0.1:{port}"),
                Some(Running::start(&mut command, true)?),
            )
        }
    };
    let mut gdb = process::command("gdb");
    gdb.arg("-q").arg(&built.kernel);
    gdb.args([
        "-ex",
        "set confirm off",
        "-ex",
        "set tcp connect-timeout 20",
        "-ex",
        &format!("target remote {address}"),
    ]);
    gdb.args(&options.arguments);
    gdb.current_dir(workspace::root());
    // Ctrl-C is gdb's while it runs: the default action would end xtask, and with it the machine.
    process::leave_interrupt_to_children();
    let status = Running::start(&mut gdb, false)?.wait(None)?;
    Ok(status
        .and_then(|status| status.code())
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1))
}

fn serial_log() -> Result<PathBuf> {
    let folder = workspace::logs();
    std::fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    let log = folder.join("gdb.serial");
    File::create(&log).with_context(|| format!("could not write {}", log.display()))?;
    Ok(log)
}

/// A TCP port that nobody listens on just now.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("there is no free TCP port for gdb's stub")?;
    Ok(listener.local_addr()?.port())
}
