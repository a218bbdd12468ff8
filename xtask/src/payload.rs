//! What a machine is given to run: boot modules by name and the kernel's command line.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::machine::Machine;
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
}

impl Payload {
    /// The payload of `staged` for `machine`. The file of the `exec` module is written to `scratch`.
    pub fn new(staged: &Staged, machine: &Machine, extras: &Extras, scratch: &Path) -> Result<Self> {
        let command_line = [machine.exit_door(), extras.append.trim()].join(" ");
        let mut payload = Self::interactive(staged, &command_line);
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
        }
    }
}
