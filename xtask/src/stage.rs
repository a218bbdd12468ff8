//! What goes into the machine: programs without their symbols, and the archives that hold them.
//!
//! `root.tar` is the native root (`bin/`, `bin/vkernel`, `images/linux.tar` and whatever lies in `user/root`);
//! `images/linux.tar` is the root of a vkernel (`bin/` and whatever lies in `user/linux/root`). Both are plain ustar
//! and the same bytes for the same input.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::build::{CONFORMANCE_PACKAGE, Programs};
use crate::elf;
use crate::workspace;

/// The staged files.
#[derive(Clone, Debug)]
pub struct Staged {
    /// Our own boot stage, which a Multiboot loader starts.
    pub boot: PathBuf,
    /// The kernel.
    pub kernel: PathBuf,
    /// The kernel that checks the boot protocol, if it was built.
    pub conformance: Option<PathBuf>,
    /// The first process.
    pub init: PathBuf,
    /// The native root.
    pub root: PathBuf,
}

/// Strips and archives everything into `folder`.
pub fn everything(folder: &Path, bare_metal: &Programs, linux: &BTreeMap<String, PathBuf>) -> Result<Staged> {
    std::fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    let staged = Staged {
        boot: folder.join("dragonet-boot"),
        kernel: folder.join("kernel"),
        conformance: bare_metal
            .of(CONFORMANCE_PACKAGE)
            .is_ok()
            .then(|| folder.join("conformance")),
        init: folder.join("init"),
        root: folder.join("root.tar"),
    };
    replace(
        &staged.boot,
        &stripped(bare_metal.get("dragonet-boot", "dragonet-boot")?)?,
    )?;
    replace(
        &staged.kernel,
        &stripped(bare_metal.get("dragonet-kernel", "dragonet-kernel")?)?,
    )?;
    replace(
        &staged.init,
        &stripped(bare_metal.get("dragonet-programs", "init")?)?,
    )?;

    if let Some(file) = &staged.conformance {
        replace(
            file,
            &stripped(bare_metal.get(CONFORMANCE_PACKAGE, CONFORMANCE_PACKAGE)?)?,
        )?;
    }

    let mut linux_root = Tree::of_folder(&workspace::root().join("user/linux/root"))?;
    for (name, path) in linux {
        linux_root.add(&format!("bin/{name}"), read(path)?, 0o755);
    }
    let mut root = Tree::of_folder(&workspace::root().join("user/root"))?;
    for (name, path) in bare_metal.of("dragonet-programs")? {
        root.add(&format!("bin/{name}"), stripped(path)?, 0o755);
    }
    root.add(
        "bin/vkernel",
        stripped(bare_metal.get("dragonet-vkernel", "dragonet-vkernel")?)?,
        0o755,
    );
    root.add("images/linux.tar", linux_root.archive()?, 0o644);
    replace(&staged.root, &root.archive()?)?;
    Ok(staged)
}

fn stripped(path: &Path) -> Result<Vec<u8>> {
    elf::strip(&read(path)?).with_context(|| format!("could not strip {}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("could not read {}", path.display()))
}

/// Writes a file in one step, so that a machine that is just starting never sees half of it; leaves an equal file alone.
fn replace(path: &Path, content: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    let written = std::fs::write(&fresh, content).and_then(|()| std::fs::rename(&fresh, path));
    written.with_context(|| format!("could not write {}; is the disk full?", path.display()))
}

/// Files of an archive by path: content and mode.
#[derive(Default)]
struct Tree(BTreeMap<String, (Vec<u8>, u32)>);

impl Tree {
    /// All files below `folder`; none if there is no such folder.
    fn of_folder(folder: &Path) -> Result<Self> {
        let mut tree = Self::default();
        if folder.is_dir() {
            tree.add_folder(folder, "")
                .with_context(|| format!("could not read {}", folder.display()))?;
        }
        Ok(tree)
    }

    fn add_folder(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let metadata = std::fs::metadata(entry.path())?;
            if metadata.is_dir() {
                self.add_folder(&entry.path(), &format!("{name}/"))?;
            } else {
                let mode = if metadata.permissions().mode() & 0o100 == 0 {
                    0o644
                } else {
                    0o755
                };
                self.add(&name, std::fs::read(entry.path())?, mode);
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &str, content: Vec<u8>, mode: u32) {
        self.0.insert(path.to_owned(), (content, mode));
    }

    /// The ustar archive: folders first, everything owned by root, no times.
    fn archive(&self) -> Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        let mut append = |path: &str, kind, mode, content: &[u8]| -> Result<()> {
            let mut header = tar::Header::new_ustar();
            header
                .set_path(path)
                .with_context(|| format!("the path {path} does not fit into a ustar header"))?;
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(content.len() as u64);
            header.set_cksum();
            Ok(archive.append(&header, content)?)
        };
        let folders: std::collections::BTreeSet<&str> = self
            .0
            .keys()
            .flat_map(|path| {
                path.match_indices('/')
                    .map(|(end, _)| path.get(..=end).unwrap_or_default())
            })
            .collect();
        for folder in folders {
            append(folder, tar::EntryType::Directory, 0o755, &[])?;
        }
        for (path, (content, mode)) in &self.0 {
            append(path, tar::EntryType::Regular, *mode, content)?;
        }
        Ok(archive.into_inner()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_lists_folders_before_files_and_is_reproducible() {
        let mut tree = Tree::default();
        tree.add("bin/sh", b"shell".to_vec(), 0o755);
        tree.add("images/linux.tar", vec![1; 700], 0o644);
        tree.add("etc/deep/er", Vec::new(), 0o644);
        let bytes = tree.archive().unwrap();
        assert_eq!(bytes, tree.archive().unwrap());
        assert_eq!(&bytes[257..262], b"ustar");
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(
            names,
            [
                "bin/",
                "etc/",
                "etc/deep/",
                "images/",
                "bin/sh",
                "etc/deep/er",
                "images/linux.tar"
            ]
        );
    }

    #[test]
    fn a_missing_overlay_is_an_empty_tree() {
        assert!(
            Tree::of_folder(Path::new("/no/such/folder"))
                .unwrap()
                .0
                .is_empty()
        );
    }
}
