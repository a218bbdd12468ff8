//! Builds, runs and tests Dragonet: `cargo xtask --help` is the documentation.
//!
//! From the outside in: `main` has the command line; `run`, `gdb`, `image`, `bench` and `test` are the commands; `session` is
//! one run of a machine; `machine`, `payload`, `qemu`, `bochs` and `firmware` describe it; `wire`, `terminal`,
//! `console` and `diagnose` listen to it; `build`, `stage` and `elf` make what it runs; `setup` and `toolchain` find or install
//! what all of this needs; `process` starts every other program and sees to it that none outlives xtask.
//! Nothing else in the workspace may depend on this crate.

#![forbid(unsafe_code)]

mod bench;
mod bochs;
mod build;
mod console;
mod diagnose;
mod docs;
mod elf;
mod firmware;
mod gdb;
mod image;
mod machine;
mod payload;
mod process;
mod progress;
mod qemu;
mod run;
mod session;
mod setup;
mod stage;
mod terminal;
mod test;
mod toolchain;
mod wire;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::setup::Consent;

/// Builds, runs and tests the Dragonet microkernel and its virtual kernels.
///
/// Every command first sees to it that what it needs is installed: on a terminal it asks, with CI=true (or as root
/// without a terminal) it does not.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find or install the kernel toolchain, the emulators and the tools that make boot media
    ///
    /// The toolchain that builds for bare metal is, in this order: an installed one that has the target
    /// x86_64-unknown-none (or can build its library); `rustup target add`; Debian's packages rustc-web, cargo-web,
    /// rust-web-src, rustfmt-web, rust-web-clippy and lld. QEMU is a package too; Bochs is built from Debian's source of
    /// it, into target/tools, and where that cannot be done the packaged one serves all runs without --quantum.
    Setup {
        /// Install without asking (CI=true means the same)
        #[arg(long)]
        yes: bool,
    },
    /// Build the kernel, the boot stage, the native programs, the vkernel and its Linux programs
    Build {
        /// Build with all optimizations and without debug assertions
        #[arg(long)]
        release: bool,
    },
    /// Make a bootable image: BIOS and UEFI, CD and USB stick
    ///
    /// The loader is Limine if a binary release of it is found in the folder LIMINE_DIR, in /usr/share/limine or in
    /// /usr/local/share/limine; otherwise it is GRUB with our own boot stage. Write the image to a stick with
    /// `dd if=dragonet.iso of=/dev/sdX bs=4M conv=fsync`.
    Image {
        /// The image
        #[arg(long, value_name = "FILE", default_value = "dragonet.iso")]
        out: PathBuf,
        /// More words for the kernel's command line
        #[arg(long, value_name = "WORDS", default_value = "")]
        append: String,
        /// Build without all optimizations and with debug assertions
        #[arg(long)]
        debug: bool,
    },
    /// Boot the system in an emulator
    ///
    /// Without --exec the serial console is on the terminal, and Ctrl-A X leaves. With --exec the shell runs the
    /// commands and the machine powers off.
    Run(run::RunOptions),
    /// Run the host tests, the lints and the scenarios; the last line is `N passed, N failed`
    Test(test::TestOptions),
    /// Measure what operations cost, in instructions and events, and compare with the budgets in tests/budgets
    ///
    /// A row whose instructions have grown by more than 2 %, or any of whose events has grown at all, is over budget, and
    /// the exit status is 1. Instructions are judged only for the compiler that the budgets were measured with.
    Bench(bench::BenchOptions),
    /// Boot the system in QEMU under gdb, stopped before the first instruction, with the kernel's symbols
    ///
    /// Before the kernel is loaded only hardware breakpoints hold: `hbreak dragonet_kernel::kernel_main`, then
    /// `continue`.
    Gdb(gdb::GdbOptions),
    /// Put the book together: its chapters and the reference made from the interface crate
    Docs,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match process::end_children_on_signals().and_then(|()| dispatch(arguments.command)) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<u8> {
    match command {
        Command::Setup { yes } => setup::command(yes).map(|()| 0),
        Command::Build { release } => {
            let built = build::everything(&setup::kernel_toolchain(Consent::of(false))?, release)?;
            println!("kernel with symbols: {}", built.kernel.display());
            println!(
                "boot modules: {}",
                built.staged.root.parent().unwrap_or(&built.staged.root).display()
            );
            Ok(0)
        }
        Command::Image { out, append, debug } => image::command(&out, &append, !debug).map(|()| 0),
        Command::Run(options) => run::command(&options),
        Command::Test(options) => test::command(&options),
        Command::Bench(options) => bench::command(&options),
        Command::Gdb(options) => gdb::command(&options),
        Command::Docs => docs::command().map(|()| 0),
    }
}
