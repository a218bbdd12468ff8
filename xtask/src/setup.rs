//! `cargo xtask setup`, and what the other commands call so that nobody has to: finds or installs the kernel
//! toolchain, the emulators and the tools that make boot media.
//!
//! Only what a command needs is looked for, so a machine that never runs Bochs never gets it. Packages come from
//! Debian's (or a relative's) package manager; elsewhere the error names what to install by hand.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::bochs;
use crate::process;
use crate::progress::Progress;
use crate::toolchain::{self, BARE_METAL, KernelToolchain};

/// Something a command needs on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// QEMU for x86-64.
    Qemu,
    /// QEMU's window, for `--gui`.
    QemuWindow,
    /// UEFI firmware for QEMU.
    UefiFirmware,
    /// Bochs: ours, or the installed one where ours cannot be built.
    Bochs,
    /// Bochs with turns of a given length: ours.
    BochsTurns,
    /// The packaged Bochs with its display without a window.
    PackagedBochs,
    /// What builds Bochs from its source.
    Compiler,
    /// The tools that make a bootable image with GRUB.
    BootMedia,
    /// gdb.
    Debugger,
}

impl Need {
    /// Everything that a full test needs.
    pub const ALL: [Self; 4] = [Self::Qemu, Self::UefiFirmware, Self::BochsTurns, Self::BootMedia];

    /// Programs (on the PATH) and files (of which the first that exists will do) with the package that has them.
    fn parts(self) -> &'static [(Part, &'static str)] {
        use Part::{AnyFile, Program};
        match self {
            Self::Qemu => &[(Program("qemu-system-x86_64"), "qemu-system-x86")],
            Self::QemuWindow => &[(
                AnyFile(&[
                    "/usr/lib/x86_64-linux-gnu/qemu/ui-gtk.so",
                    "/usr/lib/qemu/ui-gtk.so",
                ]),
                "qemu-system-gui",
            )],
            Self::UefiFirmware => &[(AnyFile(crate::firmware::UEFI_CODE), "ovmf")],
            Self::Bochs | Self::BochsTurns => &[
                (AnyFile(crate::firmware::BOCHS_BIOS), "bochsbios"),
                (AnyFile(crate::firmware::VGA_BIOS), "vgabios"),
            ],
            Self::PackagedBochs => &[
                (Program(bochs::INSTALLED), "bochs"),
                (
                    AnyFile(&["/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so"]),
                    "bochs-term",
                ),
            ],
            Self::Compiler => &[
                (Program("g++"), "g++"),
                (Program("make"), "make"),
                (Program("patch"), "patch"),
                (Program("xz"), "xz-utils"),
            ],
            Self::BootMedia => &[
                (Program("grub-mkrescue"), "grub-common"),
                (AnyFile(&["/usr/lib/grub/i386-pc/modinfo.sh"]), "grub-pc-bin"),
                (
                    AnyFile(&["/usr/lib/grub/x86_64-efi/modinfo.sh"]),
                    "grub-efi-amd64-bin",
                ),
                (Program("xorriso"), "xorriso"),
                (Program("mformat"), "mtools"),
            ],
            Self::Debugger => &[(Program("gdb"), "gdb")],
        }
    }
}

enum Part {
    Program(&'static str),
    AnyFile(&'static [&'static str]),
}

impl Part {
    fn is_there(&self) -> bool {
        match self {
            Self::Program(name) => process::find_program(name).is_some(),
            Self::AnyFile(files) => files.iter().any(|file| Path::new(file).is_file()),
        }
    }
}

/// May packages be installed?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Yes: `--yes`, `CI=true`, or root without a terminal.
    Given,
    /// Ask on the terminal.
    Ask,
    /// Nobody can be asked.
    Refused,
}

impl Consent {
    /// What holds for this call.
    pub fn of(yes: bool) -> Self {
        let ci = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
        let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        Self::decide(yes || ci, terminal, rustix::process::geteuid().is_root())
    }

    fn decide(yes: bool, terminal: bool, root: bool) -> Self {
        match (yes, terminal, root) {
            (true, _, _) | (_, false, true) => Self::Given,
            (_, true, _) => Self::Ask,
            _ => Self::Refused,
        }
    }
}

/// `cargo xtask setup`: everything, and says what it found.
pub fn command(yes: bool) -> Result<()> {
    let consent = Consent::of(yes);
    let toolchain = kernel_toolchain(consent)?;
    println!("kernel toolchain: {}", toolchain.describe());
    needs(&Need::ALL, consent)?;
    println!("emulators and boot media tools: installed");
    if let Some(program) = bochs::source::built() {
        println!("Bochs: {}", program.display());
    }
    Ok(())
}

/// Sees to it that everything in `needs` is installed, or built.
pub fn needs(needs: &[Need], consent: Consent) -> Result<()> {
    packages(needs, "the emulators and the tools that make boot media", consent)?;
    let turns = needs.contains(&Need::BochsTurns);
    if (turns || needs.contains(&Need::Bochs)) && bochs::source::built().is_none() {
        let built = packages(&[Need::Compiler], "what builds Bochs from its source", consent)
            .and_then(|()| bochs::source::build());
        match built {
            Ok(()) => {}
            Err(why) if turns => {
                return Err(why.context(
                    "there is no Bochs whose CPUs' turns can be chosen (--quantum, and scenarios that set it)",
                ));
            }
            Err(why) => {
                eprintln!("no Bochs of our own, so the packaged one must do: {why:#}");
                let what = "the packaged Bochs";
                packages(&[Need::PackagedBochs], what, consent)?;
            }
        }
    }
    Ok(())
}

/// Sees to it that the packages of `needs` are installed.
fn packages(needs: &[Need], what: &str, consent: Consent) -> Result<()> {
    let packages = missing(needs);
    if !packages.is_empty() {
        install(&packages, what, consent)?;
        let still = missing(needs);
        if !still.is_empty() {
            bail!(
                "after the installation of {} these still seem to be missing: {}\n  what to do: see whether the packages of \
                 this distribution put their files elsewhere",
                packages.join(" "),
                still.join(" ")
            );
        }
    }
    Ok(())
}

fn missing(needs: &[Need]) -> Vec<&'static str> {
    let parts = needs.iter().flat_map(|need| need.parts());
    let mut packages: Vec<_> = parts
        .filter(|(part, _)| !part.is_there())
        .map(|&(_, package)| package)
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Finds the kernel toolchain, or installs it.
pub fn kernel_toolchain(consent: Consent) -> Result<KernelToolchain> {
    toolchain::check_default_version()?;
    if let Some(toolchain) = KernelToolchain::find() {
        return Ok(toolchain);
    }
    let from_rustup = add_target();
    if let Some(toolchain) = KernelToolchain::find() {
        return Ok(toolchain);
    }
    let packages = [
        "rustc-web",
        "cargo-web",
        "rust-web-src",
        "rustfmt-web",
        "rust-web-clippy",
        "lld",
    ];
    install(
        &packages,
        "a Rust toolchain that can build for bare metal",
        consent,
    )
    .with_context(|| {
        format!("there is no toolchain for {BARE_METAL}, and rustup could not get it: {from_rustup}")
    })?;
    KernelToolchain::find().with_context(|| {
        format!(
            "the packages {} are installed and still no toolchain can build for {BARE_METAL}\n  what to do: \
             `rustup target add {BARE_METAL}` on a machine with a network",
            packages.join(" ")
        )
    })
}

/// `rustup target add`; returns why it did not help, for the case that nothing else does either.
fn add_target() -> String {
    if process::find_program("rustup").is_none() {
        return "there is no rustup".to_owned();
    }
    let progress = Progress::spinner(&format!("rustup target add {BARE_METAL}"));
    let mut command = process::command("rustup");
    let limit = Some(Duration::from_secs(120));
    match process::observe(command.args(["target", "add", BARE_METAL]), limit, |line| {
        progress.now(line)
    }) {
        Ok(captured) => captured.output.trim().replace('\n', "; "),
        Err(error) => format!("{error:#}"),
    }
}

/// Installs Debian packages, with consent.
fn install(packages: &[&str], what: &str, consent: Consent) -> Result<()> {
    let list = packages.join(" ");
    if process::find_program("apt-get").is_none() {
        bail!(
            "missing: {what}; and this system has no apt-get\n  what to do: install by hand what Debian has in the packages {list}"
        );
    }
    let root = rustix::process::geteuid().is_root();
    if !root && process::find_program("sudo").is_none() {
        bail!("missing: {what}\n  what to do: as root, `apt-get install {list}`");
    }
    match consent {
        Consent::Given => {}
        Consent::Ask => ask(packages, what)?,
        Consent::Refused => bail!(
            "missing: {what}; and there is no terminal to ask whether to install {list}\n  what to do: `cargo xtask setup --yes`, \
             or as root `apt-get install {list}`"
        ),
    }
    if !root {
        // sudo may ask for the password: before a progress bar is drawn over its question.
        let mut command = process::command("sudo");
        let status = process::Running::start(command.arg("-v"), false)?.wait(None)?;
        if !status.is_some_and(|status| status.success()) {
            bail!("sudo refused\n  what to do: as root, `apt-get install {list}`");
        }
    }
    let update = apt(root, &["update"]);
    let progress = Progress::spinner("apt-get update");
    let advice = "see whether this machine reaches the package mirrors in /etc/apt/sources.list";
    run_apt(
        update,
        "bring the list of Debian's packages up to date",
        advice,
        &progress,
    )?;
    progress.done();
    let mut words = vec!["install", "--yes", "--no-install-recommends"];
    words.extend(packages);
    let progress = Progress::spinner(&format!("apt-get install {list}"));
    let advice = "install these packages by hand, then run the same command again";
    run_apt(apt(root, &words), &format!("install {what}"), advice, &progress)?;
    progress.done();
    Ok(())
}

fn run_apt(mut command: std::process::Command, what: &str, advice: &str, progress: &Progress) -> Result<()> {
    process::capture(&mut command, what, advice, |line| progress.now(line)).map(drop)
}

fn apt(root: bool, words: &[&str]) -> std::process::Command {
    let mut command = if root {
        process::command("env")
    } else {
        let mut command = process::command("sudo");
        command.args(["-n", "env"]);
        command
    };
    command
        .args([
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "-o",
            "DPkg::Lock::Timeout=300",
        ])
        .args(words);
    command
}

fn ask(packages: &[&str], what: &str) -> Result<()> {
    eprint!(
        "Missing: {what}. Install {} with apt-get? [Y/n] ",
        packages.join(" ")
    );
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .context("could not read the answer")?;
    match answer.trim().to_lowercase().as_str() {
        "" | "y" | "yes" => Ok(()),
        _ => bail!(
            "not installed, as answered\n  what to do: install {} in another way",
            packages.join(" ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_is_asked_and_only_root_goes_on_without_one() {
        assert_eq!(Consent::decide(true, false, false), Consent::Given);
        assert_eq!(Consent::decide(false, true, false), Consent::Ask);
        assert_eq!(Consent::decide(false, true, true), Consent::Ask);
        assert_eq!(Consent::decide(false, false, true), Consent::Given);
        assert_eq!(Consent::decide(false, false, false), Consent::Refused);
    }

    #[test]
    fn a_file_that_exists_in_any_of_its_places_is_there() {
        assert!(Part::AnyFile(&["/nowhere/at/all", "/proc/self/status"]).is_there());
        assert!(!Part::AnyFile(&["/nowhere/at/all"]).is_there());
        assert!(!Part::Program("no-program-has-this-name").is_there());
    }
}
