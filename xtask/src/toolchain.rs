//! The two toolchains: the default one for whatever runs on the host or on Linux, and one that can build for bare
//! metal (`x86_64-unknown-none`).
//!
//! The latter is, in this order: any installed toolchain that has the target's libraries; else Debian's
//! `rustc-web` with the library's source, which builds them (`-Zbuild-std`). See [`crate::setup`] for how they are
//! installed. The variables that an outer `cargo xtask` exports are removed from every call, so that one toolchain
//! never gets the other's compiler or libraries.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::process;
use crate::workspace;

/// The bare-metal target.
pub const BARE_METAL: &str = "x86_64-unknown-none";
/// The target of the programs that a vkernel runs.
pub const LINUX: &str = "x86_64-unknown-linux-gnu";

/// Flags of everything that is built for bare metal: fixed addresses, and frame pointers for backtraces.
const BARE_METAL_FLAGS: &str = "-C relocation-model=static -C force-frame-pointers=yes";
/// The oldest compiler that knows what the sources use.
const OLDEST: (u32, u32) = (1, 88);

/// A toolchain that can build for bare metal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelToolchain {
    /// The default cargo, or that of the system.
    origin: Origin,
    /// Whether the target's libraries have to be built from source.
    build_std: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Default,
    System { bin: PathBuf },
}

impl KernelToolchain {
    /// The first installed toolchain that will do.
    pub fn find() -> Option<Self> {
        if sysroot("rustc".as_ref()).is_some_and(|sysroot| has_target(&sysroot)) {
            return Some(Self {
                origin: Origin::Default,
                build_std: false,
            });
        }
        let bin = PathBuf::from("/usr/bin");
        let sysroot = sysroot(&bin.join("rustc"))?;
        if !bin.join("cargo").is_file() {
            return None;
        }
        let origin = Origin::System { bin };
        if has_target(&sysroot) {
            return Some(Self {
                origin,
                build_std: false,
            });
        }
        let source = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs");
        (source.is_file() && process::find_program("ld.lld").is_some()).then_some(Self {
            origin,
            build_std: true,
        })
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let which = match &self.origin {
            Origin::Default => "the default toolchain".to_owned(),
            Origin::System { bin } => format!("the system's toolchain in {}", bin.display()),
        };
        let library = if self.build_std {
            "builds the library from source"
        } else {
            "has the target's library"
        };
        format!("{which} ({library})")
    }

    /// What the compiler says of its version.
    pub fn compiler(&self) -> Option<String> {
        let rustc = match &self.origin {
            Origin::Default => PathBuf::from("rustc"),
            Origin::System { bin } => bin.join("rustc"),
        };
        ask(&rustc, &["--version"]).map(|text| text.trim().to_owned())
    }

    /// A `cargo SUBCOMMAND` for the bare-metal target.
    pub fn cargo(&self, subcommand: &str) -> Command {
        let mut command = match (&self.origin, subcommand) {
            (Origin::Default, _) => {
                let mut command = default_cargo();
                command.arg(subcommand);
                command
            }
            (Origin::System { bin }, subcommand) => {
                // `cargo clippy` looks in CARGO_HOME first and may find rustup's; so its program is named.
                let (program, words) = match subcommand {
                    "clippy" => (bin.join("cargo-clippy"), ["clippy"]),
                    _ => (bin.join("cargo"), [subcommand]),
                };
                let mut command = process::command(program);
                clear_outer_cargo(&mut command);
                for name in ["RUSTUP_TOOLCHAIN", "RUSTUP_HOME"] {
                    command.env_remove(name);
                }
                let mut path = OsString::from(bin);
                path.push(":");
                path.push(std::env::var_os("PATH").unwrap_or_default());
                command.env("CARGO", bin.join("cargo"));
                command
                    .env("RUSTC", bin.join("rustc"))
                    .env("RUSTDOC", bin.join("rustdoc"));
                command.env("PATH", path).args(words);
                command
            }
        };
        command
            .arg("--target")
            .arg(BARE_METAL)
            .arg("--target-dir")
            .arg(workspace::kernel_target());
        command.env("RUSTFLAGS", BARE_METAL_FLAGS);
        if self.build_std {
            command.arg("-Zbuild-std=core,alloc,compiler_builtins");
            command.arg("-Zbuild-std-features=compiler-builtins-mem");
            command.env("RUSTC_BOOTSTRAP", "1");
            command.env("CARGO_TARGET_X86_64_UNKNOWN_NONE_LINKER", "ld.lld");
        }
        command
    }

    /// What to install when `cargo clippy` of this toolchain is missing.
    pub fn clippy_package(&self) -> &'static str {
        match self.origin {
            Origin::Default => "`rustup component add clippy`",
            Origin::System { .. } => "Debian's package rust-web-clippy",
        }
    }
}

/// The cargo that runs xtask, with the default toolchain.
pub fn default_cargo() -> Command {
    let mut command = process::command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    clear_outer_cargo(&mut command);
    command
}

/// Fails with advice when the default compiler is too old for the sources (cargo says so too, but less clearly).
pub fn check_default_version() -> Result<()> {
    let Some(version) = version("rustc".as_ref()) else {
        bail!(
            "there is no rustc on the PATH\n  what to do: install Rust, for example from https://rustup.rs"
        );
    };
    if version < OLDEST {
        bail!(
            "rustc {}.{} is older than {}.{}\n  what to do: `rustup update stable`",
            version.0,
            version.1,
            OLDEST.0,
            OLDEST.1
        );
    }
    Ok(())
}

/// Removes what an outer cargo exported for xtask alone.
fn clear_outer_cargo(command: &mut Command) {
    command.current_dir(workspace::root());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let of_package = [
            "CARGO_PKG_",
            "CARGO_BIN_",
            "CARGO_MANIFEST_",
            "CARGO_PRIMARY_",
            "CARGO_PROFILE_",
        ];
        let alone = [
            "CARGO",
            "RUSTC",
            "RUSTDOC",
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
        ];
        let linked = ["LD_LIBRARY_PATH", "RUST_RECURSION_COUNT"];
        if of_package.iter().any(|prefix| name.starts_with(prefix))
            || alone.contains(&name.as_str())
            || linked.contains(&name.as_str())
        {
            command.env_remove(name);
        }
    }
}

fn has_target(sysroot: &Path) -> bool {
    let library = sysroot.join("lib/rustlib").join(BARE_METAL).join("lib");
    std::fs::read_dir(library).is_ok_and(|mut files| files.next().is_some())
}

fn sysroot(rustc: &Path) -> Option<PathBuf> {
    if version(rustc)? < OLDEST {
        return None;
    }
    ask(rustc, &["--print", "sysroot"]).map(|text| PathBuf::from(text.trim()))
}

fn version(rustc: &Path) -> Option<(u32, u32)> {
    parse_version(&ask(rustc, &["--version"])?)
}

fn ask(rustc: &Path, words: &[&str]) -> Option<String> {
    let mut command = process::command(rustc);
    clear_outer_cargo(&mut command);
    let captured = process::observe(command.args(words), None, |_| {}).ok()?;
    captured.status.success().then_some(captured.output)
}

/// `rustc 1.95.0 (...)` -> (1, 95).
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("rustc ")?.split(['.', ' ', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_channels_are_read() {
        assert_eq!(
            parse_version("rustc 1.95.0 (59807616e 2026-04-14)"),
            Some((1, 95))
        );
        assert_eq!(
            parse_version("rustc 1.97.0-nightly (abc 2026-05-01)"),
            Some((1, 97))
        );
        assert_eq!(parse_version("error: no such thing"), None);
    }

    #[test]
    fn the_systems_cargo_gets_its_own_compiler_and_builds_the_library() {
        let toolchain = KernelToolchain {
            origin: Origin::System {
                bin: "/usr/bin".into(),
            },
            build_std: true,
        };
        let text = process::shown(&toolchain.cargo("build"));
        for part in [
            "RUSTC=/usr/bin/rustc",
            "RUSTC_BOOTSTRAP=1",
            "/usr/bin/cargo build",
            "-Zbuild-std=core,alloc",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        let clippy = process::shown(&toolchain.cargo("clippy"));
        assert!(
            clippy.contains("/usr/bin/cargo-clippy clippy --target"),
            "{clippy}"
        );
    }

    #[test]
    fn a_prebuilt_target_needs_no_unstable_option() {
        let toolchain = KernelToolchain {
            origin: Origin::Default,
            build_std: false,
        };
        let text = process::shown(&toolchain.cargo("build"));
        assert!(!text.contains("-Z") && !text.contains("BOOTSTRAP"), "{text}");
    }
}
