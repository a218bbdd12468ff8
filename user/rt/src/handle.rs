//! Handles that close themselves.

use crate::syscall;
use core::mem;
use dragonet_abi::handle::HandleInfo;
use dragonet_abi::{Errno, Handle, Rights};

/// A handle that this value owns: it is closed when the value is dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct OwnedHandle(Handle);

impl OwnedHandle {
    /// Takes ownership of a handle.
    #[must_use]
    pub const fn from_raw(handle: Handle) -> Self {
        OwnedHandle(handle)
    }

    /// Takes ownership of a handle that a system call returned.
    pub(crate) const fn from_result(result: u64) -> Self {
        OwnedHandle(Handle(result as u32))
    }

    /// The handle, still owned.
    #[must_use]
    pub const fn get(&self) -> Handle {
        self.0
    }

    /// Gives up ownership: the handle stays open.
    #[must_use]
    pub const fn into_raw(self) -> Handle {
        let handle = self.0;
        mem::forget(self);
        handle
    }

    /// Another handle for the same object with these rights.
    ///
    /// # Errors
    /// `EPERM` (DUPLICATE, or rights that this handle lacks), `EMFILE`.
    pub fn duplicate(&self, rights: Rights) -> Result<OwnedHandle, Errno> {
        syscall::handle_duplicate(self.0, rights)
    }

    /// What the handle names.
    ///
    /// # Errors
    /// `EBADF` if someone closed it.
    pub fn info(&self) -> Result<HandleInfo, Errno> {
        syscall::handle_info(self.0)
    }
}

impl Drop for OwnedHandle {
    fn drop(&mut self) {
        // An error means that it is not open, which is what was wanted.
        let _ = syscall::handle_close(self.0);
    }
}
