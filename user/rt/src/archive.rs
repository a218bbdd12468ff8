//! The root archive: a read-only file system in a ustar archive that came with the machine.

use crate::memory::Mapping;
use crate::startup::role;
use crate::sync::Mutex;
use crate::syscall;
use alloc::string::String;
use core::mem;
use core::slice;
use dragonet_abi::memory::Protection;
use dragonet_abi::startup::ROLE_ROOT_ARCHIVE;
use dragonet_abi::{Errno, Handle};
use tar_no_std::TarArchiveRef;

/// The archive that this program was given, once it has been mapped.
static ROOT: Mutex<Option<Archive>> = Mutex::new(None);

/// A mapped archive.
#[derive(Clone, Copy, Debug)]
pub struct Archive {
    bytes: &'static [u8],
}

/// A file of an archive.
#[derive(Clone, Debug)]
pub struct File {
    /// Path without a leading `/` or `./`.
    pub path: String,
    /// Contents.
    pub bytes: &'static [u8],
}

/// The archive that this program was given.
///
/// # Errors
/// `ENODEV` if it was given none, and those of [`Archive::map`].
pub fn root() -> Result<Archive, Errno> {
    let mut root = ROOT.lock();
    if let Some(archive) = *root {
        return Ok(archive);
    }
    let archive = Archive::map(role(ROLE_ROOT_ARCHIVE).ok_or(Errno::ENODEV)?)?;
    *root = Some(archive);
    Ok(archive)
}

impl Archive {
    /// Maps the archive in a memory object, for the rest of the program's life.
    ///
    /// # Errors
    /// `EIO` if it is not an archive; `EBADF`, `EACCES`, `ENOMEM`.
    pub fn map(object: Handle) -> Result<Self, Errno> {
        let size = syscall::handle_info(object)?.size;
        let mapping = Mapping::of_object(object, 0, size, Protection::READ)?;
        let (address, length) = (mapping.address() as usize, size as usize / 512 * 512);
        mem::forget(mapping);
        // SAFETY: the mapping is never undone, and boot modules are never written: no handle has that right.
        let bytes = unsafe { slice::from_raw_parts(core::ptr::with_exposed_provenance(address), length) };
        if TarArchiveRef::new(bytes).is_err() || bytes.get(257..262) != Some(b"ustar") {
            return Err(Errno::EIO);
        }
        Ok(Archive { bytes })
    }

    /// Every file, in the order of the archive.
    pub fn files(&self) -> impl Iterator<Item = File> + use<> {
        // `map` has checked what the constructor checks.
        TarArchiveRef::new(self.bytes)
            .into_iter()
            .flat_map(|archive| archive.entries())
            .map(|entry| File {
                path: String::from(normal(entry.filename().as_str().unwrap_or(""))),
                bytes: entry.data(),
            })
    }

    /// The file with this path.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<File> {
        self.files().find(|file| file.path == normal(path))
    }
}

/// A path without what does not tell files apart.
fn normal(path: &str) -> &str {
    let mut path = path;
    while let Some(rest) = path.strip_prefix("./").or_else(|| path.strip_prefix('/')) {
        path = rest;
    }
    path
}
