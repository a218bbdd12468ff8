//! What a process's path names are relative to. Shared with `CLONE_FS`.

use crate::sync::Lock;
use crate::vfs::path::Location;
use core::sync::atomic::{AtomicU32, Ordering};

/// Working directory and file mode mask.
pub struct FileContext {
    directory: Lock<Location>,
    mask: AtomicU32,
}

impl FileContext {
    /// At `directory`, with the usual mask.
    pub fn new(directory: Location) -> Self {
        FileContext {
            directory: Lock::new(directory),
            mask: AtomicU32::new(0o022),
        }
    }

    /// A copy for a new process.
    pub fn duplicate(&self) -> Self {
        FileContext {
            directory: Lock::new(self.directory()),
            mask: AtomicU32::new(self.mask()),
        }
    }

    /// The working directory.
    pub fn directory(&self) -> Location {
        self.directory.lock().clone()
    }

    /// Changes the working directory.
    pub fn set_directory(&self, directory: Location) {
        *self.directory.lock() = directory;
    }

    /// Permissions that new files do not get.
    pub fn mask(&self) -> u32 {
        self.mask.load(Ordering::Relaxed)
    }

    /// Changes the mask and returns the old one.
    pub fn set_mask(&self, mask: u32) -> u32 {
        self.mask.swap(mask & 0o777, Ordering::Relaxed)
    }
}
