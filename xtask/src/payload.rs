//! What a machine is given to run: boot modules by name and the kernel's command line.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::machine::{Emulator, Firmware, Machine};
use crate::stage::Staged;

/// A boot module: the file and the name by which the kernel finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The file on the host.
    pub file: PathBuf,
    /// The name.
    pub name: String,
}

/// Everything a boot loader hands to the kernel.
#[derive(Clone, Debug)]
pub struct Payload {
    /// Our own boot stage.
    pub boot: PathBuf,
    /// All modules; the kernel itself is the first, named `kernel`.
    pub modules: Vec<Module>,
    /// The kernel's command line.
    pub command_line: String,
    /// Whether the boot loader must leave the screen in text mode: GRUB crashes in the VGA BIOS of Bochs when it
    /// sets a graphics mode.
    pub text_screen: bool,
}

/// What a user or a scenario adds to a boot.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// Commands for the shell; without, it is interactive.
    pub exec: Option<String>,
    /// More words for the kernel's command line.
    pub append: String,
    /// Names of modules that are not given.
    pub leave_out: Vec<String>,
    /// Boot the kernel that checks the boot protocol; whether it must find a framebuffer.
    pub conformance: Option<bool>,
    /// The kernel makes VM entries that fail, on purpose: Bochs may say so in its log.
    pub failing_entries: bool,
}

impl Payload {
    /// The payload of `staged` for `machine`. The file of the `exec` module is written to `scratch`.
    pub fn new(staged: &Staged, machine: &Machine, extras: &Extras, scratch: &Path) -> Result<Self> {
        let command_line = [machine.exit_door(), extras.append.trim()].join(" ");
        let mut payload = Self::interactive(staged, &command_line);
        payload.text_screen = machine.emulator == Emulator::Bochs;
        if let Some(framebuffer) = extras.conformance {
            payload.replace_kernel(staged, machine, framebuffer)?;
        }
        payload
            .modules
            .retain(|module| !extras.leave_out.contains(&module.name));
        if let Some(script) = &extras.exec {
            let file = scratch.join("exec");
            std::fs::write(&file, script).with_context(|| format!("could not write {}", file.display()))?;
            payload.modules.push(Module {
                file,
                name: "exec".to_owned(),
            });
        }
        Ok(payload)
    }

    /// The payload of `staged` for any machine: no script, and no other way out than ACPI's.
    pub fn interactive(staged: &Staged, command_line: &str) -> Self {
        let files = [
            ("kernel", &staged.kernel),
            ("init", &staged.init),
            ("root.tar", &staged.root),
        ];
        let modules = files.map(|(name, file)| Module {
            file: file.clone(),
            name: name.to_owned(),
        });
        let command_line = command_line.trim().to_owned();
        Self {
            boot: staged.boot.clone(),
            modules: modules.into(),
            command_line,
            text_screen: false,
        }
    }

    /// Puts the checking kernel in the kernel's place and tells it what it must find.
    fn replace_kernel(&mut self, staged: &Staged, machine: &Machine, framebuffer: bool) -> Result<()> {
        let file = staged
            .conformance
            .clone()
            .context("the kernel that checks the boot protocol was not built")?;
        let firmware = match machine.firmware {
            Firmware::Bios => "bios",
            Firmware::Uefi => "uefi",
        };
        let framebuffer = if framebuffer { "yes" } else { "no" };
        let mut words = format!(
            " cpus={} firmware={firmware} framebuffer={framebuffer}",
            machine.smp
        );
        for module in &mut self.modules {
            if module.name == "kernel" {
                module.file = file.clone();
                continue;
            }
            let content = std::fs::read(&module.file)
                .with_context(|| format!("could not read {}", module.file.display()))?;
            words.push_str(&format!(
                " module={}:{}:{:x}",
                module.name,
                content.len(),
                fnv(&content)
            ));
        }
        self.command_line.push_str(&words);
        Ok(())
    }
}

/// The 64-bit FNV-1a hash.
fn fnv(bytes: &[u8]) -> u64 {
    let begin = 0xcbf2_9ce4_8422_2325_u64;
    bytes.iter().fold(begin, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(fnv(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
