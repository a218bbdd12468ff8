//! `cargo xtask image`: one hybrid image that boots with BIOS and with UEFI, from a CD and from a USB stick.
//!
//! With the official Limine, if its files are found (`LIMINE_DIR`, or where distributions put them), the kernel is
//! loaded by it and configured by `boot/limine.conf`. Otherwise GRUB loads our own boot stage, which enters the
//! kernel by the same protocol.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::build;
use crate::payload::Payload;
use crate::process::{self, Scratch};
use crate::setup::{self, Consent, Need};
use crate::workspace;

/// The files of Limine that an image needs.
const LIMINE_FILES: [&str; 4] = [
    "limine-bios.sys",
    "limine-bios-cd.bin",
    "limine-uefi-cd.bin",
    "BOOTX64.EFI",
];

/// The loader on an image.
#[derive(Debug, PartialEq, Eq)]
pub enum Loader {
    /// Limine, from this folder.
    Limine(PathBuf),
    /// GRUB and our own boot stage.
    Grub,
}

impl Loader {
    /// Limine where it is found, else GRUB.
    pub fn find() -> Self {
        let chosen = std::env::var_os("LIMINE_DIR").map(PathBuf::from);
        let usual = ["/usr/share/limine", "/usr/local/share/limine"].map(PathBuf::from);
        let found = chosen.into_iter().chain(usual).find(|folder| {
            LIMINE_FILES.iter().all(|file| folder.join(file).is_file()) && installer(folder).is_some()
        });
        found.map_or(Self::Grub, Self::Limine)
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Limine(_) => "Limine",
            Self::Grub => "GRUB and our own boot stage",
        }
    }
}

/// Limine's own program, which makes an image bootable with BIOS from a stick.
fn installer(folder: &Path) -> Option<PathBuf> {
    let beside = folder.join("limine");
    if beside.is_file() {
        Some(beside)
    } else {
        process::find_program("limine")
    }
}

/// `cargo xtask image`: builds, and makes an image for real machines: interactive, and powered off by ACPI.
pub fn command(out: &Path, append: &str, release: bool) -> Result<()> {
    let consent = Consent::of(false);
    let loader = Loader::find();
    if loader == Loader::Grub {
        setup::needs(&[Need::BootMedia], consent)?;
    }
    let built = build::everything(&setup::kernel_toolchain(consent)?, release)?;
    let payload = Payload::interactive(&built.staged, append);
    create(&payload, &loader, out)?;
    println!("{}: loaded by {}", out.display(), loader.name());
    Ok(())
}

/// Makes the image `out` that boots `payload`.
pub fn create(payload: &Payload, loader: &Loader, out: &Path) -> Result<()> {
    let scratch = Scratch::new()?;
    let tree = scratch.path().join("image");
    let boot = tree.join("boot");
    std::fs::create_dir_all(&boot)?;
    for module in &payload.modules {
        copy(&module.file, &boot.join(&module.name))?;
    }
    match loader {
        Loader::Limine(folder) => limine(payload, folder, &tree, out),
        Loader::Grub => grub(payload, &tree, out),
    }
}

fn grub(payload: &Payload, tree: &Path, out: &Path) -> Result<()> {
    copy(&payload.boot, &tree.join("boot/dragonet-boot"))?;
    std::fs::create_dir_all(tree.join("boot/grub"))?;
    let configuration = tree.join("boot/grub/grub.cfg");
    std::fs::write(&configuration, grub_configuration(payload))
        .with_context(|| format!("could not write {}", configuration.display()))?;
    let mut command = process::command("grub-mkrescue");
    command
        .arg("-o")
        .arg(out)
        .arg(tree)
        .args(["--", "-volid", "DRAGONET"]);
    let advice = "see whether the packages grub-pc-bin grub-efi-amd64-bin xorriso mtools are installed: `cargo xtask setup`";
    process::capture(&mut command, "make the bootable image", advice, |_| {}).map(drop)
}

/// GRUB's messages go to the screen and to the serial port, so that its errors are seen everywhere.
fn grub_configuration(payload: &Payload) -> String {
    // The module's string is what Limine gives too: its path, and its name as the last word.
    let modules: String = payload
        .modules
        .iter()
        .map(|module| {
            format!(
                "    module2 /boot/{name} /boot/{name} {name}\n",
                name = quoted(&module.name)
            )
        })
        .collect();
    let words: Vec<String> = payload.command_line.split_whitespace().map(quoted).collect();
    // The stage's header asks for a graphics mode, which `multiboot2` makes the value of this variable; so it has to be
    // changed behind it.
    let screen = if payload.text_screen {
        "    set gfxpayload=text\n"
    } else {
        ""
    };
    format!(
        "set timeout=0\n\
         set default=0\n\
         insmod all_video\n\
         if serial --unit=0 --speed=115200; then\n\
         \x20   terminal_output console serial\n\
         fi\n\
         menuentry Dragonet {{\n\
         \x20   multiboot2 /boot/dragonet-boot {}\n{screen}{modules}}}\n",
        words.join(" ")
    )
}

/// A word for GRUB's shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn limine(payload: &Payload, folder: &Path, tree: &Path, out: &Path) -> Result<()> {
    let template = workspace::root().join("boot/limine.conf");
    let template = std::fs::read_to_string(&template)
        .with_context(|| format!("could not read {}", template.display()))?;
    let target = tree.join("boot/limine");
    std::fs::create_dir_all(&target)?;
    std::fs::create_dir_all(tree.join("EFI/BOOT"))?;
    std::fs::write(
        target.join("limine.conf"),
        limine_configuration(&template, payload),
    )?;
    for file in LIMINE_FILES.iter().filter(|file| file.starts_with("limine-")) {
        copy(&folder.join(file), &target.join(file))?;
    }
    copy(&folder.join("BOOTX64.EFI"), &tree.join("EFI/BOOT/BOOTX64.EFI"))?;
    let mut command = process::command("xorriso");
    command.args(["-as", "mkisofs", "-R", "-r", "-J", "-V", "DRAGONET"]);
    command.args([
        "-b",
        "boot/limine/limine-bios-cd.bin",
        "-no-emul-boot",
        "-boot-load-size",
        "4",
        "-boot-info-table",
    ]);
    command.args([
        "-hfsplus",
        "-apm-block-size",
        "2048",
        "--efi-boot",
        "boot/limine/limine-uefi-cd.bin",
    ]);
    command.args(["-efi-boot-part", "--efi-boot-image", "--protective-msdos-label"]);
    command.arg(tree).arg("-o").arg(out);
    process::capture(
        &mut command,
        "make the bootable image",
        "see whether xorriso is installed: `cargo xtask setup`",
        |_| {},
    )?;
    let installer = installer(folder).context("Limine's program is gone")?;
    let advice = "see whether LIMINE_DIR holds a complete binary release of Limine";
    let mut command = process::command(installer);
    process::capture(
        command.arg("bios-install").arg(out),
        "make the image bootable with BIOS",
        advice,
        |_| {},
    )
    .map(drop)
}

/// `boot/limine.conf` with this payload's command line, without the modules that are left out, with those it lacks.
fn limine_configuration(template: &str, payload: &Payload) -> String {
    let name_of = |line: &str| {
        line.trim()
            .strip_prefix("module_path:")
            .and_then(|path| path.rsplit('/').next().map(str::to_owned))
    };
    let given = |name: &str| payload.modules.iter().any(|module| module.name == name);
    let mut lines: Vec<String> = Vec::new();
    let mut listed = vec!["kernel".to_owned()];
    let mut skipping = false;
    for line in template.lines() {
        let word = line.trim();
        if let Some(name) = name_of(line) {
            skipping = !given(&name);
            listed.push(name);
        } else if !(word.starts_with("module_cmdline:") || word.starts_with("module_string:")) {
            skipping = false;
        }
        if !skipping && !word.starts_with("cmdline:") && !word.starts_with("kernel_cmdline:") {
            lines.push(line.to_owned());
        }
    }
    lines.push(format!("    cmdline: {}", payload.command_line));
    for module in payload
        .modules
        .iter()
        .filter(|module| !listed.contains(&module.name))
    {
        lines.push(format!("    module_path: boot():/boot/{}", module.name));
        lines.push(format!("    module_cmdline: {}", module.name));
    }
    lines.join("\n") + "\n"
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("could not copy {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Module;

    fn payload(names: &[&str], command_line: &str) -> Payload {
        let module = |name: &&str| Module {
            file: format!("/s/{name}").into(),
            name: (*name).to_owned(),
        };
        Payload {
            boot: "/s/boot".into(),
            modules: names.iter().map(module).collect(),
            command_line: command_line.to_owned(),
            text_screen: false,
        }
    }

    #[test]
    fn grub_gets_every_module_by_name_and_words_quoted() {
        let text = grub_configuration(&payload(&["kernel", "init", "exec"], "exit=bochs test=a|b"));
        assert!(
            text.contains("multiboot2 /boot/dragonet-boot exit=bochs 'test=a|b'\n"),
            "{text}"
        );
        assert!(
            text.contains(
                "    module2 /boot/kernel /boot/kernel kernel\n    module2 /boot/init /boot/init init\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn limine_gets_the_command_line_and_the_modules_that_are_given() {
        let template = "timeout: 0\n/Dragonet\n    protocol: limine\n    path: boot():/boot/kernel\n    cmdline: old\n    \
                        module_path: boot():/boot/init\n    module_cmdline: init\n    module_path: boot():/boot/root.tar\n    module_cmdline: root.tar\n";
        let text = limine_configuration(template, &payload(&["kernel", "init", "exec"], "exit=bochs"));
        assert!(
            text.contains("    cmdline: exit=bochs\n") && !text.contains("old"),
            "{text}"
        );
        assert!(text.contains("/boot/init\n    module_cmdline: init\n"), "{text}");
        assert!(!text.contains("root.tar"), "{text}");
        assert!(
            text.ends_with("    module_path: boot():/boot/exec\n    module_cmdline: exec\n"),
            "{text}"
        );
    }
}
