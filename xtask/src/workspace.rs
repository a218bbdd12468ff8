//! Where things are: the sources, and the folders under `target/` that xtask writes to.
//!
//! Each toolchain has a target folder of its own, so that builds with different flags neither wait for each other's
//! lock nor throw away each other's work.

use std::path::{Path, PathBuf};

/// The top of the source tree.
pub fn root() -> PathBuf {
    // Cargo says it when it runs xtask, even if the sources have been moved since it was built.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let here = Path::new(&here);
    here.parent().unwrap_or(here).to_owned()
}

/// The folder of everything that is built: `CARGO_TARGET_DIR`, else `target/`.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) if !folder.is_empty() => std::path::absolute(&folder).unwrap_or_else(|_| folder.into()),
        _ => root().join("target"),
    }
}

/// What the kernel toolchain builds: kernel, boot stage, native programs, vkernel.
pub fn kernel_target() -> PathBuf {
    target().join("kernel")
}

/// The Linux programs.
pub fn linux_target() -> PathBuf {
    target().join("linux")
}

/// What goes into the machine: stripped files and archives.
pub fn stage() -> PathBuf {
    target().join("stage")
}

/// Logs of runs and scenarios.
pub fn logs() -> PathBuf {
    target().join("logs")
}
