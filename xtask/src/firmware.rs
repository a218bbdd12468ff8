//! Where distributions put the firmware that the emulators need.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// UEFI code for QEMU's first flash chip.
pub const UEFI_CODE: &[&str] = &[
    "/usr/share/OVMF/OVMF_CODE_4M.fd",
    "/usr/share/OVMF/OVMF_CODE.fd",
    "/usr/share/edk2/ovmf/OVMF_CODE.fd",
    "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
    "/usr/share/qemu/edk2-x86_64-code.fd",
];
/// Empty UEFI variables for the second flash chip; the pair of [`UEFI_CODE`], entry by entry.
const UEFI_VARIABLES: &[&str] = &[
    "/usr/share/OVMF/OVMF_VARS_4M.fd",
    "/usr/share/OVMF/OVMF_VARS.fd",
    "/usr/share/edk2/ovmf/OVMF_VARS.fd",
    "/usr/share/edk2/x64/OVMF_VARS.4m.fd",
    "/usr/share/qemu/edk2-i386-vars.fd",
];
/// Bochs' BIOS.
pub const BOCHS_BIOS: &[&str] = &["/usr/share/bochs/BIOS-bochs-latest"];
/// A VGA BIOS for Bochs.
pub const VGA_BIOS: &[&str] = &[
    "/usr/share/bochs/VGABIOS-lgpl-latest",
    "/usr/share/bochs/VGABIOS-lgpl-latest.bin",
    "/usr/share/vgabios/vgabios.bin",
];

/// UEFI code and variables that belong together.
pub fn uefi() -> Result<(PathBuf, PathBuf)> {
    let mut pairs = UEFI_CODE
        .iter()
        .zip(UEFI_VARIABLES)
        .map(|(code, variables)| (Path::new(code), Path::new(variables)));
    let found = pairs.find(|(code, variables)| code.is_file() && variables.is_file());
    let (code, variables) = found.context(
        "there is no UEFI firmware for QEMU\n  what to do: `cargo xtask setup`, or install the package ovmf",
    )?;
    Ok((code.to_owned(), variables.to_owned()))
}

/// The first of `files` that exists.
pub fn first(files: &[&str], package: &str) -> Result<PathBuf> {
    let found = files.iter().map(Path::new).find(|file| file.is_file());
    found.map(Path::to_owned).with_context(|| {
        format!(
            "none of {} exists\n  what to do: `cargo xtask setup`, or install the package {package}",
            files.join(", ")
        )
    })
}
